"""What a worker keeps beside the state: the durable copy, from which a lost state comes back, and the archive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import FenceConflict, LogUnavailable, PenchantError, StateUnavailable
from penchant.core.log import START
from penchant.core.partitions import Commit, Partition, PartitionReader
from penchant.settings import duration
from penchant.stores.redis import RedisState
from penchant.stream.rebuild import FoldAnew, Reason
from penchant.telemetry import COPY_AGE, REBUILDS, RETRIES, logger


class Keeping:
    """Copies and archives what the worker folds, in a thread; brings partitions back that the log cannot.

    `held` tells which partitions are this worker's. Whoever has the first user partition archives for all.
    """

    def __init__(self, parts: ClusterParts, state: RedisState, held: Callable[[], Collection[Partition]]) -> None:
        from penchant.stores.copier import Copier

        settings = parts.settings
        self._held = held
        self._anew = FoldAnew(state, parts.layout)
        self._copy = parts.copy()
        self._copier = None if self._copy is None else Copier(state, self._copy)
        self._every = duration(settings.copy.every, "copy.every") / 1_000
        self._copied_at = time.monotonic()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.history: PartitionReader | None = None

    def start(self) -> None:
        """Begin to copy."""
        if self._copier is not None:
            self._threads.append(threading.Thread(target=self._run, name="copy", daemon=True))
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
        REBUILDS.labels(reason).inc()
        if reason == "forgotten" and self._copier is not None:
            try:
                restored = self._copier.restore(partition)
            except (StateUnavailable, FenceConflict) as error:
                logger.warning("%s: no copy to restore from: %s", partition, error)
            else:
                if restored is not None and restored > START:
                    logger.warning("%s: restored from its copy at %d", partition, restored)
                    return restored
        return self._anew(partition, reason)

    def close(self) -> None:
        """Bring the copy up to date, if it can be, and let go."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._copy is not None:
            self._copy.close()

    def _run(self) -> None:
        while True:
            ended = self._stop.wait(self._every)
            self._flush()
            COPY_AGE.set(time.monotonic() - self._copied_at)
            if ended:
                return

    def _flush(self) -> None:
        assert self._copier is not None
        try:
            done = [self._copier.flush(partition) for partition in sorted(self._held())]
        except (StateUnavailable, LogUnavailable) as error:
            RETRIES.labels("copy").inc()
            logger.warning("the copy waits: %s", error)
        except PenchantError as error:
            logger.error("the copy stands still: %s", error)
        else:
            if all(done):
                self._copied_at = time.monotonic()
