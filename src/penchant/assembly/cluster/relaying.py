"""The relay of a process: from its outbox into the log, for as long as the process lives."""

from __future__ import annotations

import random
import threading

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.backoff import Backoff
from penchant.core.errors import LogUnavailable, PenchantError
from penchant.core.outbox import Outbox
from penchant.core.partitions import PartitionedState
from penchant.log.joins import Joins
from penchant.log.relay import Relay
from penchant.telemetry import RETRIES, logger

_DRAIN_S = 5.0


_BATCH = 5_000
"""Events sent at a time when the relay is behind: over hundreds of partitions a thousand are but a few for each."""


class Relaying:
    """A thread that relays an outbox; of several processes on one outbox one does, and another when it ends."""

    def __init__(self, parts: ClusterParts, outbox: Outbox, state: PartitionedState) -> None:
        self._parts = parts
        self._stop = threading.Event()
        joins = Joins(state, parts.layout, parts.definition.schema, reader=parts.reader(deeds=False))
        self._relay = Relay(outbox, parts.sender, parts.layout, joins, batch=_BATCH, rng=random.SystemRandom())
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the batch in hand; where a server hangs it is left, and comes again from the outbox."""
        self._stop.set()
        self._thread.join(_DRAIN_S)
        if self._thread.is_alive():
            logger.warning("what is being relayed is not confirmed: it is sent again at the next start")

    def _run(self) -> None:
        backoff = Backoff(random.SystemRandom())
        while not self._stop.is_set():
            try:
                self._parts.ensure_topics()
                break
            except LogUnavailable as error:
                RETRIES.labels("log").inc()
                logger.warning("events wait in the outbox: %s", error)
            except PenchantError as error:
                logger.error("events wait in the outbox: %s", error)
            except Exception:
                logger.exception("events wait in the outbox")
            self._stop.wait(backoff.next())
        self._relay.run(self._stop)
