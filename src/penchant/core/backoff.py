"""How long to wait before trying a dependency again."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `first` up to `cap` seconds, each between half of that and all of it.

    The jitter keeps those who lost the same server from all coming back in the same moment. For one thread.

    >>> delays = Backoff(random.Random(1), first=1, cap=4)
    >>> [low <= delays.next() <= 2 * low for low in (0.5, 1, 2, 2)]
    [True, True, True, True]
    """

    def __init__(self, rng: random.Random, *, first: float = 0.1, cap: float = 10.0) -> None:
        self._rng = rng
        self._first = first
        self._cap = cap
        self._failures = 0

    @property
    def failures(self) -> int:
        """How often in a row it failed."""
        return self._failures

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        longest = min(self._cap, self._first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return longest * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked."""
        self._failures = 0
