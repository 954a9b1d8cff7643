"""What a process offers by its role: a collector takes events, a server answers, both say how they are."""

from __future__ import annotations

from typing import Any

import pytest

from penchant.serving.http import create_app
from penchant.serving.routes import Role
from penchant.settings import Settings
from serving.calls import Caller
from serving.fake_engine import FakeEngine

BOTH = {("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"), ("get", "/v1/status")}
WRITING = {
    ("post", "/v1/events"),
    ("post", "/v1/items"),
    *(
        (method, path)
        for path in ("/v1/items/{item_id}", "/v1/users/{user_id}")
        for method in ("put", "patch", "delete")
    ),
}
READING = {
    ("post", "/v1/recommendations"),
    ("get", "/v1/items/{item_id}/similar"),
    ("get", "/v1/trending"),
    ("get", "/v1/items/{item_id}"),
    ("get", "/v1/users/{user_id}"),
    ("get", "/v1/users/{user_id}/rows"),
}


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in document["paths"].items() for method in methods}


@pytest.mark.parametrize(
    ("role", "offered", "refused"),
    [
        ("up", WRITING | READING, set()),
        ("collect", WRITING, READING),
        ("serve", READING, WRITING),
        ("stream", set(), WRITING | READING),
    ],
)
def test_a_role_offers_its_routes_and_describes_no_others(
    fake: FakeEngine, settings: Settings, role: Role, offered: set[tuple[str, str]], refused: set[tuple[str, str]]
) -> None:
    call = Caller(create_app(fake, settings, role=role))
    assert operations(call("GET", "/openapi.json").json()) == offered | BOTH
    assert call("GET", "/docs").status_code == 200
    for method, path in offered | BOTH:
        answer = call(method.upper(), path.format(item_id="i1", user_id="u1"))
        assert "unknown-path" not in answer.text
        assert answer.status_code != 405
    for method, path in refused:
        answer = call(method.upper(), path.format(item_id="i1", user_id="u1"))
        assert answer.status_code in (404, 405)
        assert answer.headers["content-type"] == "application/problem+json"
