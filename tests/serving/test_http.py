"""What holds for every call: request ids, keys, failures, bounds, counting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from penchant.core.errors import SettingsError
from penchant.serving import call as call_module
from penchant.serving.auth import Keys, check_bind, is_loopback, load_keys
from penchant.serving.http import create_app
from penchant.settings import Settings
from penchant.telemetry import REGISTRY
from serving.calls import Caller
from serving.fake_engine import FakeEngine

CLICK = {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click"}


@pytest.mark.parametrize("sent", ["abc", "a" * 128, "req:1/2?#~!"])
def test_a_request_id_is_echoed(fake_call: Caller, sent: str):
    for method, path in (("GET", "/healthz"), ("GET", "/nowhere"), ("PUT", "/v1/events"), ("GET", "/v1/items/x")):
        assert fake_call(method, path, headers={"x-request-id": sent}).headers["x-request-id"] == sent
    body = fake_call("POST", "/v1/recommendations", json={}, headers={"x-request-id": sent}).json()
    assert body["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "a" * 129, "a b", "ä", "a\x7f"])
def test_a_request_id_that_is_none_is_replaced(fake_call: Caller, sent: str):
    for path in ("/healthz", "/nowhere"):
        found = fake_call("GET", path, headers={"x-request-id": sent.encode("latin-1")}).headers["x-request-id"]
        assert len(found) == 32
        assert found != sent


def test_made_request_ids_differ(fake_call: Caller):
    assert len({fake_call("GET", "/healthz").headers["x-request-id"] for _ in range(20)}) == 20


class TestKeys:
    KEYS = Keys.parse("in:ingest, out:read, both:ingest+read, root:admin")

    @pytest.fixture
    def locked(self, fake: FakeEngine, settings: Settings) -> FastAPI:
        return create_app(fake, settings, self.KEYS)

    @pytest.mark.parametrize(
        ("key", "send", "ask"), [("in", 202, 403), ("out", 403, 200), ("both", 202, 200), ("root", 202, 200)]
    )
    def test_scopes(self, locked: FastAPI, key: str, send: int, ask: int):
        caller = Caller(locked, authorization=f"Bearer {key}")
        for method, path, body, status in (
            ("POST", "/v1/events", {"events": [CLICK]}, send),
            ("POST", "/v1/items", {"items": []}, send),
            ("PUT", "/v1/items/i", {"attributes": {}}, send),
            ("PATCH", "/v1/users/u", {"attributes": {}}, send),
            ("DELETE", "/v1/users/u9", None, send),
            ("POST", "/v1/recommendations", {}, ask),
            ("GET", "/v1/trending", None, ask),
            ("GET", "/v1/status", None, ask),
            ("GET", "/metrics", None, ask),
        ):
            answer = caller(method, path, **({} if body is None else {"json": body}))
            assert answer.status_code == status, (method, path)

    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer ", "Basic both", "both", "Bearer nobody", "Bearer boTh", "Bearer both,root"],
    )
    def test_strangers_are_refused_before_anything_is_read(self, locked: FastAPI, fake: FakeEngine, header: str | None):
        caller = Caller(locked) if header is None else Caller(locked, authorization=header)
        for path in ("/v1/events", "/v1/recommendations"):
            answer = caller("POST", path, content=b"not json")
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
        assert caller("GET", "/metrics").status_code == 401
        assert fake.log.events == []

    def test_what_is_open_without_a_key(self, locked: FastAPI):
        caller = Caller(locked)
        assert [caller("GET", path).status_code for path in ("/healthz", "/readyz", "/openapi.json", "/docs")] == [
            200
        ] * 4

    def test_every_other_published_call_needs_one(self, locked: FastAPI):
        caller = Caller(locked)
        document = caller("GET", "/openapi.json").json()
        assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                status = caller(method.upper(), path.replace("{", "").replace("}", "")).status_code
                assert (status == 401) == ("security" in operation), (method, path)

    def test_the_scheme_is_case_insensitive(self, locked: FastAPI):
        assert Caller(locked, authorization="bearer  out")("GET", "/v1/status").status_code == 200

    def test_keys_do_not_show(self):
        assert "both" not in repr(self.KEYS)

    @pytest.mark.parametrize(
        "text", ["key", "key:", ":read", "key:write", "key:read+", "a:read,b", "ke y:read", "ké:read"]
    )
    def test_what_is_no_list_of_keys(self, text: str):
        with pytest.raises(SettingsError) as caught:
            load_keys({"PENCHANT_KEYS": text})
        assert "key:write" not in str(caught.value)

    def test_a_key_may_hold_colons(self):
        assert load_keys({"PENCHANT_KEYS": "a:b:read"}).scopes("a:b") == {"read"}

    def test_none(self):
        assert not load_keys({})
        assert not load_keys({"PENCHANT_KEYS": " "})


def test_without_keys_only_loopback_is_bound():
    for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"):
        check_bind(host, Keys())
    for host in ("0.0.0.0", "::", "", "192.168.1.5", "example.org", "127.0.0.1.example.org", "2130706433"):
        assert not is_loopback(host)
        with pytest.raises(SettingsError, match="PENCHANT_KEYS"):
            check_bind(host, Keys())
        check_bind(host, Keys.parse("k:read"))


def test_a_full_log_takes_nothing_and_says_when_to_come_back(fake_call: Caller, fake: FakeEngine):
    fake.log.full = True
    answer = fake_call.send(CLICK)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["errors"][0]["reason"] == "log_full"
    assert fake_call.recommend().status_code == 200


@pytest.mark.parametrize(
    "error", [ValueError("secret detail"), KeyError("secret"), RecursionError("secret"), OSError("secret")]
)
def test_a_failure_is_logged_and_not_told(
    fake_call: Caller, fake: FakeEngine, error: Exception, caplog: pytest.LogCaptureFixture
):
    fake.broken = error
    with caplog.at_level(logging.ERROR, "penchant"):
        answer = fake_call("POST", "/v1/recommendations", json={}, headers={"x-request-id": "r-17"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "r-17" in answer.text
    assert "r-17" in caplog.text
    assert "secret" in caplog.text


def test_not_ready_says_what_is_missing(fake_call: Caller, fake: FakeEngine):
    fake.missing = ["state store: gone"]
    answer = fake_call("GET", "/readyz")
    assert answer.status_code == 503
    assert "state store: gone" in answer.json()["detail"]
    assert fake_call("GET", "/healthz").status_code == 200


def test_an_endless_body_is_cut_off(fake_app: FastAPI, settings: Settings):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    assert _stream(fake_app, endless()).status_code == 413
    assert sent <= settings.server.max_body_bytes + 2 * 65_536


def test_a_body_that_does_not_come_is_not_waited_for(fake_app: FastAPI, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(call_module, "BODY_SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    answer = _stream(fake_app, slow())
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"


def test_a_body_in_pieces_is_put_together(fake_app: FastAPI):
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"eve', b'nts"', b": []}"):
            yield piece

    assert _stream(fake_app, pieces()).status_code == 202


def test_a_body_as_long_as_allowed_is_taken(fake_call: Caller, settings: Settings):
    most = settings.server.max_body_bytes
    body = b'{"events": []}'.ljust(most)
    headers = {"content-type": "application/json"}
    assert fake_call("POST", "/v1/events", content=body, headers=headers).status_code == 202
    assert fake_call("POST", "/v1/events", content=body + b" ", headers=headers).status_code == 413


def test_a_caller_who_left_gets_no_answer(fake_app: FastAPI, fake: FakeEngine):
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events",
        "query_string": b"", "headers": headers, "scheme": "http", "server": ("server", 80),
    }  # fmt: skip
    asyncio.run(fake_app(scope, receive, send))
    assert said == []
    assert fake.log.events == []


def test_too_many_at_once_are_sent_away():
    async def crowd() -> list[Any]:
        lane = call_module.Lane("test", threads=1, most=2)
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> int:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
            return 1

        tasks = [asyncio.create_task(lane.run(wait)) for _ in range(3)]
        await asyncio.sleep(0.01)
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        lane.close()
        return [*results, await lane.run(int, "7")]

    *taken, refused, after_close = asyncio.run(crowd())
    assert taken == [1, 1]
    assert refused.status == 503
    assert after_close == 7


def test_what_is_counted(fake_call: Caller):
    fake_call.send(CLICK, {"type": "nope"}, {**CLICK, "id": "1"}, {**CLICK, "id": "1"})
    fake_call.recommend(after="999", wait_ms=0)
    fake_call("GET", "/v1/items/missing")
    fake_call("BREW", "/v1/events")
    answer = fake_call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    counted = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    for name, value in {
        ("penchant_events_total", "accepted"): 2,
        ("penchant_events_total", "duplicate"): 1,
        ("penchant_events_total", "rejected"): 1,
        ("penchant_events_rejected_total", "unknown_type"): 1,
        ("penchant_degraded_total", "stale"): 1,
        ("penchant_requests_total", "GET", "/v1/items/{item_id}", "404"): 1,
        ("penchant_requests_total", "other", "/v1/events", "405"): 1,
        ("penchant_request_milliseconds_count", "/v1/events"): 2,
        ("penchant_request_milliseconds_bucket", "+Inf", "/v1/events"): 2,
        ("penchant_lag_events",): 0,
        ("penchant_relayed_events_total",): REGISTRY.get_sample_value("penchant_relayed_events_total"),
    }.items():
        assert counted[name] == value, name
    assert "_created" not in answer.text


def test_answers_are_not_to_be_kept_or_guessed(fake_call: Caller):
    for path in ("/v1/status", "/nowhere"):
        headers = fake_call("GET", path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_runs_no_script(fake_call: Caller):
    page = fake_call("GET", "/docs")
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/v1/recommendations" in page.text


def _stream(app: FastAPI, body: AsyncIterator[bytes]) -> httpx.Response:
    """A body that is handed to the application piece by piece, as a server does."""
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(body), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events",
        "query_string": b"", "headers": headers, "scheme": "http", "server": ("server", 80),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return httpx.Response(said[0]["status"], headers=said[0]["headers"], content=said[1]["body"])
