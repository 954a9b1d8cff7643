"""Calls that answer with a slate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penchant.core.errors import InvalidRequest
from penchant.serving import wire
from penchant.serving.call import Call, Reply
from penchant.serving.routes import Route, Services

_object = msgspec.json.Decoder(dict[str, Any])


class SlateRoutes:
    """Handlers that end in `engine.recommend`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limit = services.settings.server.max_body_bytes

    def table(self) -> Sequence[Route]:
        """The routes."""
        return [
            Route(method="POST", path="/v1/recommendations", handler=self.recommendations),
            Route(method="GET", path="/v1/items/{item_id}/similar", handler=self.similar),
            Route(method="GET", path="/v1/trending", handler=self.trending),
            Route(method="GET", path="/v1/users/{user_id}/rows", handler=self.rows),
        ]

    async def recommendations(self, call: Call) -> Reply:
        """`POST /v1/recommendations`."""
        call.parameters()
        request = wire.decode_request(await call.body(self._limit))
        if request.after is None:
            # Well below a millisecond: a hop to a thread and back would cost as much as it saves.
            return self._reply(self._services.engine.recommend(request, request_id=call.request_id))
        recommend = self._services.engine.recommend
        return self._reply(await self._services.waiting.run(recommend, request, request_id=call.request_id))

    async def similar(self, call: Call) -> Reply:
        """`GET /v1/items/{item_id}/similar`."""
        item_id = call.path_id("item_id")
        n, where, _ = _selection(call)
        request = wire.Request(surface="similar", item_id=item_id, n=n, where=where)
        return self._reply(self._services.engine.recommend(request, request_id=call.request_id))

    async def rows(self, call: Call) -> Reply:
        """`GET /v1/users/{user_id}/rows`."""
        user_id = call.path_id("user_id")
        given = call.parameters("n", "size", "where")
        n = whole_number(given, "n", default=3, least=1, most=wire.MAX_ROWS)
        size = whole_number(given, "size", default=10, least=1, most=wire.MAX_ROW)
        rows = self._services.engine.rows  # several slates: too long for the event loop
        found = await self._services.waiting.run(rows, user_id, n, size, _where_of(given), request_id=call.request_id)
        for row in found.rows:
            self._services.metrics.answer(row.slate)
        return Reply(wire.encode(found))

    async def trending(self, call: Call) -> Reply:
        """`GET /v1/trending`: everywhere, or where `context` says the segment among people of it."""
        n, where, context = _selection(call, "context")
        surface = "trending_near" if self._services.settings.sources.segment in context else "trending"
        request = wire.Request(surface=surface, n=n, where=where, context=context)
        return self._reply(self._services.engine.recommend(request, request_id=call.request_id))

    def _reply(self, answer: wire.Answer) -> Reply:
        self._services.metrics.answer(answer)
        return Reply(wire.encode(answer))


def _selection(call: Call, *more: str) -> tuple[int, wire.Where, dict[str, Any]]:
    """The parameters `n`, `where` and, if it is among `more`, `context` (both JSON)."""
    given = call.parameters("n", "where", *more)
    n = whole_number(given, "n", default=20, least=1, most=wire.MAX_ITEMS)
    return n, _where_of(given), _json(given, "context") if "context" in given else {}


def _where_of(given: dict[str, str]) -> wire.Where:
    return _json(given, "where") if "where" in given else {}


def _json(given: dict[str, str], name: str) -> dict[str, Any]:
    try:
        return wire.decode(_object, given[name].encode())
    except InvalidRequest as error:
        field = f"{name}.{error.field}" if error.field else name
        raise InvalidRequest(field, error.reason, f"{name} is JSON in percent-encoding: {error.message}") from None


def whole_number(given: dict[str, str], name: str, *, default: int, least: int, most: int) -> int:
    """A whole number among query parameters; raises `InvalidRequest`."""
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest(name, "wrong_type", f"{name} is a whole number from {least} to {most}")
    if len(text) > 9 or not least <= int(text) <= most:
        raise InvalidRequest(name, "out_of_range", f"{name} must lie between {least} and {most}")
    return int(text)
