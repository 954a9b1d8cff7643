"""How a service says where it stands while what it depends on comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import penchant
from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import PenchantError
from penchant.core.partitions import Partition, PartitionReader
from penchant.serving import wire
from penchant.serving.reading import Reading
from penchant.serving.remote import Ends

UNKNOWN = wire.Status(
    position="",
    lag_events=0,
    lag_ms=0,
    items=0,
    users=0,
    artifact=None,
    outbox=wire.Outbox(pending=0),
    build=penchant.__version__,
)


class Calm:
    """The newest status that could be had: a service answers how it is even when its servers do not answer it."""

    def __init__(self, ask: Callable[[], wire.Status]) -> None:
        self._ask = ask
        self._known = UNKNOWN

    def status(self) -> wire.Status:
        """As asked, or as known."""
        try:
            self._known = self._ask()
        except PenchantError:
            return self._known
        return self._known


def status_of(reading: Reading) -> wire.Status:
    """The status of a service that has no pictures."""
    standing = reading.standing()
    return wire.Status(
        position=standing.position,
        lag_events=standing.lag_events,
        lag_ms=standing.lag_ms,
        items=0,
        users=standing.users,
        artifact=None,
        outbox=wire.Outbox(pending=standing.pending),
        build=penchant.__version__,
    )


def ends_of(parts: ClusterParts) -> Ends:
    """The ends of all partitions, by one connection that is made when first asked for."""
    lock = threading.Lock()
    readers: list[PartitionReader] = []

    def ends(partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        with lock:
            if not readers:
                readers.append(parts.reader())
            return readers[0].ends(partitions)

    return ends
