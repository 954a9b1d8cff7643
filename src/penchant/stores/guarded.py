"""A state that never keeps a request waiting: what reads it goes through a circuit breaker."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from penchant.core.breaker import Breaker
from penchant.core.errors import StateUnavailable
from penchant.core.partitions import Commit, Partition, PartitionedState, View
from penchant.core.state import Key, StateStore


class GuardedState:
    """A `PartitionedState` for the path of a request. Safe for several threads.

    A read that fails, or that took more than `budget_ms`, counts against the state; while the breaker is open reads
    raise `StateUnavailable` at once. How long one read may take is up to the state: give `RedisState` the same time.
    Commits and single partitions are not for requests and pass as they are.
    """

    def __init__(
        self, state: PartitionedState, breaker: Breaker | None = None, *, budget_ms: float | None = None
    ) -> None:
        self._state = state
        self.breaker = breaker or Breaker("state", rng=random.SystemRandom())
        self._budget_s = None if budget_ms is None else budget_ms / 1_000

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        """One view for each; those of one partition are read atomically. Raises `StateUnavailable`."""
        if not self.breaker.allows():
            raise StateUnavailable("the state is not asked for a moment: it failed several times in a row")
        started = time.monotonic()
        try:
            views = self._state.read(wanted)
        except StateUnavailable:
            self.breaker.failed()
            raise
        if self._budget_s is not None and time.monotonic() - started > self._budget_s:
            self.breaker.failed()
        else:
            self.breaker.succeeded()
        return views

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        """As the state does."""
        return self._state.commit(commits)

    def partition(self, partition: Partition) -> StateStore:
        """As the state does."""
        return self._state.partition(partition)

    def close(self) -> None:
        """Close the state."""
        self._state.close()
