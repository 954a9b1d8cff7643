"""The log as a list: for tests, replay and explanations; it forgets all when closed."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from penchant.core.clock import Clock, Millis
from penchant.core.events import Event, UserErased
from penchant.core.log import LATE, Appended, Record
from penchant.core.schema import Schema
from penchant.log.sequence import Sequencer, is_timed, person, quantised, served_request, without_person


class MemoryLog:
    """An `EventLog` in memory that decides exactly as the durable one does. Safe to call from several threads.

    >>> from penchant.core.clock import ManualClock
    >>> from penchant.core.events import ItemRemoved
    >>> log = MemoryLog(schema=Schema(actions={}), clock=ManualClock(7), lateness_ms=0)
    >>> log.append([ItemRemoved(item_id="i1", id="a"), ItemRemoved(item_id="i1", id="a")])
    Appended(position=1, accepted=1, duplicates=1, late=0)
    """

    def __init__(self, *, schema: Schema, clock: Clock, lateness_ms: Millis) -> None:
        self._schema = schema
        self._sequencer = Sequencer(clock, lateness_ms)
        self._news = threading.Condition()
        self._records: list[Record] = []
        self._ids: set[str] = set()
        self._served: dict[str, int] = {}
        self._closed = False

    def append(self, events: Sequence[Event]) -> Appended:
        """Take the events, in order, each id once."""
        values = [quantised(event, self._schema) for event in events]
        with self._news:
            records = self._records
            last = records[-1].ingested_at if records else 0
            before, late = len(records), 0
            for event, q in zip(events, values, strict=True):
                if event.id is not None:
                    if event.id in self._ids:
                        continue
                    self._ids.add(event.id)
                last, ts, verdict = self._sequencer.stamp(event.ts, is_timed(event), last)
                late += verdict == LATE
                records.append(Record(len(records) + 1, last, ts, verdict, q, event))
                request_id = served_request(event)
                if request_id is not None:
                    self._served.setdefault(request_id, len(records) - 1)
            accepted = len(records) - before
            self._news.notify_all()
            return Appended(len(records), accepted, len(events) - accepted, late)

    def read(self, after: int, limit: int) -> Sequence[Record]:
        """Up to `limit` records with position > `after`, in order."""
        with self._news:
            return self._records[after : after + limit]

    def end(self) -> int:
        """The last position, `START` when empty."""
        return len(self._records)

    def wait(self, after: int, timeout: float) -> bool:
        """Block until there is a record past `after` (True) or `timeout` seconds went by (False)."""
        with self._news:
            self._news.wait_for(lambda: self._closed or len(self._records) > after, timeout)
            return len(self._records) > after

    def impression(self, request_id: str) -> Record | None:
        """The engine's own impression that answered `request_id`."""
        with self._news:
            index = self._served.get(request_id)
            return None if index is None else self._records[index]

    def erasures(self, upto: int) -> Sequence[tuple[int, str]]:
        """`(position, user_id)` of the `UserErased` records at or before `upto` that still name the person."""
        with self._news:
            return [
                (record.position, record.event.user_id)
                for record in self._records[:upto]
                if isinstance(record.event, UserErased) and record.event.user_id
            ]

    def erase(self, user_id: str, upto: int | None = None) -> int:
        """Take the person out of the records at or before `upto` (default: all); returns the records changed."""
        changed = 0
        with self._news:
            for index, record in enumerate(self._records[:upto]):
                if user_id and person(record.event) == user_id:
                    self._served.pop(served_request(record.event) or "", None)
                    self._records[index] = msgspec.structs.replace(record, event=without_person(record.event))
                    changed += 1
        return changed

    def close(self) -> None:
        """Wake whoever waits."""
        with self._news:
            self._closed = True
            self._news.notify_all()
