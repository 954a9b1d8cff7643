"""A durable copy follows its state through crashes, other workers and states that were put back."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

import pytest

from penchant.core.errors import FenceConflict, StateUnavailable
from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.core.state import Key
from penchant.stores.copier import Copier
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores

LAYOUT = Layout(users=2, items=1)
USER, OTHER, ITEM = LAYOUT.all()
KEYS: list[Key] = [kind + b"%d" % number for kind in (b"u", b"p", b"i", b"#") for number in range(6)]


class Crash(Exception):
    pass


class Busy(SeparateStores):
    """Does something before each read."""

    def __init__(self) -> None:
        super().__init__(lambda _: MemoryStore(fingerprint="f"), LAYOUT)
        self.between: Callable[[], None] = lambda: None

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        self.between()
        return super().read(wanted)


def entries(state: SeparateStores, partition: Partition = USER) -> tuple[int, dict[Key, bytes]]:
    snapshot = state.partition(partition).snapshot()
    try:
        return snapshot.position, dict(snapshot.scan(b""))
    finally:
        snapshot.close()


def put(state: SeparateStores, copier: Copier | None, writes: dict[Key, bytes | None], by: int = 1) -> None:
    position = state.partition(USER).position()
    commit = Commit(USER, position, position + by, writes)
    assert list(state.commit([commit])) == [None]
    if copier is not None:
        copier.note([commit])


@pytest.fixture
def state() -> Busy:
    return Busy()


@pytest.fixture
def copy() -> SeparateStores:
    return SeparateStores(lambda _: MemoryStore(fingerprint="f"), LAYOUT)


def test_a_flush_copies_what_was_touched(state: Busy, copy: SeparateStores) -> None:
    copier = Copier(state, copy)
    assert copier.flush(USER)
    put(state, copier, {b"u1": b"1", b"u2": b"1"})
    put(state, copier, {b"u1": b"2", b"u2": None})
    assert copier.flush(USER)
    assert entries(copy) == (2, {b"u1": b"2"})
    put(state, copier, {b"u3": b"3"})
    assert copier.flush(USER)
    assert copier.flush(USER)
    assert entries(copy) == entries(state)


def test_what_was_not_noted_is_found(state: Busy, copy: SeparateStores) -> None:
    first = Copier(state, copy)
    put(state, first, {b"u1": b"1", b"u2": b"1", b"i1": b"1"})
    assert first.flush(USER)
    put(state, None, {b"u1": None, b"u3": b"2", b"i1": None})  # erased while nobody looked
    second = Copier(state, copy)
    put(state, second, {b"u4": b"3"})
    assert second.flush(USER)
    assert entries(copy) == entries(state)
    assert list(copy.partition(USER).snapshot().changed(1, b"i")) == [b"i1"]


def test_a_state_that_was_put_back_leaves_the_copy_alone(state: Busy, copy: SeparateStores) -> None:
    copier = Copier(state, copy)
    put(state, copier, {b"u1": b"1"}, by=5)
    assert copier.flush(USER)
    kept = entries(copy)
    state.partition(USER).clear()
    assert not copier.flush(USER)
    put(state, copier, {b"u1": b"1"}, by=3)
    assert not copier.flush(USER)
    assert entries(copy) == kept
    put(state, copier, {b"u2": b"2"}, by=3)
    assert copier.flush(USER)
    assert entries(copy) == (6, {b"u1": b"1", b"u2": b"2"})


def test_a_copy_restores_a_state_that_is_behind(state: Busy, copy: SeparateStores) -> None:
    copier = Copier(state, copy)
    put(state, copier, {b"u1": b"1", b"u2": b"2"}, by=5)
    assert copier.restore(USER) is None
    assert copier.flush(USER)
    assert copier.restore(USER) is None
    state.partition(USER).clear()
    put(state, None, {b"u9": b"9"}, by=2)
    assert copier.restore(USER, at_most=4) is None
    assert copier.restore(USER, at_most=5) == 5
    assert entries(state) == entries(copy) == (5, {b"u1": b"1", b"u2": b"2"})


def test_a_restore_gives_way_to_whoever_moved_the_state(state: Busy, copy: SeparateStores) -> None:
    def step(name: str) -> None:
        if name == "restore.read":
            put(state, None, {b"u7": b"7"})

    copier = Copier(state, copy, failpoint=step)
    copy.commit([Commit(USER, 0, 5, {b"u1": b"1"})])
    with pytest.raises(FenceConflict):
        copier.restore(USER)
    assert entries(state) == (1, {b"u7": b"7"})


def test_commits_between_the_reads_of_a_flush(state: Busy, copy: SeparateStores) -> None:
    copier, rng = Copier(state, copy), random.Random(4)
    for round_ in range(200):
        left = rng.randint(0, 5)

        def between() -> None:
            nonlocal left
            if left > 0:
                left -= 1
                put(state, copier, {rng.choice(KEYS): rng.choice([None, rng.randbytes(3)]) for _ in range(3)})

        put(state, copier, {rng.choice(KEYS): b"%d" % round_})
        state.between = between
        assert copier.flush(USER)
        state.between = lambda: None
        assert copier.flush(USER)
        assert entries(copy) == entries(state)


@pytest.mark.parametrize("seed", range(40))
def test_any_history_with_crashes(state: Busy, copy: SeparateStores, seed: int) -> None:
    """At each of its fences the copy is the state as it was at that fence; in the end it is the state."""
    rng = random.Random(seed)
    history: dict[int, dict[Key, bytes]] = {0: {}}
    log: list[tuple[int, dict[Key, bytes | None]]] = []
    armed = 0.0

    def step(name: str) -> None:
        if rng.random() < armed:
            raise Crash(name)

    def fold(note_with: Copier | None) -> None:
        position = state.partition(USER).position()
        ahead = [entry for entry in log if entry[0] > position]
        if not ahead:
            end = log[-1][0] if log else 0
            writes = {key: rng.choice([None, rng.randbytes(2)]) for key in rng.sample(KEYS, rng.randint(0, 4))}
            log.append((end + rng.randint(1, 3), writes))
            after = dict(history[end])
            for key, value in writes.items():
                after.pop(key, None)
                if value is not None:
                    after[key] = value
            history[log[-1][0]] = after
            ahead = log[-1:]
        batch = ahead[: rng.randint(1, 3)]
        merged = {key: value for _, writes in batch for key, value in writes.items()}
        commit = Commit(USER, position, batch[-1][0], merged)
        if rng.random() < 0.02:
            return  # a zombie that was refused
        assert list(state.commit([commit])) == [None]
        if note_with is not None and rng.random() < 0.97:  # or died before it told
            note_with.note([commit])

    copier = Copier(state, copy, failpoint=step)
    for _ in range(120):
        chance = rng.random()
        if chance < 0.55:
            fold(copier)
        elif chance < 0.62:
            fold(None)  # another worker
        elif chance < 0.66:
            copier = Copier(state, copy, failpoint=step)
        elif chance < 0.70:
            state.load(USER, *_older(rng, history, state.partition(USER).position()))
        elif chance < 0.74 and armed == 0.0:
            armed = 0.5
        elif chance < 0.80:
            try:
                copier.restore(USER)
            except Crash:
                copier = Copier(state, copy, failpoint=step)
        else:
            busy = copier if rng.random() < 0.3 else None
            state.between = (lambda one=busy: fold(one)) if busy else (lambda: None)
            try:
                copier.flush(USER)
            except Crash:
                copier = Copier(state, copy, failpoint=step)
            state.between, armed = lambda: None, 0.0
        position, found = entries(copy)
        assert found == history[position]
    armed = 0.0
    while state.partition(USER).position() < log[-1][0]:
        fold(copier)
    assert copier.flush(USER) or copier.flush(USER)
    assert entries(copy) == entries(state) == (log[-1][0], history[log[-1][0]])


def _older(rng: random.Random, history: dict[int, dict[Key, bytes]], now: int) -> tuple[int, list[tuple[Key, bytes]]]:
    position = rng.choice([at for at in history if at <= now])
    return position, list(history[position].items())


def test_a_flush_beside_a_thread_that_folds(state: Busy, copy: SeparateStores) -> None:
    copier, done = Copier(state, copy), threading.Event()

    def fold() -> None:
        rng = random.Random(2)
        for number in range(400):
            put(state, copier, {rng.choice(KEYS): b"%d" % number})
            done.wait(0.0005)
        done.set()

    thread = threading.Thread(target=fold)
    thread.start()
    flushed = 0
    while not done.is_set():
        flushed += copier.flush(USER)
    thread.join()
    assert flushed
    assert copier.flush(USER)
    assert entries(copy) == entries(state)


def test_a_copy_that_is_away_loses_nothing(state: Busy) -> None:
    class Away(SeparateStores):
        away = True

        def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
            if self.away:
                raise StateUnavailable("away")
            return super().commit(commits)

    copy = Away(lambda _: MemoryStore(fingerprint="f"), LAYOUT)
    copier = Copier(state, copy)
    put(state, copier, {b"u1": b"1"})
    with pytest.raises(StateUnavailable):
        copier.flush(USER)
    put(state, copier, {b"u2": b"2"})
    copy.away = False
    assert copier.flush(USER)
    assert entries(copy) == entries(state)
    copier.forget(USER)
    assert copier.flush(USER)
