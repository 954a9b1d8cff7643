"""Calls that look at what is: one item, one user, where the engine stands."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penchant.serving import wire
from penchant.serving.call import Call, Reply
from penchant.serving.metrics import CONTENT_TYPE
from penchant.serving.problems import Problem
from penchant.serving.routes import Route, Services
from penchant.serving.routes_slates import whole_number


class StateRoutes:
    """Handlers that only read."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def table(self) -> Sequence[Route]:
        """The routes."""
        return [
            Route(method="GET", path="/v1/items/{item_id}", handler=self.item),
            Route(method="GET", path="/v1/users/{user_id}", handler=self.user),
            Route(method="GET", path="/v1/status", handler=self.status),
            Route(method="GET", path="/metrics", handler=self.metrics),
            Route(method="GET", path="/healthz", handler=self.health, scope=None),
            Route(method="GET", path="/readyz", handler=self.ready, scope=None),
        ]

    async def item(self, call: Call) -> Reply:
        """`GET /v1/items/{item_id}`."""
        call.parameters()
        return Reply(wire.encode(self._services.engine.item(call.path_id("item_id"))))

    async def user(self, call: Call) -> Reply:
        """`GET /v1/users/{user_id}`."""
        call.parameters()
        return Reply(wire.encode(self._services.engine.user(call.path_id("user_id"))))

    async def status(self, call: Call) -> Reply:
        """`GET /v1/status`."""
        given = call.parameters("position", "wait_ms")
        wait_ms = whole_number(given, "wait_ms", default=0, least=0, most=wire.MAX_WAIT_MS)
        engine = self._services.engine
        if "position" not in given:
            return Reply(wire.encode(engine.status()))
        position = given["position"]
        reached = engine.wait(position, 0)
        if not reached and wait_ms:
            reached = await self._services.waiting.run(engine.wait, position, wait_ms)
        return Reply(wire.encode(msgspec.structs.replace(engine.status(), reached=reached)))

    async def metrics(self, call: Call) -> Reply:
        """`GET /metrics`."""
        del call
        return Reply(self._services.metrics.render(self._services.engine.status()), content_type=CONTENT_TYPE)

    async def health(self, call: Call) -> Reply:
        """`GET /healthz`: the process answers."""
        del call
        return Reply(b'{"status":"ok"}')

    async def ready(self, call: Call) -> Reply:
        """`GET /readyz`: requests can be answered, or what is missing."""
        del call
        missing = self._services.engine.ready()
        if missing:
            raise Problem(503, "not_ready", f"missing: {'; '.join(missing)}", headers={"Retry-After": "1"})
        return Reply(b'{"status":"ready"}')
