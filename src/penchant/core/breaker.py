"""A circuit breaker: a dependency that keeps failing is not asked for a while, so that callers do not wait for it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from penchant.core.backoff import Backoff
from penchant.telemetry import BREAKER_OPEN, BREAKER_TRIPS

Timer = Callable[[], float]
"""Seconds that only grow, from anywhere."""


class Breaker:
    """Ask `allows` before each call and tell afterwards whether it `succeeded` or `failed`. Safe for several threads.

    After `failures` in a row it opens for about `open_s` seconds; then one caller may try (the others are still told
    no). If that fails it opens for twice as long, up to `cap_s`; with jitter, so that many hosts do not try at once.

    >>> now = [0.0]
    >>> breaker = Breaker("redis", rng=random.Random(1), failures=2, open_s=1, timer=lambda: now[0])
    >>> breaker.failed(); breaker.allows(); breaker.failed(); breaker.allows()
    True
    False
    >>> now[0] = 1.0; breaker.allows(), breaker.allows()
    (True, False)
    >>> breaker.succeeded(); breaker.allows()
    True
    """

    def __init__(
        self,
        dependency: str,
        *,
        rng: random.Random,
        failures: int = 3,
        open_s: float = 0.25,
        cap_s: float = 5.0,
        timer: Timer = time.monotonic,
    ) -> None:
        self.dependency = dependency
        self._most = failures
        self._timer = timer
        self._delays = Backoff(rng, first=open_s, cap=cap_s)
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try: float | None = None
        """When the next caller may try while open; None while closed."""
        self._delay = open_s
        self._trying = False
        BREAKER_OPEN.labels(dependency).set(0)

    @property
    def open(self) -> bool:
        """Whether callers are turned away, but for one that tries now and then."""
        return self._next_try is not None

    def allows(self) -> bool:
        """Whether this caller may go on; while open, one may as often as a delay has passed."""
        if self._next_try is None:
            return True
        with self._lock:
            now = self._timer()
            if self._next_try is None:
                return True
            if now < self._next_try:
                return False
            self._next_try = now + self._delay  # if the one who tries never tells, another does
            self._trying = True
            return True

    def succeeded(self) -> None:
        """A call worked: closed again."""
        if not self._failures and self._next_try is None:
            return
        with self._lock:
            self._failures = 0
            self._trying = False
            if self._next_try is not None:
                self._next_try = None
                self._delays.reset()
                BREAKER_OPEN.labels(self.dependency).set(0)

    def failed(self) -> None:
        """A call failed; calls that began before it opened and fail afterwards do not prolong it."""
        with self._lock:
            self._failures += 1
            now = self._timer()
            if self._next_try is None:
                if self._failures < self._most:
                    return
                BREAKER_OPEN.labels(self.dependency).set(1)
                BREAKER_TRIPS.labels(self.dependency).inc()
            elif not self._trying:
                return
            self._trying = False
            self._delay = self._delays.next()
            self._next_try = now + self._delay
