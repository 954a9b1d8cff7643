"""`penchant stream`: the worker that folds its share of the partitions, and what it keeps beside the state."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Sequence

from penchant.assembly.cluster.keeping import Keeping
from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.cluster.standing import UNKNOWN, Calm, ends_of, status_of, wait_for
from penchant.assembly.cluster.warmup import warm_fold
from penchant.core.backoff import Backoff
from penchant.core.errors import LogUnavailable, NotFound, SettingsError
from penchant.serving import wire
from penchant.serving.remote import RemoteState
from penchant.stream.worker import Worker
from penchant.telemetry import RETRIES, logger

_GARBAGE = 50_000, 20, 100
"""A fold makes and drops many thousands of objects that lead nowhere: to look less often nearly halves its work."""
_DRAIN_S = 8.0


class Folding:
    """One worker, with the copy and the archive of what it folds. Starts before log and state, and waits for both."""

    def __init__(self, parts: ClusterParts) -> None:
        self.parts = parts
        self.state = parts.state()
        self.keeping = Keeping(parts, self.state, lambda: self.worker.held)
        self.worker = Worker(
            parts.membership,
            parts.sender,
            parts.reader(),
            self.state,
            parts.sides(),
            clock=parts.clock,
            rng=random.SystemRandom(),
            history=self.keeping.history,
            recover=self.keeping.recover,
            on_folded=self.keeping.folded,
        )
        self.waiting: str | None = f"the log at {parts.address().brokers} has not been reached yet"
        """What has to come before folding can begin."""

    def position(self) -> str:
        """Where it begins is told partition by partition."""
        return "the fences of its partitions"

    def run(self, stop: threading.Event) -> None:
        """Fold until told to stop."""
        gc.set_threshold(*_GARBAGE)
        warm_fold(self.parts.sides(), self.parts.definition.schema)
        self._wait(stop)
        if not stop.is_set():
            self.keeping.start()
            self.worker.run(stop)

    def close(self) -> None:
        """Bring copy and archive up to date and let go."""
        self.keeping.close()
        self.state.close()

    def _wait(self, stop: threading.Event) -> None:
        """For topics that are as they have to be, and a state that can be trusted with them."""
        backoff = Backoff(random.SystemRandom())
        while not stop.is_set():
            try:
                self.parts.ensure_topics()
                self.waiting = f"the state at {self.state.link.shown} has not been reached yet"
                for warning in self.state.check():
                    logger.warning("%s", warning)
                self.state.activate(self.state.gid, instead_of=None)  # unless there is one already
                self.waiting = None
                return
            except SettingsError:
                raise
            except Exception as error:  # whatever is not there yet may come
                self.waiting = str(error)
                logger.warning("the fold waits: %s", error)
                RETRIES.labels("log" if isinstance(error, LogUnavailable) else "state").inc()
                stop.wait(backoff.next())


class Streaming:
    """A `Folding` with a face: health, readiness, metrics."""

    def __init__(self, parts: ClusterParts) -> None:
        self._folding = Folding(parts)
        self._stop = threading.Event()
        self._reading = RemoteState(self._folding.state, parts.layout, parts.clock, ends_of(parts))
        self._status = Calm(lambda: status_of(self._reading), UNKNOWN)
        self._failed: str | None = None
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()

    def status(self) -> wire.Status:
        """How far the fold is."""
        return self._status()

    def ready(self) -> list[str]:
        """What it waits for; a worker without partitions is ready: others have them all."""
        missing = [self._failed, self._folding.waiting, self._folding.worker.error]
        return [one for one in missing if one is not None]

    def close(self) -> None:
        """Finish the batch in hand; where a server hangs it is left, and folded from the fences by whoever is next."""
        self._stop.set()
        self._thread.join(_DRAIN_S)
        if self._thread.is_alive():
            logger.warning("what is being folded is not committed: it is folded again at the next start")
            return
        self._folding.close()

    def recommend(self, request: wire.Request, *, request_id: str) -> wire.Answer:
        """Not here."""
        del request, request_id
        raise NotFound("this service folds; ask penchant serve")

    def rows(self, user_id: str, n: int, size: int, where: wire.Where, *, request_id: str) -> wire.Rows:
        """Not here."""
        del user_id, n, size, where, request_id
        raise NotFound("this service folds; ask penchant serve")

    def send(self, raw_events: Sequence[object]) -> wire.Accepted:
        """Not here."""
        del raw_events
        raise NotFound("this service folds; send events to penchant collect")

    def item(self, item_id: str) -> wire.ItemAnswer:
        """Not here."""
        raise NotFound(f"this service folds; ask penchant serve for {item_id!r}")

    def user(self, user_id: str) -> wire.UserAnswer:
        """Not here."""
        raise NotFound(f"this service folds; ask penchant serve for {user_id!r}")

    def wait(self, position: str, wait_ms: int) -> bool:
        """Whether the fold reaches a token within `wait_ms`."""
        return wait_for(self._reading, position, wait_ms)

    def _run(self) -> None:
        try:
            self._folding.run(self._stop)
        except Exception as error:  # the process goes on to say why it is not ready
            logger.exception("the fold ended")
            self._failed = f"the fold ended: {error}"
