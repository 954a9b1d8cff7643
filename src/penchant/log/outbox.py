"""What every outbox does with a batch before and while it is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from penchant.core.clock import Millis
from penchant.core.errors import LogFull
from penchant.core.events import Event, encode_event
from penchant.core.log import LATE
from penchant.core.outbox import Taken, partition_of
from penchant.core.partitions import Layout, Partition, Place
from penchant.core.schema import Schema
from penchant.log.sequence import Sequencer, is_timed, quantised
from penchant.log.table import digest

KEEP_IDS_MS: Millis = 48 * 3_600_000
"""How long ids are known after their events were confirmed."""
MINUTE_MS: Millis = 60_000


class Entry(NamedTuple):
    """An event made ready outside of the transaction."""

    id: bytes | None
    partition: Partition
    event: Event


def enter(event: Event, schema: Schema, layout: Layout, digest: Callable[[str], bytes] = digest) -> Entry:
    """The entry of an event; raises `InvalidEvent` for an action that is not declared."""
    quantised(event, schema)
    return Entry(None if event.id is None else digest(event.id), partition_of(event, layout), event)


class Stamped(NamedTuple):
    """An entry as it is kept."""

    accepted_at: Millis
    late: bool
    body: bytes


def stamp(event: Event, sequencer: Sequencer) -> Stamped:
    """The event with `ts` set. Called for events that are taken only: a duplicate must not move the clock."""
    accepted_at, ts, verdict = sequencer.stamp(event.ts, is_timed(event), 0)
    return Stamped(accepted_at, verdict == LATE, encode_event(msgspec.structs.replace(event, ts=ts)))


class Tally:
    """Counts what becomes of one batch."""

    def __init__(self) -> None:
        self._accepted = self._duplicates = self._late = 0
        self._places: dict[Partition, Place] = {}

    def took(self, partition: Partition, place: Place, *, late: bool) -> None:
        """An event was new."""
        self._accepted += 1
        self._late += late
        self._stands(partition, place)

    def knew(self, partition: Partition, place: Place | None) -> None:
        """An event came before, at this place if that is known."""
        self._duplicates += 1
        if place is not None:
            self._stands(partition, place)

    def taken(self) -> Taken:
        """All of it."""
        return Taken(self._accepted, self._duplicates, self._late, self._places)

    def _stands(self, partition: Partition, place: Place) -> None:
        self._places[partition] = max(place, self._places.get(partition, place))


def full(pending: int, limit: int) -> LogFull:
    """What a caller is told whose batch does not fit."""
    return LogFull(f"outbox full: {pending:,} events wait for the log, {limit:,} may; nothing was taken")


def ids_of(entries: Iterable[Entry]) -> list[bytes]:
    """The distinct ids, sorted: whoever locks several locks them in one order."""
    return sorted({entry.id for entry in entries if entry.id is not None})
