"""How a service says where it stands while what it depends on comes and goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import penchant
from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import PenchantError, StateUnavailable
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


T = TypeVar("T")
_MOMENT_S = 0.1
_AGAIN_S = 0.005


class Calm(Generic[T]):
    """The newest answer that could be had: a service says how it is even while its servers do not answer it.

    Whoever asks waits a moment, and not at all while an earlier question has not been answered: those who ask are
    probes and scrapes, on the thread that takes everybody's requests.
    """

    def __init__(self, ask: Callable[[], T], first: T) -> None:
        self._ask = ask
        self._known = first
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    def __call__(self) -> T:
        """As asked, or as known."""
        with self._lock:
            if self._asking is not None and self._asking.is_alive():
                return self._known
            asking = self._asking = threading.Thread(target=self._run, name="standing", daemon=True)
            asking.start()
        asking.join(_MOMENT_S)
        return self._known

    def _run(self) -> None:
        with suppress(PenchantError):
            self._known = self._ask()


def wait_for(reading: Reading, token: str, wait_ms: int, also: Callable[[object], bool] | None = None) -> bool:
    """Whether all partitions that a token names reach it, and `also` does, within `wait_ms`; raises `InvalidRequest`.

    While the state is away nothing is reached.
    """
    place = reading.place(token, "position")
    deadline = time.monotonic() + wait_ms / 1_000
    while True:
        with suppress(StateUnavailable):
            if reading.reached(place, None) and (also is None or also(place)):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_AGAIN_S)


def status_of(reading: Reading) -> wire.Status:
    """The status of a service that has no pictures."""
    standing = reading.standing()
    return wire.Status(
        position=standing.position,
        lag_events=standing.lag_events,
        lag_ms=standing.lag_ms,
        items=standing.items,
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
