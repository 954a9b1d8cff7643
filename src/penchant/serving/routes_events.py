"""Calls that bring events: the batch, and the sugar over item and user events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from penchant.core.errors import InvalidRequest
from penchant.serving import wire
from penchant.serving.call import JSON, NDJSON, Call, Reply
from penchant.serving.ingest import Malformed, parse_lines
from penchant.serving.problems import Problem
from penchant.serving.routes import Route, Services

_events = msgspec.json.Decoder(wire.EventBatch)
_items = msgspec.json.Decoder(wire.ItemBatch)
_object = msgspec.json.Decoder(dict[str, Any])


class EventRoutes:
    """Handlers that end in `engine.send`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limit = services.settings.server.max_body_bytes
        self._most = services.settings.server.max_events

    def table(self) -> Sequence[Route]:
        """The routes."""
        item, user = "/v1/items/{item_id}", "/v1/users/{user_id}"
        return [
            Route(method="POST", path="/v1/events", handler=self.events, scope="ingest"),
            Route(method="POST", path="/v1/items", handler=self.items, scope="ingest"),
            Route(method="PUT", path=item, handler=self._sugar("item", "item_id", merge=False), scope="ingest"),
            Route(method="PATCH", path=item, handler=self._sugar("item", "item_id", merge=True), scope="ingest"),
            Route(method="DELETE", path=item, handler=self._without_body("item_removed", "item_id"), scope="ingest"),
            Route(method="PUT", path=user, handler=self._sugar("user", "user_id", merge=False), scope="ingest"),
            Route(method="PATCH", path=user, handler=self._sugar("user", "user_id", merge=True), scope="ingest"),
            Route(method="DELETE", path=user, handler=self._without_body("user_erased", "user_id"), scope="ingest"),
        ]

    async def events(self, call: Call) -> Reply:
        """`POST /v1/events`."""
        call.parameters()
        body = await call.body(self._limit, JSON, NDJSON)
        if call.content_type == NDJSON:
            return await self._send(lambda: parse_lines(body))
        return await self._send(lambda: wire.decode(_events, body).events)

    async def items(self, call: Call) -> Reply:
        """`POST /v1/items`."""
        call.parameters()
        body = await call.body(self._limit)
        return await self._send(lambda: [_as_item(raw) for raw in wire.decode(_items, body).items])

    def _sugar(self, kind: str, name: str, *, merge: bool) -> Callable[[Call], Any]:
        async def handler(call: Call) -> Reply:
            call.parameters()
            found = call.path_id(name)
            body = await call.body(self._limit)
            return await self._send(lambda: [_completed(wire.decode(_object, body), kind, name, found, merge)])

        return handler

    def _without_body(self, kind: str, name: str) -> Callable[[Call], Any]:
        async def handler(call: Call) -> Reply:
            call.parameters()
            event = {"type": kind, name: call.path_id(name)}
            return await self._send(lambda: [event])

        return handler

    async def _send(self, read: Callable[[], list[object]]) -> Reply:
        accepted = await self._services.writing.run(self._take, read)
        self._services.metrics.batch(accepted)
        refused = accepted.rejected and not accepted.accepted
        return Reply(wire.encode(accepted), 422 if refused else 202)

    def _take(self, read: Callable[[], list[object]]) -> wire.Accepted:
        events = read()
        if len(events) > self._most:
            text = f"{len(events)} events at once; send at most {self._most}, or raise max_events in [server]"
            raise Problem(413, "too_many_events", text)
        return self._services.engine.send(events)


def _as_item(raw: object) -> object:
    if not isinstance(raw, dict):
        return raw
    if raw.get("type", "item") != "item":
        return Malformed("unknown_type", "only items are taken here; leave `type` out or post to /v1/events", "type")
    return {**raw, "type": "item"}


def _completed(raw: dict[str, Any], kind: str, name: str, found: str, merge: bool) -> dict[str, Any]:
    """The event that a body and the id in its path make; raises `InvalidRequest` where they disagree."""
    for field, value in (("type", kind), (name, found), ("merge", merge)):
        if raw.get(field, value) != value:
            text = f"the call itself says {field} = {str(value)[:140]!r}; leave the field out of the body"
            raise InvalidRequest(field, "mismatch", text)
    event = {**raw, "type": kind, name: found}
    if merge:
        event = {"attributes": {}, **event, "merge": True}
    return event
