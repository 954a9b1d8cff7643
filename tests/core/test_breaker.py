from __future__ import annotations

import random

from penchant.core.breaker import Breaker
from penchant.telemetry import REGISTRY


class World:
    def __init__(self, failures: int = 3, open_s: float = 1.0, cap_s: float = 4.0) -> None:
        self.now = 0.0
        self.breaker = Breaker(
            "thing", rng=random.Random(3), failures=failures, open_s=open_s, cap_s=cap_s, timer=lambda: self.now
        )


def told(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"dependency": "thing"}) or 0.0


def test_it_opens_after_failures_in_a_row() -> None:
    world, trips = World(), told("penchant_breaker_trips_total")
    for _ in range(5):
        world.breaker.failed()
        world.breaker.failed()
        world.breaker.succeeded()
        assert world.breaker.allows()
    for _ in range(3):
        assert not world.breaker.open
        world.breaker.failed()
    assert world.breaker.open
    assert not world.breaker.allows()
    assert told("penchant_breaker_open") == 1
    assert told("penchant_breaker_trips_total") == trips + 1


def test_one_caller_tries_and_closes_it() -> None:
    world = World(failures=1)
    world.breaker.failed()
    world.now = 1.0
    assert [world.breaker.allows() for _ in range(3)] == [True, False, False]
    world.breaker.succeeded()
    assert [world.breaker.allows() for _ in range(3)] == [True] * 3
    assert told("penchant_breaker_open") == 0


def test_delays_double_up_to_the_cap_with_jitter() -> None:
    world, delays = World(failures=1, cap_s=4.0), []
    world.breaker.failed()
    for _ in range(5):
        opened = world.now
        while not world.breaker.allows():
            world.now += 0.01
        delays.append(world.now - opened)
        world.breaker.failed()
    for delay, longest in zip(delays, (1, 2, 4, 4, 4), strict=True):
        assert longest / 2 - 0.02 <= delay <= longest + 0.02
    assert len({round(delay, 1) for delay in delays[2:]}) > 1


def test_late_failures_do_not_prolong_it() -> None:
    world = World(failures=1)
    world.breaker.failed()
    for _ in range(60):  # those that waited with the first
        world.breaker.failed()
    world.now = 1.0
    assert world.breaker.allows()


def test_whoever_tries_and_never_tells_is_replaced() -> None:
    world = World(failures=1)
    world.breaker.failed()
    world.now = 1.0
    assert world.breaker.allows()
    world.now = 3.0
    assert world.breaker.allows()
