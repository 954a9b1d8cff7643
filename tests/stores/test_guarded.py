from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from penchant.core.breaker import Breaker
from penchant.core.errors import StateUnavailable
from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.core.state import Key
from penchant.stores.guarded import GuardedState
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores

USER = Partition("users", 0)


class Failing(SeparateStores):
    away = False
    asked = 0

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        self.asked += 1
        if self.away:
            raise StateUnavailable("away")
        return super().read(wanted)


@pytest.fixture
def state() -> Failing:
    return Failing(lambda _: MemoryStore(fingerprint="f"), Layout(users=1, items=1))


def test_a_state_that_is_away_is_not_asked(state: Failing) -> None:
    now = [0.0]
    guarded = GuardedState(state, Breaker("s", rng=random.Random(1), failures=3, open_s=1, timer=lambda: now[0]))
    guarded.commit([Commit(USER, 0, 1, {b"ua": b"1"})])
    assert guarded.partition(USER).position() == 1
    state.away = True
    for _ in range(50):
        with pytest.raises(StateUnavailable):
            guarded.read([(USER, [b"ua"])])
    assert state.asked == 3
    state.away, now[0] = False, 1.0
    assert list(guarded.read([(USER, [b"ua"])])) == [View(1, [b"1"])]
    assert not guarded.breaker.open
    guarded.close()


def test_answers_that_come_too_late_count_against_it(state: Failing) -> None:
    guarded = GuardedState(state, Breaker("s", rng=random.Random(1), failures=2), budget_ms=0)
    for _ in range(2):
        assert list(guarded.read([(USER, [b"ua"])])) == [View(0, [None])]
    with pytest.raises(StateUnavailable):
        guarded.read([(USER, [b"ua"])])
    guarded.close()
