"""Time as an input: the only module that reads the machine's clock."""

from __future__ import annotations

import threading
import time
from typing import Protocol

Millis = int
"""Milliseconds since 1970-01-01 UTC."""


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self) -> Millis: ...

    def observe(self, ts: Millis) -> None:
        """Tell the clock of an event's time; only a clock that follows the events listens."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> Millis:
        return time.time_ns() // 1_000_000

    def observe(self, ts: Millis) -> None:
        del ts


class EventClock:
    """The largest event time observed so far, never beyond the machine's clock. It never goes back, even if that does.

    Recorded history replayed in time order then sees windows, decay and lateness follow the data.
    """

    def __init__(self, start: Millis = 0, ceiling: Clock | None = None) -> None:
        self._now = start
        self._ceiling = ceiling or SystemClock()
        self._lock = threading.Lock()

    def now(self) -> Millis:
        return self._now

    def observe(self, ts: Millis) -> None:
        with self._lock:
            if ts > self._now:
                self._now = max(self._now, min(ts, self._ceiling.now()))


class ManualClock:
    """A clock that tests move by hand.

    >>> clock = ManualClock(1_000)
    >>> clock.advance(500)
    >>> clock.now()
    1500
    """

    def __init__(self, now: Millis = 0) -> None:
        self._now = now

    def now(self) -> Millis:
        return self._now

    def observe(self, ts: Millis) -> None:
        del ts

    def advance(self, by: Millis) -> None:
        self._now += by

    def set(self, now: Millis) -> None:
        self._now = now
