"""Group commit: many callers, one transaction, each its own answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from penchant.core.errors import LogFull

T = TypeVar("T")
R = TypeVar("R")


class Batch(Generic[T, R]):
    """What one caller wants appended; settled by setting `result` or `error`."""

    __slots__ = ("appointed", "error", "result", "rows", "wake")

    def __init__(self, rows: list[T]) -> None:
        self.rows = rows
        self.result: R | None = None
        self.error: Exception | None = None
        self.appointed = False
        self.wake = threading.Lock()
        self.wake.acquire()

    @property
    def settled(self) -> bool:
        """Whether it is known what became of it."""
        return self.result is not None or self.error is not None


class GroupCommit(Generic[T, R]):
    """Whoever finds nobody committing commits for all who wait; the others sleep until they are settled.

    While one group is being made durable the next gathers, so the cost of a sync is shared by however many came in
    the meantime; a caller alone pays no hand-over to another thread. `commit` gets batches of at most `limit` rows
    together (or a single larger one), one group at a time, and settles each.
    """

    def __init__(self, commit: Callable[[list[Batch[T, R]]], None], limit: int) -> None:
        self._commit = commit
        self._limit = limit
        self._mutex = threading.Lock()
        self._waiting: deque[Batch[T, R]] = deque()
        self._led = False

    def submit(self, rows: list[T]) -> R:
        """The result of the rows' batch, or raise its error."""
        batch: Batch[T, R] = Batch(rows)
        with self._mutex:
            self._waiting.append(batch)
            leads = not self._led
            self._led = True
        if not leads:
            self._sleep(batch)
        if not batch.settled:
            self._lead()
        if batch.error is not None:
            raise batch.error
        assert batch.result is not None
        return batch.result

    def _sleep(self, batch: Batch[T, R]) -> None:
        try:
            batch.wake.acquire()
        except BaseException:
            # Interrupted (Ctrl-C): nobody may wait for this thread to lead.
            with self._mutex:
                if batch in self._waiting:
                    self._waiting.remove(batch)
                if batch.appointed:
                    self._appoint()
            raise

    def _lead(self) -> None:
        group: list[Batch[T, R]] = []
        try:
            with self._mutex:
                size = 0
                while self._waiting and (not group or size + len(self._waiting[0].rows) <= self._limit):
                    group.append(self._waiting.popleft())
                    size += len(group[-1].rows)
            self._commit(group)
        finally:
            with self._mutex:
                self._appoint()
            for batch in group:
                if not batch.settled:
                    batch.error = LogFull("the append was cut off; send the batch again, its ids keep it from doubling")
                batch.wake.release()

    def _appoint(self) -> None:
        if self._waiting:
            self._waiting[0].appointed = True
            self._waiting[0].wake.release()
        else:
            self._led = False
