"""What every state in partitions keeps: subclass `PartitionedStateContract` and give `open_state`."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.core.errors import ContractError, FenceConflict
from penchant.core.log import START
from penchant.core.partitions import META_KEY, Commit, Layout, Partition, PartitionedState, View
from penchant.core.state import Key

LAYOUT = Layout(users=5, items=3)
USERS = [Partition("users", number) for number in range(LAYOUT.users)]
ITEMS = [Partition("items", number) for number in range(LAYOUT.items)]
KEYS: list[Key] = [META_KEY, b"ua", b"pa", b"ra", "ué{x}:*?[".encode(), b"u"]


class PartitionedStateContract:
    """Whole views, fences that know nothing of each other, conflicts named one by one, many threads."""

    durable = True
    """Whether a state opened a second time in the same folder is the same state."""

    def open_state(self, folder: Path, *, fingerprint: str = "f1") -> PartitionedState:
        """The state in `folder`, with the partitions of `LAYOUT`."""
        raise NotImplementedError

    @pytest.fixture
    def state(self, tmp_path: Path) -> Iterator[PartitionedState]:
        state = self.open_state(tmp_path)
        yield state
        state.close()

    def test_it_begins_empty_and_at_the_start(self, state: PartitionedState) -> None:
        views = state.read([(partition, KEYS) for partition in LAYOUT.all()])
        assert [(view.position, list(view.values)) for view in views] == [(START, [None] * len(KEYS))] * 8
        assert list(state.read([])) == []
        assert list(state.commit([])) == []

    def test_fences_know_nothing_of_each_other(self, state: PartitionedState) -> None:
        commits = [
            Commit(partition, START, number + 1, {b"ua": str(partition).encode(), META_KEY: b"m"})
            for number, partition in enumerate(LAYOUT.all())
        ]
        assert list(state.commit(commits)) == [None] * 8
        for number, partition in enumerate(LAYOUT.all()):
            assert one(state, partition, [b"ua", b"ub", META_KEY]) == (
                number + 1,
                [str(partition).encode(), None, b"m"],
            )

    def test_each_conflict_is_named_and_stops_nobody_else(self, state: PartitionedState) -> None:
        zero, one_, two = USERS[:3]
        state.commit([Commit(zero, START, 7, {b"ua": b"1"}), Commit(two, START, 2**53 + 1, {b"ua": b"1"})])
        found = state.commit(
            [
                Commit(zero, 6, 9, {b"ua": b"2", b"ub": b"2"}),
                Commit(one_, START, 1, {b"ua": b"2"}),
                Commit(two, START, 5, {b"ua": None}),
                Commit(ITEMS[0], 3, 4, {b"ia": b"2"}),
            ]
        )
        assert list(found) == [7, None, 2**53 + 1, START]
        assert one(state, zero, [b"ua", b"ub"]) == (7, [b"1", None])
        assert one(state, one_, [b"ua"]) == (1, [b"2"])
        assert one(state, two, [b"ua"]) == (2**53 + 1, [b"1"])
        assert one(state, ITEMS[0], [b"ia"]) == (START, [None])

    def test_positions_are_whole_numbers_of_64_bits(self, state: PartitionedState) -> None:
        position = START
        for after in (2**31, 2**53 - 1, 2**53, 2**53 + 1, 9_007_199_254_740_995, 2**62):
            assert list(state.commit([Commit(USERS[0], position, after, {b"ua": b"%d" % after})])) == [None]
            position = after
            assert one(state, USERS[0], [b"ua"]) == (after, [b"%d" % after])

    def test_a_commit_must_advance(self, state: PartitionedState) -> None:
        for position in (START, START - 1):
            with pytest.raises(ContractError):
                state.commit([Commit(USERS[0], START, position, {})])

    def test_values_are_any_bytes(self, state: PartitionedState) -> None:
        rng = random.Random(5)
        values = [b"", b"\0", b"\xff\r\n", rng.randbytes(100_000)]
        writes = {b"u%d" % number: value for number, value in enumerate(values)}
        assert list(state.commit([Commit(USERS[0], START, 1, writes)])) == [None]
        assert one(state, USERS[0], list(writes)) == (1, values)

    def test_ids_are_any_text(self, state: PartitionedState) -> None:
        ids = ["", "a", "{a}", "}{", "*", "a?[b]\\^", "é", "a\nb", "u017:", "!fence", "\0"]
        for side, kind in ((USERS[0], b"u"), (ITEMS[0], b"i")):
            writes: dict[Key, bytes | None] = {kind + text.encode(): text.encode() for text in ids}
            assert list(state.commit([Commit(side, START, 1, writes)])) == [None]
            assert one(state, side, list(writes)) == (1, list(writes.values()))
            snapshot = state.partition(side).snapshot()
            assert list(snapshot.scan(kind)) == sorted(writes.items())
            assert [key for key, _ in snapshot.scan(kind + b"*")] == [kind + b"*"]
            assert snapshot.count(kind) == len(ids)
            snapshot.close()

    def test_large_commits_and_reads(self, state: PartitionedState) -> None:
        writes: dict[Key, bytes | None] = {b"u%d" % number: b"%d" % number for number in range(10_000)}
        assert list(state.commit([Commit(USERS[0], START, 1, writes)])) == [None]
        assert one(state, USERS[0], list(writes)) == (1, list(writes.values()))
        assert list(state.commit([Commit(USERS[0], 1, 2, dict.fromkeys(writes))])) == [None]
        assert one(state, USERS[0], list(writes)) == (2, [None] * len(writes))

    def test_one_partition_asked_twice_is_read_twice(self, state: PartitionedState) -> None:
        state.commit([Commit(USERS[0], START, 1, {b"ua": b"1", b"ub": b"2"})])
        views = state.read([(USERS[0], [b"ua"]), (USERS[1], []), (USERS[0], [b"ub", b"ua", b"ub"])])
        assert [(view.position, list(view.values)) for view in views] == [
            (1, [b"1"]),
            (START, []),
            (1, [b"2", b"1", b"2"]),
        ]

    def test_commits_of_one_call_go_in_order(self, state: PartitionedState) -> None:
        chain = [Commit(USERS[0], START, 3, {b"ua": b"1"}), Commit(USERS[0], 3, 4, {b"ua": b"2"})]
        assert list(state.commit(chain)) == [None, None]
        assert one(state, USERS[0], [b"ua"]) == (4, [b"2"])

    def test_a_partition_is_a_store(self, state: PartitionedState) -> None:
        store = state.partition(ITEMS[1])
        store.commit(START, 5, {b"ia": b"1"})
        assert one(state, ITEMS[1], [b"ia"]) == (5, [b"1"])
        with pytest.raises(FenceConflict):
            store.commit(START, 6, {})
        assert list(state.commit([Commit(ITEMS[0], START, 9, {b"ib": b"1"})])) == [None]
        store.clear()
        assert one(state, ITEMS[1], [b"ia"]) == (START, [None])
        assert one(state, ITEMS[0], [b"ib"]) == (9, [b"1"])

    def test_zombies_change_nothing(self, state: PartitionedState) -> None:
        """Two who believe that the partition is theirs fold the same messages: each is counted once."""

        def fold(name: int) -> int:
            rng, position, refused = random.Random(name), START, 0
            count = 0
            while position < 60:
                if count == 0:
                    position, values = one(state, USERS[0], [b"ua"])
                    count = int(values[0] or b"0") + 1
                    if position >= 60:
                        break
                step = rng.randint(1, 3)
                writes: dict[Key, bytes | None] = {b"ua": b"%d" % (count - 1 + step)}
                (found,) = state.commit([Commit(USERS[0], position, position + step, writes)])
                if found is None:
                    position, count = position + step, count + step
                else:
                    refused, count = refused + 1, 0  # what was kept is worth nothing: read again
            return refused

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(fold, range(3)))
        position, values = one(state, USERS[0], [b"ua"])
        assert values == [b"%d" % position]

    def test_readers_see_whole_commits(self, state: PartitionedState) -> None:
        done = threading.Event()
        keys = [b"u%d" % number for number in range(20)]

        def look(number: int) -> int:
            seen, rng = 0, random.Random(number)
            while not done.is_set():
                asked = rng.sample(USERS, 3)
                for view in state.read([(partition, keys) for partition in asked]):
                    wanted = None if view.position == START else b"%d" % view.position
                    assert set(view.values) == {wanted}
                    seen += 1
            return seen

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(look, number) for number in range(4)]
            try:
                for position in range(START, 60):
                    value = b"%d" % (position + 1)
                    writes: dict[Key, bytes | None] = dict.fromkeys(keys, value)
                    found = state.commit([Commit(partition, position, position + 1, writes) for partition in USERS])
                    assert list(found) == [None] * len(USERS)
            finally:
                done.set()
            assert all(reader.result() for reader in readers)

    def test_two_on_one_folder_are_one(self, tmp_path: Path) -> None:
        if not self.durable:
            pytest.skip("not durable")
        left, right = self.open_state(tmp_path), self.open_state(tmp_path)
        other = self.open_state(tmp_path, fingerprint="f2")
        left.commit([Commit(USERS[0], START, 5, {b"ua": b"1"})])
        assert one(right, USERS[0], [b"ua"]) == (5, [b"1"])
        assert one(other, USERS[0], [b"ua"]) == (START, [None])
        assert list(right.commit([Commit(USERS[0], START, 6, {})])) == [5]
        for state in (left, right, other):
            state.close()


def one(state: PartitionedState, partition: Partition, keys: list[Key]) -> tuple[int, list[bytes | None]]:
    """What one partition holds."""
    view: View
    (view,) = state.read([(partition, keys)])
    return view.position, list(view.values)
