"""A small engine in memory that keeps the promises of the HTTP contract; what the HTTP tests run against first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from penchant.core.errors import InvalidEvent, InvalidRequest, LogFull, NotFound
from penchant.core.events import Event, Interaction, ItemRemoved, ItemUpdate, UserErased, UserUpdate
from penchant.core.log import Appended
from penchant.core.schema import Schema
from penchant.core.values import read_attributes
from penchant.serving import wire
from penchant.serving.ingest import Ingest
from penchant.serving.reading import OwnLog
from penchant.serving.schemas import surfaces
from penchant.settings import Settings


class ListLog:
    """As much of an `EventLog` as ingest needs."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ids: set[str] = set()
        self.full = False

    def append(self, events: Sequence[Event]) -> Appended:
        if self.full:
            raise LogFull("no space left on the device")
        before = len(self.events)
        for event in events:
            if event.id is None or event.id not in self.ids:
                self.events.append(event)
                self.ids |= {event.id} if event.id else set()
        taken = len(self.events) - before
        return Appended(len(self.events), taken, len(events) - taken)

    def end(self) -> int:
        return len(self.events)


class FakeEngine:
    """Ranks items in the order in which they came; state is as new as the log."""

    def __init__(self, settings: Settings) -> None:
        self.schema = Schema.of(settings)
        self.log = ListLog()
        self.missing: list[str] = []
        self.broken: Exception | None = None
        self._surfaces = surfaces(settings)
        self._ingest = Ingest(OwnLog(self.log), self.schema)  # type: ignore[arg-type]

    def recommend(self, request: wire.Request, *, request_id: str) -> wire.Answer:
        if self.broken is not None:
            raise self.broken
        if request.surface not in self._surfaces:
            raise InvalidRequest("surface", "unknown_surface", f"there are: {', '.join(self._surfaces)}")
        try:
            read_attributes(request.context, self.schema.context, "context")
        except InvalidEvent as error:
            raise InvalidRequest(error.field, error.reason, error.message) from None
        if request.after is not None:
            wire.position_of(request.after, "after")
        self._check_where(request)
        for index, name in enumerate(request.fields):
            if name not in self.schema.item:
                raise InvalidRequest(
                    f"fields.{index}", "unknown_attribute", f"there are: {', '.join(self.schema.item)}"
                )
        items = self._items()
        if request.surface == "similar" and request.item_id is not None and request.item_id not in items:
            raise NotFound(f"no item {request.item_id!r}; send it as an item event first")
        reached = request.after is None or self.wait(request.after, request.wait_ms)
        wanted = items if request.items is None else [one for one in request.items if one in items]
        chosen = [one for one in wanted if one not in request.exclude and one != request.item_id][: request.n]
        return wire.Answer(
            request_id=request_id,
            surface=request.surface,
            position=str(self.log.end()),
            items=[
                wire.AnswerItem(
                    item_id=one,
                    rank=rank,
                    score=1 / rank,
                    propensity=1.0,
                    sources=["popular"],
                    reason=wire.ReasonAnswer(kind="popular", text="Popular"),
                    attributes={name: items[one][name] for name in request.fields if name in items[one]},
                )
                for rank, one in enumerate(chosen, start=1)
            ],
            degraded=[] if reached else ["stale"],
            trace=wire.Trace(stages=[]) if request.explain else None,
        )

    def rows(self, user_id: str, n: int, size: int, where: wire.Where, *, request_id: str) -> wire.Rows:
        self._check_where(wire.Request(where=where))
        mine = [e.item_id for e in self.log.events if isinstance(e, Interaction) and e.user_id == user_id]
        rows, shown = list[wire.Row](), list[str]()
        for place, seed in enumerate(list(dict.fromkeys(reversed(mine)))[:n], start=1):
            request = wire.Request(user_id=user_id, item_id=seed, n=size, where=where, exclude=shown)
            slate = self.recommend(request, request_id=f"{request_id}.{place}")
            rows.append(wire.Row(reason=wire.ReasonAnswer(kind="because", item_id=seed, text="Because"), slate=slate))
            shown = [*shown, *(item.item_id for item in slate.items)]
        return wire.Rows(user_id=user_id, rows=rows)

    def send(self, raw_events: Sequence[object]) -> wire.Accepted:
        return self._ingest.send(raw_events)

    def item(self, item_id: str) -> wire.ItemAnswer:
        if item_id not in self._items():
            raise NotFound(f"no item {item_id!r}; send it as an item event")
        counters = Counter(e.action for e in self.log.events if isinstance(e, Interaction) and e.item_id == item_id)
        return wire.ItemAnswer(
            item_id=item_id, attributes=self._items()[item_id], listed=True, counters=dict(counters), features={}
        )

    def user(self, user_id: str) -> wire.UserAnswer:
        mine = [event for event in self.log.events if getattr(event, "user_id", None) == user_id]
        if not mine or any(isinstance(event, UserErased) for event in mine):
            raise NotFound(f"no user {user_id!r}; nothing was received of them")
        done = [event for event in mine if isinstance(event, Interaction)]
        named = [event.attributes for event in mine if isinstance(event, UserUpdate)]
        return wire.UserAnswer(
            user_id=user_id,
            attributes=named[-1] if named else {},
            counters=dict(Counter(event.action for event in done)),
            recent=[
                wire.RecentAnswer(item_id=e.item_id, action=e.action, value=e.value, ts=wire.rfc3339(e.ts or 0))
                for e in reversed(done)
            ],
            features={},
            position=str(self.log.end()),
        )

    def status(self) -> wire.Status:
        return wire.Status(
            position=str(self.log.end()),
            lag_events=0,
            lag_ms=0,
            items=len(self._items()),
            users=0,
            artifact=None,
            outbox=wire.Outbox(),
            build="test",
        )

    def wait(self, position: str, wait_ms: int) -> bool:
        reached = self.log.end() >= wire.position_of(position, "position")
        if not reached:
            time.sleep(min(wait_ms, 20) / 1_000)
        return reached

    def ready(self) -> Sequence[str]:
        return self.missing

    def _items(self) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = {}
        for event in self.log.events:
            if isinstance(event, ItemUpdate):
                before = found.get(event.item_id, {}) if event.merge else {}
                found[event.item_id] = {**before, **event.attributes}
            elif isinstance(event, ItemRemoved):
                found.pop(event.item_id, None)
        return found  # type: ignore[return-value]

    def _check_where(self, request: wire.Request) -> None:
        from penchant.catalog.predicates import compile_where

        compile_where(request.where, self.schema)
