"""The event log: ordered, append-only, replayable; everything else is a fold over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from penchant.core.clock import Millis
from penchant.core.events import Event

ACCEPTED = 0
LATE = 2
"""Verdicts: only `ACCEPTED` records count in features. (1, duplicate, enters no log: what repeats is passed over.)"""

START = 0
"""The position before the first record; positions count from 1 and may have gaps."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event with what the log fixed once when it was appended.

    `ingested_at` never goes back; `ts = min(client's ts, ingested_at)`; `q` is the value as fixed point.
    """

    position: int
    ingested_at: Millis
    ts: Millis
    verdict: int
    q: int
    event: Event


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch: `position` is at or past every record of it, also those that were duplicates."""

    position: int
    accepted: int
    duplicates: int
    late: int = 0


class LogReader(Protocol):
    """Records in order: what reading a log needs."""

    def read(self, after: int, limit: int) -> Sequence[Record]:
        """Up to `limit` records with position > `after`, in order."""

    def end(self) -> int:
        """The last position, `START` when empty."""


class EventLog(LogReader, Protocol):
    """One partition of the log. Safe to call from several threads."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Make the events durable, in order, each id once; raises `LogFull` having taken nothing."""

    def wait(self, after: int, timeout: float) -> bool:
        """Block until there is a record past `after` (True) or `timeout` seconds went by (False)."""

    def impression(self, request_id: str) -> Record | None:
        """The engine's own impression that answered `request_id`."""

    def erase(self, user_id: str, upto: int | None = None) -> int:
        """Take the person out of the records at or before `upto` (default: all); returns the records changed.

        Positions and what counts for items stay; the person's records keep an empty `user_id`, which no fold counts
        for a user. Doing it again changes nothing.
        """

    def erasures(self, upto: int) -> Sequence[tuple[int, str]]:
        """`(position, user_id)` of the `UserErased` records at or before `upto` that still name the person, in order.

        What a runner that was killed between its commit and `erase` has left to do.
        """

    def close(self) -> None: ...
