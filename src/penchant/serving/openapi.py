"""The OpenAPI document of a deployment, and a page that shows it; both follow from its settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from penchant import __version__
from penchant.serving import wire
from penchant.serving.call import Call, Reply
from penchant.serving.docs_page import render
from penchant.serving.routes import Route
from penchant.serving.schemas import ID, REF, Json, components
from penchant.settings import Settings

_PROBLEMS = {
    400: "What was sent cannot be read; `errors` names the field and the fix.",
    401: "No key was sent, or one that this server does not know.",
    403: "The key lacks the scope.",
    404: "There is no such item or user.",
    408: "The body took too long to arrive.",
    413: "The body is too long, or holds too many events.",
    415: "The body is not of a content type that is taken here.",
    500: "The server failed; its log has the cause under the request id.",
    503: "Not now: the log is full or too many call at once. Nothing was taken; `Retry-After` says when to come back.",
}
_BODY = (400, 408, 413, 415, 500, 503)
_TEXT: Json = {"text/plain": {"schema": {"type": "string"}}}


def document(settings: Settings, *, secured: bool, offered: Collection[Route] | None = None) -> Json:
    """The OpenAPI 3.1 document of the routes that are `offered` (all); `secured` when the server asks for keys."""
    paths = _paths()
    if offered is not None:
        kept = {(route.path, route.method.lower()) for route in offered}
        paths = {
            path: {method: operation for method, operation in methods.items() if (path, method) in kept}
            for path, methods in paths.items()
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Penchant: {settings.project.name}",
            "version": __version__,
            "description": "Events in, personalised slates out. Every answer carries `X-Request-Id`, the caller's own "
            "or a new one; every error is an RFC 9457 problem document that says how to mend what was asked.",
        },
        "paths": {path: _path(methods, secured) for path, methods in paths.items() if methods},
        "components": {
            "schemas": components(settings),
            **({"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if secured else {}),
        },
    }


def routes(published: Json) -> Sequence[Route]:
    """The document and its page; both open, as they hold no data."""
    as_json, page = msgspec.json.encode(published), render(published)

    async def openapi_json(call: Call) -> Reply:
        del call
        return Reply(as_json)

    async def docs(call: Call) -> Reply:
        del call
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Reply(page, content_type=b"text/html; charset=utf-8", headers=policy)

    return [
        Route(method="GET", path="/openapi.json", handler=openapi_json, scope=None),
        Route(method="GET", path="/docs", handler=docs, scope=None),
    ]


def _paths() -> dict[str, dict[str, Json]]:
    item, user = _path_id("item_id"), _path_id("user_id")
    where = {"name": "where", "in": "query", "content": {"application/json": {"schema": {"$ref": REF + "Where"}}}}
    selection = [_query("n", 1, wire.MAX_ITEMS, 20), {**where, "description": "Conditions as in a request."}]
    near = "Attributes of the context; that of `[sources] segment` asks for what is popular there."
    context = {"name": "context", "in": "query", "content": {"application/json": {"schema": {"$ref": REF + "Context"}}}}
    context = {**context, "description": near}
    row = [_query("n", 1, wire.MAX_ROWS, 3), _query("size", 1, wire.MAX_ROW, 10), selection[1]]
    position = {
        "name": "position",
        "in": "query",
        "description": "The `position` of an answer: wait until the state reflects it.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    }
    lines: Json = {
        "application/x-ndjson": {
            "schema": {"type": "array", "description": "An event a line.", "items": {"$ref": REF + "Event"}}
        }
    }
    slate, taken = {200: ("The slate.", "Answer")}, {202: ("Durable.", "Accepted"), 422: ("Nothing taken.", "Accepted")}
    return {
        "/v1/events": {
            "post": _operation("sendEvents", "Send events", "ingest", taken, _BODY, body="EventBatch", also=lines)
        },
        "/v1/recommendations": {
            "post": _operation("recommend", "Ask for a slate", "read", slate, (*_BODY, 404), body="Request")
        },
        "/v1/items": {"post": _operation("sendItems", "Send items", "ingest", taken, _BODY, body="ItemBatch")},
        "/v1/items/{item_id}": {
            "get": _operation(
                "getItem", "One item", "read", {200: ("The item.", "ItemAnswer")}, (400, 404, 500), parameters=item
            ),
            "put": _operation("putItem", "Replace an item", "ingest", taken, _BODY, parameters=item, body="ItemBody"),
            "patch": _operation(
                "patchItem", "Change an item", "ingest", taken, _BODY, parameters=item, body="ItemPatch"
            ),
            "delete": _operation("removeItem", "Remove an item", "ingest", taken, (400, 500, 503), parameters=item),
        },
        "/v1/items/{item_id}/similar": {
            "get": _operation(
                "similar", "Items like this one", "read", slate, (400, 404, 500), parameters=[*item, *selection]
            )
        },
        "/v1/trending": {
            "get": _operation(
                "trending", "What is on the rise", "read", slate, (400, 500), parameters=[*selection, context]
            )
        },
        "/v1/users/{user_id}": {
            "get": _operation(
                "getUser", "One user", "read", {200: ("Live.", "UserAnswer")}, (400, 404, 500), parameters=user
            ),
            "put": _operation(
                "putUser", "Replace a user's attributes", "ingest", taken, _BODY, parameters=user, body="UserBody"
            ),
            "patch": _operation("patchUser", "Change them", "ingest", taken, _BODY, parameters=user, body="UserPatch"),
            "delete": _operation("eraseUser", "Forget a user", "ingest", taken, (400, 500, 503), parameters=user),
        },
        "/v1/users/{user_id}/rows": {
            "get": _operation(
                "rows",
                "A row for each of the newest items that the user took",
                "read",
                {200: ("The rows.", "Rows")},
                (400, 500),
                parameters=[*user, *row],
            )
        },
        "/v1/status": {
            "get": _operation(
                "status",
                "Where the engine stands",
                "read",
                {200: ("The status.", "Status")},
                (400, 500, 503),
                parameters=[position, _query("wait_ms", 0, wire.MAX_WAIT_MS, 0)],
            )
        },
        "/healthz": {"get": _operation("health", "The process answers", None, {200: ("It does.", "")}, ())},
        "/readyz": {"get": _operation("ready", "Requests can be answered", None, {200: ("They can.", "")}, (503,))},
        "/metrics": {"get": _operation("metrics", "Prometheus text", "read", {200: ("Metrics.", _TEXT)}, (500,))},
    }


def _operation(
    name: str,
    summary: str,
    scope: str | None,
    answers: dict[int, tuple[str, Any]],
    problems: tuple[int, ...],
    *,
    parameters: Sequence[Json] = (),
    body: str | None = None,
    also: Json | None = None,
) -> Json:
    refused = (*problems, *((401, 403) if scope else ()))
    found: Json = {
        "operationId": name,
        "summary": summary,
        "responses": {
            **{str(status): {"description": text, "content": _content(of)} for status, (text, of) in answers.items()},
            **{str(status): _problem(status) for status in sorted(refused)},
        },
    }
    if scope:
        found["security"] = [{"key": [scope]}]
    if parameters:
        found["parameters"] = list(parameters)
    if body:
        found["requestBody"] = {"required": True, "content": {**_content(body), **(also or {})}}
    return found


def _path(methods: dict[str, Json], secured: bool) -> Json:
    """Without keys nothing is said of them."""
    if secured:
        return methods
    return {
        method: {
            **{key: value for key, value in operation.items() if key != "security"},
            "responses": {k: v for k, v in operation["responses"].items() if k not in {"401", "403"}},
        }
        for method, operation in methods.items()
    }


def _content(of: str | Json) -> Json:
    if isinstance(of, dict):
        return of
    return {"application/json": {"schema": {"$ref": REF + of} if of else {"type": "object"}}}


def _problem(status: int) -> Json:
    return {
        "description": _PROBLEMS[status],
        "content": {"application/problem+json": {"schema": {"$ref": REF + "ProblemDocument"}}},
    }


def _path_id(name: str) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": ID}]


def _query(name: str, least: int, most: int, default: int) -> Json:
    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return {"name": name, "in": "query", "schema": schema}
