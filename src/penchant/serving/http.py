"""HTTP around an engine: every call comes in here, is checked, counted and answered here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from starlette import routing
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from penchant import __version__
from penchant.core.errors import PenchantError
from penchant.serving import openapi
from penchant.serving.auth import Keys, Scope
from penchant.serving.call import Call, Disconnected, Lane, Reply, request_id_of
from penchant.serving.metrics import Metrics
from penchant.serving.ports import EnginePort
from penchant.serving.problems import CONTENT_TYPE, Problem, internal, problem_of
from penchant.serving.routes import Role, Route, Services
from penchant.serving.routes_events import EventRoutes
from penchant.serving.routes_slates import SlateRoutes
from penchant.serving.routes_state import StateRoutes
from penchant.settings import Settings
from penchant.telemetry import logger

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


def create_app(
    engine: EnginePort,
    settings: Settings,
    keys: Keys | None = None,
    *,
    role: Role = "up",
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """The application: the routes of the public contract that belong to the role (all of them) over one engine.

    The caller opens the engine and closes it, after the application ends or in `lifespan`, which is left last.
    """
    keys = keys or Keys()
    services = Services(
        engine,
        settings,
        Metrics(),
        writing=Lane("ingest", threads=8, most=256),
        waiting=Lane("waiting", threads=32, most=256),
    )

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else nullcontext():
            yield
            services.writing.close()
            services.waiting.close()

    app = FastAPI(
        title="Penchant",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=life,
    )
    contract = [
        *SlateRoutes(services).table(),  # first, because routes are tried in order
        *EventRoutes(services).table(),
        *StateRoutes(services).table(),
    ]
    offered = [route for route in contract if route.offered(role)]
    document = openapi.document(settings, secured=bool(keys), offered=offered)
    app.openapi = lambda: document  # type: ignore[method-assign]
    table = [*offered, *openapi.routes(document)]
    for path in dict.fromkeys(route.path for route in table):
        methods = {route.method: route for route in table if route.path == path}
        app.router.routes.append(routing.Route(path, Endpoint(methods, keys, services.metrics)))
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(RawPath)
    return app


class Endpoint:
    """One path, as an ASGI application: authorises, runs the method's handler, turns every failure into a reply."""

    def __init__(self, routes: Mapping[str, Route], keys: Keys, metrics: Metrics) -> None:
        self._routes = dict(routes)
        if "GET" in routes:
            self._routes["HEAD"] = routes["GET"]
        self._allow = ", ".join(sorted(self._routes))
        self._path = next(iter(routes.values())).path
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one call."""
        started = time.perf_counter()
        call = Call(scope, receive)
        method: str = scope["method"]
        try:
            reply = await self._reply(call, method)
        except Disconnected:
            return
        await send_reply(send, reply, call.request_id, head=method == "HEAD")
        name = method if method in self._routes else "other"
        self._metrics.request(name, self._path, reply.status, (time.perf_counter() - started) * 1_000)

    async def _reply(self, call: Call, method: str) -> Reply:
        try:
            route = self._routes.get(method)
            if route is None:
                text = f"this path takes {self._allow}"
                raise Problem(405, "method_not_allowed", text, headers={"Allow": self._allow})
            if route.scope is not None and self._keys:
                self._authorise(call, route.scope)
            return await route.handler(call)
        except PenchantError as error:
            problem = problem_of(error)
            if problem is None:
                logger.exception("request %s failed", call.request_id)
                problem = internal(call.request_id)
        except Disconnected:
            raise
        except Exception:  # the top of HTTP: whatever it is, the caller gets an answer and the log the cause
            logger.exception("request %s failed", call.request_id)
            problem = internal(call.request_id)
        return reply_of(problem)

    def _authorise(self, call: Call, scope: Scope) -> None:
        sent = call.header(b"authorization")
        refusal = self._keys.refusal(None if sent is None else sent.decode("latin-1"), scope)
        if refusal == "forbidden":
            text = f"this key may not do that; use one with the scope {scope!r}"
            raise Problem(403, "forbidden", text, field="Authorization")
        if refusal is not None:
            challenge = 'Bearer realm="penchant"' + (', error="invalid_token"' if refusal == "unknown" else "")
            text = "send Authorization: Bearer KEY" + (
                " with a key that this server knows" if refusal == "unknown" else ""
            )
            raise Problem(401, f"{refusal}_key", text, field="Authorization", headers={"WWW-Authenticate": challenge})


class RawPath:
    """Matches `/v1/` paths as they were sent, so that `%2F` in an id is a part of the id; handlers decode ids."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the call on."""
        raw = scope.get("raw_path")
        if raw is not None and raw.startswith(b"/v1/") and b"%" in raw:
            scope = {**scope, "path": raw.decode("latin-1")}
        await self._app(scope, receive, send)


async def send_reply(send: Any, reply: Reply, request_id: str, *, head: bool = False) -> None:
    """Put a reply on the wire."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", request_id.encode()),
        *_ALWAYS,
        *((name.lower().encode(), value.encode()) for name, value in reply.headers.items()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})


def reply_of(problem: Problem) -> Reply:
    """A refusal as a reply."""
    return Reply(problem.document(), problem.status, CONTENT_TYPE, problem.headers)


async def _http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself refuses, above all unknown paths."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return _response(request, Problem(404, "unknown_path", "there is no such path; GET /openapi.json lists all"))
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _response(request, Problem(status, "refused", "GET /openapi.json says what is taken", headers=headers))


async def _unexpected(request: Request, error: Exception) -> Response:
    del error  # the framework logs it
    return _response(request, internal(request_id_of(None)))


def _response(request: Request, problem: Problem) -> Response:
    sent = request.headers.get("x-request-id")
    request_id = request_id_of(None if sent is None else sent.encode("latin-1"))
    headers = {"X-Request-Id": request_id, **{k.decode(): v.decode() for k, v in _ALWAYS}, **problem.headers}
    return Response(problem.document(), problem.status, headers, CONTENT_TYPE.decode())
