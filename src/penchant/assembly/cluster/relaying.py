"""The relay of a process: from its outbox into the log, for as long as the process lives."""

from __future__ import annotations

import random
import threading

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.outbox import Outbox
from penchant.core.partitions import PartitionedState, Sender
from penchant.log.joins import Joins
from penchant.log.relay import Relay


class Relaying:
    """A thread that relays an outbox; of several processes on one outbox one does, and another when it ends."""

    def __init__(self, parts: ClusterParts, outbox: Outbox, state: PartitionedState) -> None:
        self._parts = parts
        self._stop = threading.Event()
        joins = Joins(state, parts.layout, parts.definition.schema, reader=parts.reader())
        self.relay = Relay(outbox, self._sender, parts.layout, joins, rng=random.SystemRandom())
        self._thread = threading.Thread(target=self.relay.run, args=(self._stop,), name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the batch in hand."""
        self._stop.set()
        self._thread.join()

    def _sender(self) -> Sender:
        self._parts.ensure_topics()
        return self._parts.sender()
