"""Recorded history asked through the request path: what would have been shown just before each event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from penchant.catalog.columns import ItemColumns
from penchant.core.candidates import Outcome
from penchant.core.items import Items
from penchant.core.log import START, EventLog, Record
from penchant.core.query import Query
from penchant.core.state import StateStore, profile_key, user_key
from penchant.features.reader import Reader
from penchant.serving import wire
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation

Ask = Callable[[Record], wire.Request | None]
"""The request to make just before a record, None for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A record, and what the pipeline answered in the state just before it."""

    record: Record
    query: Query
    outcome: Outcome


class Replay:
    """Walks the log once; `step(upto)` folds it into `store` up to a position.

    The picture of the items is renewed when `every` more records were folded, as a server renews it by time; the
    user's state is always that of the position before the record.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        store: StateStore,
        step: Callable[[int], None],
        columns: ItemColumns,
        reader: Reader,
        preparation: Preparation,
        compiled: Compiled,
        every: int = 200,
    ) -> None:
        self._log = log
        self._store = store
        self._step = step
        self._columns = columns
        self._reader = reader
        self._preparation = preparation
        self._compiled = compiled
        self._every = every
        self._items: Items | None = None

    def asked(self, ask: Ask, *, after: int = START, upto: int | None = None, batch: int = 2_000) -> Iterator[Asked]:
        """Answer what `ask` wants, in the order of the log, for records past `after` up to `upto`."""
        end = self._log.end() if upto is None else upto
        previous = after
        while previous < end and (records := self._log.read(previous, batch)):
            for record in records:
                if record.position > end:
                    return
                request = ask(record)
                if request is not None:
                    self._step(previous)
                    yield self._answer(record, request)
                previous = record.position

    def _answer(self, record: Record, request: wire.Request) -> Asked:
        now = record.ts
        items = self._picture(now)
        now = max(now, items.time)
        user_id = request.user_id or ""
        snapshot = self._store.snapshot()
        try:
            blob, profile = snapshot.get_many([user_key(user_id), profile_key(user_id)])
            position = snapshot.position
        finally:
            snapshot.close()
        surface = self._compiled.surfaces[request.surface]
        query = self._preparation.query(
            request,
            request_id=f"replay:{record.position}",
            now=now,
            surface=surface,
            user=self._reader.user(position, blob, profile, now),
            items=items,
            problems=[],
        )
        return Asked(record, query, surface.pipeline.run(query, trace=False))

    def _picture(self, now: int) -> Items:
        if self._items is None or self._store.position() - self._items.position >= self._every:
            snapshot = self._store.snapshot()
            try:
                items = self._columns.refresh(snapshot, max(now, self._items.time if self._items else 0))
            finally:
                snapshot.close()
            self._items = self._compiled.prepared(items)
        return self._items
