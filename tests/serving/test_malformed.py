"""Requests that are wrong in every way we could think of: each is refused with the fix, and nothing is taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from penchant.serving.http import create_app
from penchant.settings import Settings
from serving.calls import Caller
from serving.conftest import open_real
from serving.fake_engine import FakeEngine

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
EVENTS, RECOMMEND, ITEMS = "/v1/events", "/v1/recommendations", "/v1/items"
CLICK = {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click"}
ITEM = {"type": "item", "item_id": "i1", "attributes": {}}
SHOWN = {"type": "impression", "user_id": "u1", "items": [{"item_id": "i1"}]}


class Bad(NamedTuple):
    """One bad request; `reason` and `field` are what the answer must name."""

    name: str
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]
    status: int
    reason: str
    field: str | None = None


def post(name: str, path: str, body: bytes, status: int, reason: str, field: str | None = None, **headers: str) -> Bad:
    return Bad(name, "POST", path, body, {**JSON, **headers}, status, reason, field)


def event(name: str, raw: object, reason: str, field: str | None = None) -> Bad:
    return post(f"event: {name}", EVENTS, json.dumps({"events": [raw]}).encode(), 422, reason, field)


def request(name: str, raw: dict[str, Any] | str, reason: str, field: str | None = None, status: int = 400) -> Bad:
    body = raw if isinstance(raw, str) else json.dumps(raw)
    return post(f"request: {name}", RECOMMEND, body.encode(), status, reason, field)


def get(name: str, path: str, status: int, reason: str, field: str | None = None) -> Bad:
    return Bad(f"path: {name}", "GET", path, None, {}, status, reason, field)


DEEP = b"[" * 50_000
BODIES = [
    Bad(f"{name} to {path}", "POST", path, body, JSON, 400, reason)
    for path in (EVENTS, RECOMMEND, ITEMS)
    for name, body, reason in (
        ("nothing", b"", "invalid_json"),
        ("half an object", b'{"', "invalid_json"),
        ("a byte order mark", b"\xef\xbb\xbf{}", "invalid_json"),
        ("UTF-16", '{"events": []}'.encode("utf-16"), "invalid_json"),
        ("bytes that are not UTF-8", b'{"\xff\xfe": 1}', "invalid_utf8"),
        ("NUL bytes", b"\x00" * 64, "invalid_json"),
        ("single quotes", b"{'events': []}", "invalid_json"),
        ("a comma alone", b"{,}", "invalid_json"),
        ("a comment", b"{ /* none */ }", "invalid_json"),
        ("XML", b"<events/>", "invalid_json"),
        ("a form", b"events=1&n=2", "invalid_json"),
        ("null", b"null", "wrong_type"),
        ("a list", b"[]", "wrong_type"),
        ("a string", b'"events"', "wrong_type"),
        ("a number", b"7", "wrong_type"),
        ("an unknown field", b'{"evnets": []}', "unknown_field"),
    )
]
EVENT_BODIES = [
    post("no events", EVENTS, b"{}", 400, "missing", "events"),
    post("events that are an object", EVENTS, b'{"events": {}}', 400, "wrong_type", "events"),
    post("events that are null", EVENTS, b'{"events": null}', 400, "wrong_type", "events"),
    post("two documents", EVENTS, b'{"events": []} {}', 400, "invalid_json"),
    post("a trailing comma", EVENTS, b'{"events": [],}', 400, "invalid_json"),
    post("NaN", EVENTS, b'{"events": [{"value": NaN}]}', 400, "invalid_json"),
    post("Infinity", EVENTS, b'{"events": [{"value": -Infinity}]}', 400, "invalid_json"),
    post("a number beyond float64", EVENTS, b'{"events": [{"value": 1e999}]}', 400, "out_of_range"),
    post("a number of 5,000 digits", EVENTS, b'{"events": [%s]}' % (b"9" * 5_000), 400, "out_of_range"),
    post("a leading zero", EVENTS, b'{"events": [01]}', 400, "invalid_json"),
    post("a raw newline in a string", EVENTS, b'{"events": ["a\nb"]}', 400, "invalid_json"),
    post("half a surrogate pair", EVENTS, b'{"events": ["\\ud800"]}', 400, "invalid_json"),
    post("deep nesting", EVENTS, b'{"events": [' + DEEP, 400, "too_deep"),
    post("deep objects", EVENTS, b'{"events": [' + b'{"a":' * 50_000, 400, "too_deep"),
    post("a body over 1 MiB", EVENTS, b" " * 1_048_577, 413, "too_large"),
    post("1,001 events", EVENTS, json.dumps({"events": [CLICK] * 1_001}).encode(), 413, "too_many_events"),
    post(
        "1,001 items",
        ITEMS,
        json.dumps({"items": [{"item_id": "i", "attributes": {}}] * 1_001}).encode(),
        413,
        "too_many_events",
    ),
    Bad("1,001 lines", "POST", EVENTS, b"{}\n" * 1_001, LINES, 413, "too_many_events"),
    Bad("a body over 1 MiB of lines", "POST", EVENTS, b"{}\n" * 400_000, LINES, 413, "too_large"),
    Bad("lines that are no JSON", "POST", EVENTS, b"hello\nworld", LINES, 422, "invalid_json"),
    Bad("a line that is not UTF-8", "POST", EVENTS, b'"\xff"', LINES, 422, "invalid_utf8"),
    Bad("a line nested deeply", "POST", EVENTS, DEEP, LINES, 422, "too_deep"),
    Bad("a line that is a list", "POST", EVENTS, b"[]", LINES, 422, "wrong_type"),
]
HEADERS = [
    Bad("no content type", "POST", EVENTS, b'{"events": []}', {}, 415, "unsupported_media_type", "Content-Type"),
    Bad("text/plain", "POST", EVENTS, b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    Bad(
        "a form's type",
        "POST",
        RECOMMEND,
        b"a=1",
        {"content-type": "application/x-www-form-urlencoded"},
        415,
        "unsupported_media_type",
    ),
    Bad(
        "multipart",
        "POST",
        EVENTS,
        b"--x--",
        {"content-type": "multipart/form-data; boundary=x"},
        415,
        "unsupported_media_type",
    ),
    Bad(
        "a content type that is none", "POST", EVENTS, b"{}", {"content-type": ";;;/\t"}, 415, "unsupported_media_type"
    ),
    Bad("lines to recommendations", "POST", RECOMMEND, b"{}", LINES, 415, "unsupported_media_type"),
    Bad("lines to one item", "PUT", "/v1/items/i", b"{}", LINES, 415, "unsupported_media_type"),
    Bad(
        "another charset",
        "POST",
        EVENTS,
        b"{}",
        {"content-type": "application/json; charset=latin-1"},
        415,
        "unsupported_media_type",
    ),
    post(
        "gzip", EVENTS, b"\x1f\x8b\x08", 415, "unsupported_encoding", "Content-Encoding", **{"content-encoding": "gzip"}
    ),
    post("br", EVENTS, b"{}", 415, "unsupported_encoding", **{"content-encoding": "br"}),
    post("gzip twice", EVENTS, b"{}", 415, "unsupported_encoding", **{"content-encoding": "gzip, gzip"}),
    post("a length that lies upwards", EVENTS, b"{}", 413, "too_large", **{"content-length": "9" * 18}),
    post("a length beyond every machine", EVENTS, b"{}", 413, "too_large", **{"content-length": "9" * 400}),
]
EVENTS_ONE_BY_ONE = [
    event("a number", 1, "wrong_type"),
    event("null", None, "wrong_type"),
    event("a list", [CLICK], "wrong_type"),
    event("no type", {"user_id": "u"}, "missing", "type"),
    event("a type that is null", {"type": None}, "unknown_type", "type"),
    event("a type that is an object", {"type": {}}, "unknown_type", "type"),
    event("an unknown type", {"type": "click"}, "unknown_type", "type"),
    event("no user", {k: v for k, v in CLICK.items() if k != "user_id"}, "missing", "user_id"),
    event("no item", {k: v for k, v in CLICK.items() if k != "item_id"}, "missing", "item_id"),
    event("no action", {k: v for k, v in CLICK.items() if k != "action"}, "missing", "action"),
    event("an undeclared action", {**CLICK, "action": "clikc"}, "unknown_action", "action"),
    event("an action that is a list", {**CLICK, "action": ["click"]}, "unknown_action", "action"),
    event("an unknown field", {**CLICK, "usr": 1}, "unknown_field", "usr"),
    event("what the server writes itself", {**SHOWN, "served": {}}, "unknown_field", "served"),
    event("a numeric id", {**CLICK, "user_id": 7}, "wrong_type", "user_id"),
    event("an id that is null", {**CLICK, "item_id": None}, "wrong_type", "item_id"),
    event("an empty id", {**CLICK, "user_id": ""}, "invalid_id", "user_id"),
    event("an id of 129 characters", {**CLICK, "user_id": "x" * 129}, "invalid_id", "user_id"),
    event("an id of 900,000 characters", {**CLICK, "user_id": "x" * 900_000}, "invalid_id", "user_id"),
    event("an id with a newline at its end", {**CLICK, "user_id": "u1\n"}, "invalid_id", "user_id"),
    event("an id with a NUL", {**CLICK, "item_id": "a\x00b"}, "invalid_id", "item_id"),
    event("an id with an escape", {**CLICK, "item_id": "\x1b[2J"}, "invalid_id", "item_id"),
    event("an id with a C1 control", {**CLICK, "item_id": "\x85"}, "invalid_id", "item_id"),
    event("an event id that is empty", {**CLICK, "id": ""}, "invalid_id", "id"),
    event("an event id that is a number", {**CLICK, "id": 5}, "wrong_type", "id"),
    event("a value that is text", {**CLICK, "value": "12"}, "wrong_type", "value"),
    event("a value that is true", {**CLICK, "value": True}, "wrong_type", "value"),
    event("an absurd value", {**CLICK, "value": 1e300}, "out_of_range", "value"),
    event("an absurd negative value", {**CLICK, "value": -(10**18)}, "out_of_range", "value"),
    event("a time before 1970", {**CLICK, "ts": -1}, "invalid_time", "ts"),
    event("a time after 9999", {**CLICK, "ts": 10**18}, "invalid_time", "ts"),
    event("a time of 60 digits", {**CLICK, "ts": 10**18 - 1}, "invalid_time", "ts"),
    event("a time without a zone", {**CLICK, "ts": "2026-11-20T12:00:00"}, "invalid_time", "ts"),
    event("the 30th of February", {**CLICK, "ts": "2026-02-30T12:00:00Z"}, "invalid_time", "ts"),
    event("hour 25", {**CLICK, "ts": "2026-02-03T25:00:00Z"}, "invalid_time", "ts"),
    event("the year 0", {**CLICK, "ts": "0000-01-01T00:00:00Z"}, "invalid_time", "ts"),
    event("a time in words", {**CLICK, "ts": "yesterday"}, "invalid_time", "ts"),
    event("Arabic digits in a time", {**CLICK, "ts": "٢٠٢٦-11-20T12:00:00Z"}, "invalid_time", "ts"),
    event("a time that is a flag", {**CLICK, "ts": True}, "invalid_time", "ts"),
    event("a context that is a list", {**CLICK, "context": []}, "wrong_type", "context"),
    event(
        "an undeclared context key", {**CLICK, "context": {"weather": "rain"}}, "unknown_attribute", "context.weather"
    ),
    event("a context value of another kind", {**CLICK, "context": {"device": 1}}, "wrong_type", "context.device"),
    event("an impression of nothing", {**SHOWN, "items": []}, "out_of_range", "items"),
    event("an impression of strings", {**SHOWN, "items": ["i1"]}, "wrong_type", "items.0"),
    event("an impression of one item twice", {**SHOWN, "items": [{"item_id": "i"}] * 2}, "duplicate_item"),
    event("rank 0", {**SHOWN, "items": [{"item_id": "i", "rank": 0}]}, "out_of_range", "items.0.rank"),
    event("propensity 0", {**SHOWN, "items": [{"item_id": "i", "propensity": 0}]}, "out_of_range"),
    event("propensity 1.5", {**SHOWN, "items": [{"item_id": "i", "propensity": 1.5}]}, "out_of_range"),
    event("no attributes", {"type": "item", "item_id": "i"}, "missing", "attributes"),
    event("attributes that are a list", {**ITEM, "attributes": []}, "wrong_type", "attributes"),
    event("an undeclared attribute", {**ITEM, "attributes": {"tilte": "x"}}, "unknown_attribute", "attributes.tilte"),
    event("a title that is a number", {**ITEM, "attributes": {"title": 1}}, "wrong_type", "attributes.title"),
    event("a title of 20,000 characters", {**ITEM, "attributes": {"title": "x" * 20_000}}, "out_of_range"),
    event("tags that are one string", {**ITEM, "attributes": {"genres": "news"}}, "wrong_type", "attributes.genres"),
    event("tags of numbers", {**ITEM, "attributes": {"genres": [1]}}, "wrong_type", "attributes.genres.0"),
    event("300 tags", {**ITEM, "attributes": {"genres": [str(n) for n in range(300)]}}, "out_of_range"),
    event("a year that is text", {**ITEM, "attributes": {"year": "1999"}}, "wrong_type", "attributes.year"),
    event("a flag that is 1", {**ITEM, "attributes": {"adult": 1}}, "wrong_type", "attributes.adult"),
    event("nested attributes", {**ITEM, "attributes": {"title": {"en": "x"}}}, "wrong_type", "attributes.title"),
    event("listed that is text", {**ITEM, "listed": "yes"}, "wrong_type", "listed"),
    event("merge that is 1", {**ITEM, "merge": 1}, "wrong_type", "merge"),
    event("erasing nobody", {"type": "user_erased"}, "missing", "user_id"),
    event("a prototype's name", {**ITEM, "attributes": {"__proto__": 1}}, "unknown_attribute"),
]
REQUESTS = [
    request("an unknown field", {"user": "u1"}, "unknown_field", "user"),
    request("a user that is a number", {"user_id": 1}, "wrong_type", "user_id"),
    request("an empty user", {"user_id": ""}, "out_of_range", "user_id"),
    request("a user of 129 characters", {"user_id": "x" * 129}, "out_of_range", "user_id"),
    request("a user with a newline", {"user_id": "u\n"}, "invalid_id", "user_id"),
    request("an unknown surface", {"surface": "hmoe"}, "unknown_surface", "surface"),
    request("a surface that is null", {"surface": None}, "wrong_type", "surface"),
    request("n = 0", {"n": 0}, "out_of_range", "n"),
    request("n = -1", {"n": -1}, "out_of_range", "n"),
    request("n = 1,001", {"n": 1_001}, "out_of_range", "n"),
    request("n = 10^40", '{"n": 1%s}' % ("0" * 40), "out_of_range", "n"),
    request("n = 1.5", {"n": 1.5}, "wrong_type", "n"),
    request("n as text", {"n": "20"}, "wrong_type", "n"),
    request("n = true", {"n": True}, "wrong_type", "n"),
    request("n = NaN", '{"n": NaN}', "invalid_json"),
    request("items that are text", {"items": "i1"}, "wrong_type", "items"),
    request("1,001 items", {"items": ["i"] * 1_001}, "out_of_range", "items"),
    request("an item that is null", {"items": [None]}, "wrong_type", "items.0"),
    request("exclude that is an object", {"exclude": {}}, "wrong_type", "exclude"),
    request("an undeclared attribute in where", {"where": {"colour": "red"}}, "unknown_attribute", "where.colour"),
    request("where on a text", {"where": {"title": "x"}}, "not_filterable", "where.title"),
    request("where on a vector", {"where": {"embedding": [1, 0, 0]}}, "not_filterable", "where.embedding"),
    request("where that is a list", {"where": []}, "wrong_type", "where"),
    request("an unknown operator", {"where": {"price": {"=<": 1}}}, "unknown_operator"),
    request("an order of categories", {"where": {"category": {"lt": "a"}}}, "wrong_operator"),
    request("a price that is text", {"where": {"price": {"lte": "20"}}}, "wrong_type", "where.price.lte"),
    request("an empty condition", {"where": {"price": {}}}, "empty", "where.price"),
    request("a condition on null", {"where": {"price": None}}, "wrong_type", "where.price"),
    request("deep conditions", '{"where": {"price": %s' % ("[" * 50_000), "too_deep"),
    request("an undeclared context", {"context": {"weather": 1}}, "unknown_attribute", "context.weather"),
    request("a context of objects", {"context": {"device": {}}}, "wrong_type", "context.device"),
    request("undeclared fields", {"fields": ["tilte"]}, "unknown_attribute"),
    request("fields that are text", {"fields": "title"}, "wrong_type", "fields"),
    request("explain = 1", {"explain": 1}, "wrong_type", "explain"),
    request("record = text", {"record": "false"}, "wrong_type", "record"),
    request("after that is a number", {"after": 812}, "wrong_type", "after"),
    request("after in words", {"after": "latest"}, "invalid_token", "after"),
    request("after below zero", {"after": "-1"}, "invalid_token", "after"),
    request("after of 400 digits", {"after": "9" * 400}, "invalid_token", "after"),
    request("wait_ms below zero", {"wait_ms": -1}, "out_of_range", "wait_ms"),
    request("wait_ms of an hour", {"wait_ms": 3_600_000}, "out_of_range", "wait_ms"),
    request("a seed that is unknown", {"surface": "similar", "item_id": "nobody"}, "not_found", status=404),
]
PATHS = [
    get("an unknown path", "/v1/nothing", 404, "unknown_path"),
    get("the root", "/", 404, "unknown_path"),
    get("a path upwards", "/v1/items/..%2F..%2Fetc%2Fpasswd", 404, "not_found"),
    get("a double slash", "//v1/status", 404, "unknown_path"),
    get("a slash at the end", "/v1/status/", 404, "unknown_path"),
    get("an item without an id", "/v1/items/", 404, "unknown_path"),
    get("an unknown item", "/v1/items/nobody", 404, "not_found"),
    get("an unknown user", "/v1/users/nobody", 404, "not_found"),
    get("like an unknown item", "/v1/items/nobody/similar", 404, "not_found"),
    get("an id with a NUL", "/v1/items/a%00b", 400, "invalid_id", "item_id"),
    get("an id of 129 characters", f"/v1/items/{'x' * 129}", 400, "invalid_id", "item_id"),
    get("an id that is not UTF-8", "/v1/users/%FF%FE", 400, "invalid_utf8", "user_id"),
    get("an unknown parameter", "/v1/trending?limit=3", 400, "unknown_field", "limit"),
    get("a parameter twice", "/v1/trending?n=3&n=4", 400, "repeated", "n"),
    get("too many parameters", "/v1/trending?" + "&".join(f"a{n}=1" for n in range(50)), 400, "out_of_range"),
    get("a parameter that is not UTF-8", "/v1/trending?n=%FF", 400, "invalid_utf8"),
    get("n = 0", "/v1/trending?n=0", 400, "out_of_range", "n"),
    get("n in words", "/v1/trending?n=ten", 400, "wrong_type", "n"),
    get("n with a sign", "/v1/trending?n=%2B5", 400, "wrong_type", "n"),
    get("n with an underscore", "/v1/trending?n=1_0", 400, "wrong_type", "n"),
    get("n in Arabic digits", "/v1/trending?n=%D9%A5", 400, "wrong_type", "n"),
    get("n of 5,000 digits", f"/v1/trending?n={'9' * 5_000}", 400, "out_of_range", "n"),
    get("an empty n", "/v1/trending?n=", 400, "wrong_type", "n"),
    get("where that is no JSON", "/v1/trending?where=price", 400, "invalid_json", "where"),
    get("where that is a list", "/v1/trending?where=[]", 400, "wrong_type", "where"),
    get("where nested deeply", f"/v1/trending?where={'[' * 5_000}", 400, "wrong_type", "where"),
    get("where on nothing declared", "/v1/trending?where=%7B%22x%22%3A1%7D", 400, "unknown_attribute", "where.x"),
    get("a position in words", "/v1/status?position=now", 400, "invalid_token", "position"),
    get("a wait of an hour", "/v1/status?position=1&wait_ms=3600000", 400, "out_of_range", "wait_ms"),
    get("a body's path by GET", EVENTS, 405, "method_not_allowed"),
    Bad("DELETE of the batch", "DELETE", EVENTS, None, {}, 405, "method_not_allowed"),
    Bad("PUT of the status", "PUT", "/v1/status", b"{}", JSON, 405, "method_not_allowed"),
    Bad("TRACE", "TRACE", RECOMMEND, None, {}, 405, "method_not_allowed"),
    Bad("a method of no name", "PROPFIND", "/v1/items/i", None, {}, 405, "method_not_allowed"),
    Bad("PUT of an item that is a list", "PUT", "/v1/items/i", b"[]", JSON, 400, "wrong_type"),
    Bad(
        "PUT of another item",
        "PUT",
        "/v1/items/i",
        b'{"item_id":"j","attributes":{}}',
        JSON,
        400,
        "mismatch",
        "item_id",
    ),
    Bad(
        "PUT of a user as an item",
        "PUT",
        "/v1/items/i",
        b'{"type":"user","attributes":{}}',
        JSON,
        400,
        "mismatch",
        "type",
    ),
    Bad("PUT that merges", "PUT", "/v1/items/i", b'{"merge":true,"attributes":{}}', JSON, 400, "mismatch", "merge"),
    Bad("PUT without attributes", "PUT", "/v1/items/i", b"{}", JSON, 422, "missing", "attributes"),
    Bad("PATCH of nothing declared", "PATCH", "/v1/users/u", b'{"attributes":{"x":1}}', JSON, 422, "unknown_attribute"),
    Bad(
        "PUT of a user that is listed",
        "PUT",
        "/v1/users/u",
        b'{"listed":true,"attributes":{}}',
        JSON,
        422,
        "unknown_field",
    ),
    Bad(
        "a click among items", "POST", ITEMS, json.dumps({"items": [CLICK]}).encode(), JSON, 422, "unknown_type", "type"
    ),
    Bad("DELETE of an id with a newline", "DELETE", "/v1/items/a%0A", None, {}, 400, "invalid_id", "item_id"),
]
TABLE = [*BODIES, *EVENT_BODIES, *HEADERS, *EVENTS_ONE_BY_ONE, *REQUESTS, *PATHS]


@pytest.fixture(scope="module", params=["fake", "real"])
def engine(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    if request.param == "fake":
        yield FakeEngine(settings)
    else:
        with open_real(tmp_path_factory.mktemp("malformed")) as opened:
            yield opened


@pytest.fixture(scope="module")
def caller(engine: Any, settings: Settings) -> Caller:
    return Caller(create_app(engine, settings))


@pytest.mark.parametrize("bad", TABLE, ids=[bad.name for bad in TABLE])
def test_what_is_wrong_is_refused_with_the_fix(bad: Bad, caller: Caller, engine: Any) -> None:
    before = _log_end(engine)
    answer = caller(bad.method, bad.path, content=bad.body, headers=bad.headers)
    document = answer.json()
    assert answer.status_code == bad.status, document
    if answer.status_code == 422:
        assert answer.headers["content-type"] == "application/json"
        assert document["accepted"] == 0
        assert document.keys() == {"accepted", "duplicates", "rejected", "position"}
        errors = document["rejected"]
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert document.keys() == {"type", "title", "status", "detail", "errors"}
        assert document["status"] == bad.status
        assert document["detail"]
        errors = document["errors"]
    assert errors[0]["reason"] == bad.reason
    assert bad.field is None or errors[0]["field"] == bad.field
    assert all(error["message"] and len(error["message"]) < 500 for error in errors)
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    assert answer.headers["x-request-id"]
    assert _log_end(engine) == before


def _log_end(engine: Any) -> int:
    """The log's last position, once all that is on its way to it has arrived."""
    if isinstance(engine, FakeEngine):
        return engine.log.end()
    engine.engine.impressions.flush()
    end: int = engine.parts.log.end()
    return end


def test_the_table_is_long_and_its_names_are_distinct() -> None:
    assert len(TABLE) >= 100
    assert len({bad.name for bad in TABLE}) == len(TABLE)
