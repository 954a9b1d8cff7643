"""The runner: reads the log after the fence, folds, and commits state and position in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from penchant.core.errors import FenceConflict
from penchant.core.events import ItemRemoved, ItemUpdate, UserErased, UserUpdate
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.fold import Fold
from penchant.core.log import START, EventLog, Record
from penchant.core.state import StateStore
from penchant.stream.working import Overlay, RawCache
from penchant.telemetry import logger

_WAIT_S = 0.25
_HEARTBEAT = 4
"""Idle waits between two looks at the fence: about a second."""
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class StreamRunner:
    """Keeps the state at the end of the log. The only one that commits.

    Every record counts exactly once whatever dies when: what was folded reaches the store together with the new fence
    or not at all, and a runner that finds the fence elsewhere (another runner, a store put back to an older copy)
    drops what it remembers and goes on from there. A fence beyond the log's end means that the log lost records
    which the state has: the state is then folded anew. `batch` bounds a step when the runner is behind: the same users
    and items come again and again, so that few large commits write far less than many small ones; what has just come
    never waits for more. Use from one thread; `position`, `lag` and `error` from any.
    """

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        folds: Sequence[Fold],
        *,
        batch: int = 8_000,
        cache_bytes: int = 128 << 20,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._log = log
        self._store = store
        self._folds = tuple(folds)
        self._batch = batch
        self._cache = RawCache(cache_bytes)
        self._failpoint = failpoint
        self._fence: int | None = None
        self.error: str | None = None
        """What stops `run` from getting on, None while all is well."""

    @property
    def position(self) -> int:
        """The position that the state reflects, as far as this runner knows."""
        fence = self._fence
        return self._store.position() if fence is None else fence

    @property
    def lag(self) -> int:
        """Records not yet folded."""
        return max(0, self._log.end() - self.position)

    def step(self) -> int:
        """Fold the next batch, if there is one; returns how many records.

        Whatever it raises, the store is as before or after the batch, and the next step goes on from there.
        """
        try:
            while True:
                try:
                    return self._advance(self._start() if self._fence is None else self._fence)
                except FenceConflict as conflict:
                    logger.info("another runner commits to this state: %s", conflict)
                    self._forget()
        except BaseException:
            self._forget()
            raise

    def run(self, stop: threading.Event) -> None:
        """Fold until told to stop; an error is logged and tried again after a while, never skipped."""
        failures = idle = 0
        while not stop.is_set():
            try:
                if self.step():
                    idle = 0
                elif not self._log.wait(self.position, _WAIT_S):
                    idle += 1
                    if idle >= _HEARTBEAT:
                        idle = 0
                        self.check()
                failures, self.error = 0, None
            except Exception as error:
                logger.exception("the fold stands still at position %s", self._fence)
                self.error = f"{type(error).__name__}: {error}"
                stop.wait(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1

    def check(self) -> None:
        """Look where the fence is (the heartbeat of an idle runner) and finish erasures that were cut off."""
        self._start()

    def _start(self) -> int:
        """The store's fence, after seeing to it that the log has it. The store is read first: the log only grows."""
        fence = self._store.position()
        if fence != self._fence:
            self._cache.clear()
        end = self._log.end()
        if fence > end:
            logger.warning("the state is at %d, the log ends at %d: the state is folded anew", fence, end)
            self._store.clear()
            self._cache.clear()
            fence = START
        for position, user_id in self._log.erasures(fence):
            self._log.erase(user_id, position)
        self._fence = fence
        return fence

    def _advance(self, fence: int) -> int:
        records = self._log.read(fence, self._batch)
        self._failpoint("read")
        if not records:
            return 0
        snapshot = self._store.snapshot()
        try:
            if snapshot.position != fence:
                raise FenceConflict(fence, snapshot.position)
            working = Overlay(snapshot, self._cache)
            for run in runs(records):
                for fold in self._folds:
                    fold.apply(run, working)
        finally:
            snapshot.close()
        self._failpoint("folded")
        position = records[-1].position
        self._failpoint("before_commit")
        self._store.commit(fence, position, working.writes)
        self._failpoint("after_commit")
        self._cache.update(working.writes)
        self._fence = position
        # Only now: a record that names a person must not lose the name before the state has dropped them.
        for record in records:
            if type(record.event) is UserErased and record.event.user_id:
                self._log.erase(record.event.user_id, record.position)
        return len(records)

    def _forget(self) -> None:
        self._cache.clear()
        self._fence = None


_PROFILES = frozenset({ItemUpdate, ItemRemoved, UserUpdate, UserErased})


def runs(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut so that in each run every item or user event comes before every other one.

    A fold may then apply all profile events of a run first and read attributes that are those at each record's place.
    """
    start, others = 0, False
    for index, record in enumerate(records):
        if type(record.event) not in _PROFILES:
            others = True
        elif others:
            yield records[start:index]
            start, others = index, False
    yield records[start:]
