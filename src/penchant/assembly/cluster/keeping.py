"""What a worker keeps beside the state: the durable copy, from which a lost state comes back, and the archive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from penchant.assembly.cluster.archiving import Archiving
from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import FenceConflict, LogUnavailable, StateUnavailable
from penchant.core.log import START
from penchant.core.partitions import Commit, Partition, PartitionReader
from penchant.log.archive_reader import ArchivedReader
from penchant.settings import duration
from penchant.stores.copier import Copier
from penchant.stores.redis import RedisState
from penchant.stream.rebuild import FoldAnew, Reason
from penchant.telemetry import COPY_AGE, RETRIES, logger

_ARCHIVES = Partition("users", 0)


def history_of(parts: ClusterParts, reader: PartitionReader) -> PartitionReader:
    """The log with what Kafka has forgotten of it."""
    return ArchivedReader(parts.archive(), reader)


class Keeping:
    """Copies what the worker folds, in a thread, and has it archived; brings partitions back that the log cannot.

    `held` tells which partitions are this worker's. Whoever has the first user partition has all archived.
    """

    def __init__(self, parts: ClusterParts, state: RedisState, held: Callable[[], Collection[Partition]]) -> None:
        settings = parts.settings
        self._held = held
        self._anew = FoldAnew(state, parts.layout)
        self._copy = parts.copy()
        self._copier = None if self._copy is None else Copier(state, self._copy)
        self._copied_at = time.monotonic()
        self._stop = threading.Event()
        self._reader = parts.reader()
        self.history = history_of(parts, self._reader)
        self._archiving = Archiving(parts.folder)
        every = {"archive": (self._archive, duration(settings.archive.every, "archive.every") / 1_000)}
        if self._copier is not None:
            every["copy"] = (self._flush, duration(settings.copy.every, "copy.every") / 1_000)
        self._threads = [
            threading.Thread(target=self._run, args=(step, seconds), name=name, daemon=True)
            for name, (step, seconds) in every.items()
        ]

    def start(self) -> None:
        """Begin to copy and to archive."""
        for thread in self._threads:
            thread.start()

    def folded(self, commits: Sequence[Commit]) -> None:
        """Hear of commits that were done."""
        if self._copier is not None:
            self._copier.note(commits)

    def recover(self, partition: Partition, reason: Reason) -> int:
        """The position that the partition's state has after the copy was put back, where that helps.

        A state ahead of the log is folded anew: its copy would be ahead as well.
        """
        if reason == "forgotten" and self._copier is not None:
            try:
                restored = self._copier.restore(partition, at_most=self._reader.end(partition))
            except (StateUnavailable, LogUnavailable, FenceConflict) as error:
                logger.warning("%s: no copy to restore from: %s", partition, error)
            else:
                if restored is not None and restored > START:
                    logger.warning("%s: restored from its copy at %d", partition, restored)
                    return restored
        if reason == "ahead" and self._copier is not None and self._copy is not None:
            self._copier.forget(partition)
            try:
                self._copy.partition(partition).clear()
            except StateUnavailable as error:
                logger.warning("%s: its copy is of a log that is gone, and could not be dropped: %s", partition, error)
        return self._anew(partition, reason)

    def close(self) -> None:
        """Bring copy and archive up to date, if they can be, and let go."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._archiving.close()
        if self._copy is not None:
            self._copy.close()
        self._reader.close()

    def _run(self, step: Callable[[], None], seconds: float) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(seconds)
            try:
                step()
            except (StateUnavailable, LogUnavailable) as error:
                RETRIES.labels(threading.current_thread().name).inc()
                logger.warning("the %s waits: %s", threading.current_thread().name, error)
            except Exception:
                logger.exception("the %s stands still", threading.current_thread().name)

    def _flush(self) -> None:
        assert self._copier is not None
        try:
            if all([self._copier.flush(partition) for partition in sorted(self._held())]):
                self._copied_at = time.monotonic()
        finally:
            COPY_AGE.set(time.monotonic() - self._copied_at)

    def _archive(self) -> None:
        if _ARCHIVES not in self._held():
            return
        self._archiving.work(self._stop)
