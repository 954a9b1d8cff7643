"""What every state store keeps: subclass `StateStoreContract` in a test module and give `open_store`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.core.errors import ContractError, FenceConflict, ViewGone
from penchant.core.log import START
from penchant.core.state import Key, Snapshot, StateStore

KEYS = [kind + name for kind in (b"u", b"p", b"c", b"i", b"n", b"v") for name in (b"", b"a", b"ab", b"b", "é".encode())]
PREFIXES = [b"u", b"p", b"c", b"i", b"n", b"v", b"ia", b"x", b"#"]

Model = Mapping[Key, tuple[int, bytes | None]]
"""What a slow store would hold: by key the position of the last write and the value."""


def check_view(snapshot: Snapshot, position: int, model: Model) -> None:
    """That a snapshot shows exactly the model, by every way of reading."""
    assert snapshot.position == position
    for keys in ([], KEYS[:1], KEYS[:3], KEYS * 4, [b"#rows", *reversed(KEYS)]):
        assert list(snapshot.get_many(keys)) == [model.get(key, (0, None))[1] for key in keys]
    for prefix in PREFIXES:
        entries = sorted((key, entry[1]) for key, entry in model.items() if key.startswith(prefix))
        assert list(snapshot.scan(prefix)) == [(key, value) for key, value in entries if value is not None]
        assert snapshot.count(prefix) == sum(value is not None for _, value in entries)
        for after in (START, position // 2, position - 1, position):
            changed = sorted(key for key, entry in model.items() if key.startswith(prefix) and entry[0] > after)
            assert list(snapshot.changed(after, prefix)) == changed


class StateStoreContract:
    """Snapshots, the fence, what changed and (where `durable`) life after a restart."""

    durable = True
    """Whether a store opened again, or a second time, on the same folder is the same store."""

    keeps_views = True
    """Whether snapshots outlive commits; where not, reading from an older one raises `ViewGone`."""

    def open_store(self, folder: Path, *, fingerprint: str = "f1") -> StateStore:
        """The store in `folder`."""
        raise NotImplementedError

    def check_held(self, snapshot: Snapshot, position: int, model: Model) -> None:
        """That a snapshot older than the last commit shows what it did, or says that it is gone."""
        if self.keeps_views:
            check_view(snapshot, position, model)
        else:
            with pytest.raises(ViewGone):
                check_view(snapshot, position, model)

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[StateStore]:
        store = self.open_store(tmp_path)
        yield store
        store.close()

    def test_a_new_store_is_empty_and_at_the_start(self, store: StateStore) -> None:
        assert store.position() == START
        snapshot = store.snapshot()
        check_view(snapshot, START, {})
        snapshot.close()
        snapshot.close()

    def test_a_commit_sets_drops_and_moves_the_fence(self, store: StateStore) -> None:
        store.commit(START, 3, {b"ua": b"1", b"ia": b"2", b"ub": b""})
        store.commit(3, 9, {b"ua": None, b"ib": b"3", b"unknown": None})
        assert store.position() == 9
        snapshot = store.snapshot()
        check_view(snapshot, 9, {b"ia": (3, b"2"), b"ub": (3, b""), b"ib": (9, b"3")})
        snapshot.close()

    def test_an_item_key_that_was_dropped_has_changed(self, store: StateStore) -> None:
        store.commit(START, 1, {b"ia": b"1", b"ua": b"1"})
        store.commit(1, 2, {b"ia": None, b"ua": None})
        snapshot = store.snapshot()
        assert list(snapshot.changed(1, b"i")) == [b"ia"]
        assert list(snapshot.changed(1, b"u")) == []
        assert list(snapshot.scan(b"i")) == []
        snapshot.close()

    def test_a_conflict_changes_nothing(self, store: StateStore) -> None:
        store.commit(START, 5, {b"ua": b"1"})
        for expected in (START, 4, 6):
            with pytest.raises(FenceConflict) as caught:
                store.commit(expected, 10, {b"ua": b"2", b"ub": b"2"})
            assert (caught.value.expected, caught.value.current) == (expected, 5)
        snapshot = store.snapshot()
        check_view(snapshot, 5, {b"ua": (5, b"1")})
        snapshot.close()

    def test_the_position_must_advance(self, store: StateStore) -> None:
        store.commit(START, 5, {})
        for position in (5, 4, START):
            with pytest.raises(ContractError):
                store.commit(5, position, {b"ua": b"1"})
        assert store.position() == 5

    def test_a_snapshot_never_changes(self, store: StateStore) -> None:
        rng = random.Random(7)
        model: dict[Key, tuple[int, bytes | None]] = {}
        held: list[tuple[Snapshot, int, Model]] = []
        position = START
        for _ in range(60):
            held.append((store.snapshot(), position, dict(model)))
            expected, position = position, position + rng.randint(1, 5)
            writes = {
                key: None if rng.random() < 0.3 else rng.randbytes(rng.choice((0, 5, 3_000)))
                for key in rng.sample(KEYS, rng.randint(0, 6))
            }
            store.commit(expected, position, writes)
            for key, value in writes.items():
                if value is not None or key[:1] in b"cinv":
                    model[key] = (position, value)
                else:
                    model.pop(key, None)
            if rng.random() < 0.7:
                snapshot, then, seen = held.pop(rng.randrange(len(held)))
                self.check_held(snapshot, then, seen)
                snapshot.close()
            if rng.random() < 0.3:
                snapshot = store.snapshot()
                check_view(snapshot, position, model)
                snapshot.close()
        for snapshot, then, seen in held:
            self.check_held(snapshot, then, seen)
            snapshot.close()

    def test_clearing_leaves_open_snapshots_alone(self, store: StateStore) -> None:
        store.commit(START, 5, {b"ua": b"1", b"ia": b"1"})
        snapshot = store.snapshot()
        store.clear()
        store.commit(START, 2, {b"ia": b"2", b"ib": b"2"})
        store.commit(2, 3, {b"ib": b"3"})
        self.check_held(snapshot, 5, {b"ua": (5, b"1"), b"ia": (5, b"1")})
        before = snapshot.generation
        snapshot.close()
        snapshot = store.snapshot()
        assert snapshot.generation != before
        check_view(snapshot, 3, {b"ia": (2, b"2"), b"ib": (3, b"3")})
        snapshot.close()

    def test_of_competing_commits_one_wins(self, store: StateStore) -> None:
        def compete(number: int) -> int:
            won = 0
            for position in range(20):
                try:
                    store.commit(position, position + 1, {b"ua": b"%d" % number})
                    won += 1
                except FenceConflict:
                    pass
            return won

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(compete, range(4))) == store.position()

    def test_threads_read_whole_commits(self, store: StateStore) -> None:
        store.commit(START, 1, {key: b"1" for key in KEYS})

        def read(_: int) -> bool:
            while True:
                snapshot = store.snapshot()
                try:
                    return set(snapshot.get_many(KEYS)) == {b"%d" % snapshot.position}
                except ViewGone:
                    assert not self.keeps_views
                finally:
                    snapshot.close()

        with ThreadPoolExecutor(4) as pool:
            readings = [pool.submit(read, index) for index in range(200)]
            for position in range(1, 40):
                store.commit(position, position + 1, {key: b"%d" % (position + 1) for key in KEYS})
            assert all(reading.result() for reading in readings)

    def test_a_reopened_store_is_the_same(self, tmp_path: Path) -> None:
        if not self.durable:
            pytest.skip("not durable")
        store = self.open_store(tmp_path)
        store.commit(START, 5, {b"ua": b"1", b"ia": b"1"})
        store.close()
        store = self.open_store(tmp_path)
        snapshot = store.snapshot()
        check_view(snapshot, 5, {b"ua": (5, b"1"), b"ia": (5, b"1")})
        snapshot.close()
        store.close()

    def test_state_of_another_fingerprint_is_dropped(self, tmp_path: Path) -> None:
        if not self.durable:
            pytest.skip("not durable")
        store = self.open_store(tmp_path, fingerprint="f1")
        store.commit(START, 5, {b"ua": b"1"})
        store.close()
        store = self.open_store(tmp_path, fingerprint="f2")
        snapshot = store.snapshot()
        check_view(snapshot, START, {})
        snapshot.close()
        store.close()

    def test_two_stores_on_one_folder_are_one(self, tmp_path: Path) -> None:
        if not self.durable:
            pytest.skip("not durable")
        left, right = self.open_store(tmp_path), self.open_store(tmp_path)
        left.commit(START, 5, {b"ua": b"1"})
        assert right.position() == 5
        snapshot = left.snapshot()
        right.commit(5, 6, {b"ua": b"2"})
        with pytest.raises(FenceConflict):
            left.commit(5, 7, {b"ua": b"3"})
        self.check_held(snapshot, 5, {b"ua": (5, b"1")})
        snapshot.close()
        snapshot = left.snapshot()
        check_view(snapshot, 6, {b"ua": (6, b"2")})
        snapshot.close()
        left.close()
        right.close()
