"""The public contract, literally: its examples are sent and its shapes are looked for in the answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from serving.calls import Caller

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
EXAMPLE = """
{"user_id": "u1", "surface": "home", "n": 20,
 "item_id": "i9",
 "items": ["i1", "i2"],
 "exclude": ["i3"], "where": {"category": ["news"], "price": {"lte": 20}},
 "context": {"device": "tv"}, "fields": ["title"], "explain": false, "record": true,
 "after": "%s", "wait_ms": 50}
"""
EVENTS: list[dict[str, Any]] = [
    {"type": "item", "item_id": "i1", "attributes": {"title": "Ronin", "category": "news", "price": 12.5}},
    {"type": "item", "item_id": "i2", "attributes": {"title": "Heat", "category": "news", "price": 7}, "listed": True},
    {
        "type": "item",
        "item_id": "i3",
        "attributes": {"genres": ["crime", "drama"], "released_at": "1995-12-15T00:00:00Z"},
    },
    {"type": "item", "item_id": "i9", "attributes": {}},
    {"type": "item", "item_id": "i1", "attributes": {"year": 1998}, "merge": True, "id": "e1"},
    {"type": "user", "user_id": "u1", "attributes": {"country": "FR"}, "ts": 1_700_000_000_000},
    {
        "type": "interaction",
        "user_id": "u1",
        "item_id": "i2",
        "action": "watch",
        "value": 61,
        "id": "e2",
        "request_id": "r1",
        "context": {"device": "tv"},
    },
    {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click"},
    {
        "type": "impression",
        "user_id": "u1",
        "items": [{"item_id": "i1", "rank": 1, "propensity": 0.5}, {"item_id": "i2"}],
        "surface": "home",
        "request_id": "r1",
    },
]
LINES = {"content-type": "application/x-ndjson"}


@pytest.fixture
def position(call: Caller) -> str:
    """The contract's events, sent and folded; the token of the last."""
    answer = call.send(*EVENTS)
    assert answer.status_code == 202
    token = answer.json()["position"]
    assert call("GET", f"/v1/status?position={token}&wait_ms=5000").json()["reached"] is True
    return str(token)


def test_every_type_of_event_is_taken(call: Caller):
    answer = call.send(*EVENTS, {"type": "item_removed", "item_id": "i3"}, {"type": "user_erased", "user_id": "u2"})
    body = answer.json()
    assert answer.status_code == 202
    assert body.keys() == {"accepted", "duplicates", "rejected", "position"}
    assert (body["accepted"], body["duplicates"], body["rejected"]) == (len(EVENTS) + 2, 0, [])
    assert isinstance(body["position"], str)


def test_the_same_id_again_is_a_duplicate(call: Caller):
    click = {"type": "interaction", "user_id": "u", "item_id": "i", "action": "click", "id": "once"}
    assert call.send(click, click).json()["accepted"] == 1
    again = call.send(click)
    assert again.status_code == 202
    assert (again.json()["accepted"], again.json()["duplicates"]) == (0, 1)


def test_bad_events_are_named_and_good_ones_taken(call: Caller):
    answer = call.send({"type": "item", "item_id": "i", "attributes": {}}, {"type": "itme", "id": "e7"})
    assert answer.status_code == 202
    (rejected,) = answer.json()["rejected"]
    assert rejected.keys() == {"index", "id", "field", "reason", "message"}
    assert (rejected["index"], rejected["id"], rejected["field"]) == (1, "e7", "type")


def test_422_carries_the_same_body(call: Caller):
    answer = call.send({"type": "itme"})
    assert answer.status_code == 422
    assert answer.json().keys() == {"accepted", "duplicates", "rejected", "position"}


def test_no_events_are_no_error(call: Caller):
    assert call.send().status_code == 202


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_an_event_a_line(call: Caller, end: str):
    body = "\n".join(json.dumps(event) for event in EVENTS) + end
    answer = call("POST", "/v1/events", content=body.encode(), headers=LINES)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == len(EVENTS)


def test_a_bad_line_does_not_spoil_the_others(call: Caller):
    lines = [json.dumps(EVENTS[0]), "{nonsense", "", json.dumps(EVENTS[1])]
    answer = call("POST", "/v1/events", content="\n".join(lines).encode(), headers=LINES)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert [(one["index"], one["reason"]) for one in answer.json()["rejected"]] == [
        (1, "invalid_json"),
        (2, "invalid_json"),
    ]


def test_the_example_request_is_answered(call: Caller, position: str):
    answer = call(
        "POST", "/v1/recommendations", content=EXAMPLE % position, headers={"content-type": "application/json"}
    )
    body = answer.json()
    assert answer.status_code == 200, body
    assert body.keys() == {
        "request_id", "surface", "position", "artifact", "experiment", "items", "degraded", "trace",
    }  # fmt: skip
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["surface"] == "home"
    assert int(body["position"]) >= int(position)
    assert "stale" not in body["degraded"]
    assert body["trace"] is None
    assert {item["item_id"] for item in body["items"]} <= {"i1", "i2"}
    for rank, item in enumerate(body["items"], start=1):
        assert item.keys() == {"item_id", "rank", "score", "propensity", "sources", "reason", "attributes"}
        assert item["rank"] == rank
        assert item["reason"].keys() == {"kind", "item_id", "text"}
        assert item["reason"]["text"]
        assert 0 < item["propensity"] <= 1
        assert item["attributes"].keys() == {"title"}


def test_nothing_needs_to_be_said_for_a_slate(call: Caller, position: str):
    answer = call.recommend()
    assert answer.status_code == 200
    assert answer.json()["surface"] == "home"


def test_a_session_is_a_user_of_its_own(call: Caller, position: str):
    assert call.recommend(session_id="s1").status_code == 200


def test_explain_brings_the_trace(call: Caller, position: str):
    trace = call.recommend(user_id="u2", explain=True, record=False).json()["trace"]
    assert trace.keys() == {"stages", "items"}
    for stage in trace["stages"]:
        assert {"kind", "name", "ms", "rows_in", "rows_out", "dropped"} <= stage.keys()


def test_after_a_position_that_is_not_there_yet_says_stale(call: Caller, position: str):
    answer = call.recommend(user_id="u1", after=str(int(position) + 1_000_000), wait_ms=5)
    assert answer.status_code == 200
    assert "stale" in answer.json()["degraded"]


def test_one_item(call: Caller, position: str):
    body = call("GET", "/v1/items/i2").json()
    assert body.keys() == {"item_id", "attributes", "listed", "counters", "features"}
    assert body["attributes"]["title"] == "Heat"
    assert body["listed"] is True
    assert body["counters"]["watch"] == 1


def test_put_patch_and_delete_of_an_item(call: Caller):
    assert call("PUT", "/v1/items/i5", json={"attributes": {"title": "Heat", "year": 1995}}).status_code == 202
    assert call("PATCH", "/v1/items/i5", json={"attributes": {"year": 1996}}).json()["accepted"] == 1
    answer = call("PATCH", "/v1/items/i5", json={"listed": True})
    assert _settled(call, answer)("GET", "/v1/items/i5").json()["attributes"] == {"title": "Heat", "year": 1996}
    answer = call("PUT", "/v1/items/i5", json={"attributes": {"title": "Ronin"}, "id": "put-1"})
    assert _settled(call, answer)("GET", "/v1/items/i5").json()["attributes"] == {"title": "Ronin"}
    assert call("PUT", "/v1/items/i5", json={"attributes": {}, "id": "put-1"}).json()["duplicates"] == 1
    answer = call("DELETE", "/v1/items/i5")
    assert answer.status_code == 202
    assert _settled(call, answer)("GET", "/v1/items/i5").status_code == 404


def test_many_items_at_once(call: Caller):
    rows = [{"item_id": "a", "attributes": {"title": "A"}}, {"item_id": "b", "attributes": {}, "listed": False}, {}]
    answer = call("POST", "/v1/items", json={"items": rows})
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert answer.json()["rejected"][0]["index"] == 2


def test_an_id_may_hold_anything_but_control_characters(call: Caller):
    for item_id in ("a/b", "a b", "50%", "%2F", "ünï", "similar", "?x=1#y", "..", "🎬"):
        path = "/v1/items/" + "".join(f"%{byte:02X}" for byte in item_id.encode())
        assert call("PUT", path, json={"attributes": {}}).status_code == 202
        answer = call("PATCH", path, json={"attributes": {"title": "T"}})
        assert _settled(call, answer)("GET", path).json()["item_id"] == item_id
        assert call("GET", f"{path}/similar?n=1").status_code == 200


def test_one_user(call: Caller, position: str):
    body = call("GET", "/v1/users/u1").json()
    assert body.keys() == {"user_id", "attributes", "counters", "recent", "features", "position"}
    assert body["attributes"] == {"country": "FR"}
    assert (body["counters"]["click"], body["counters"]["watch"]) == (1, 1)
    assert {one["item_id"] for one in body["recent"]} == {"i1", "i2"}
    for one in body["recent"]:
        assert one.keys() == {"item_id", "action", "value", "ts"}
        assert RFC3339.fullmatch(one["ts"])
    assert {one["action"]: one["value"] for one in body["recent"]}["watch"] == 61


def test_put_patch_and_delete_of_a_user(call: Caller):
    call("PUT", "/v1/users/u7", json={"attributes": {"country": "FR", "age": 30}})
    answer = call("PATCH", "/v1/users/u7", json={"attributes": {"age": 31}})
    assert _settled(call, answer)("GET", "/v1/users/u7").json()["attributes"] == {"country": "FR", "age": 31}
    answer = call("DELETE", "/v1/users/u7")
    assert _settled(call, answer)("GET", "/v1/users/u7").status_code == 404


def test_slates_by_get(call: Caller, position: str):
    similar = call("GET", "/v1/items/i1/similar?n=3")
    assert similar.status_code == 200
    assert similar.json()["surface"] == "similar"
    assert "i1" not in {item["item_id"] for item in similar.json()["items"]}
    trending = call("GET", "/v1/trending", params={"n": "2", "where": '{"price": {"lte": 20}}'})
    assert trending.status_code == 200
    assert trending.json()["surface"] == "trending"
    assert len(trending.json()["items"]) <= 2
    here = call("GET", "/v1/trending", params={"n": "2", "context": '{"device": "tv"}'})
    assert here.status_code == 200


def test_rows_because_of_what_was_taken(call: Caller, position: str):
    answer = call("GET", "/v1/users/u1/rows", params={"n": "2", "size": "1", "where": '{"price": {"lte": 20}}'})
    assert answer.status_code == 200
    page = answer.json()
    assert page["user_id"] == "u1"
    assert len(page["rows"]) <= 2
    assert len({row["slate"]["request_id"] for row in page["rows"]}) == len(page["rows"])
    shown = [item["item_id"] for row in page["rows"] for item in row["slate"]["items"]]
    assert len(set(shown)) == len(shown)
    assert all(row["reason"]["kind"] == "because" for row in page["rows"])
    assert call("GET", "/v1/users/nobody/rows").json() == {"user_id": "nobody", "rows": []}


def test_the_status(call: Caller, position: str):
    body = call("GET", "/v1/status").json()
    assert body.keys() == {"position", "lag_events", "lag_ms", "items", "users", "artifact", "outbox", "build"}
    assert body["outbox"] == {"pending": 0}
    beyond = call("GET", f"/v1/status?position={int(position) + 1_000_000}&wait_ms=5").json()
    assert beyond["reached"] is False


def test_health_readiness_and_pages(call: Caller):
    assert call("GET", "/healthz").status_code == 200
    assert call("GET", "/readyz").status_code == 200
    assert "penchant_lag_events" in call("GET", "/metrics").text
    assert call("GET", "/docs").headers["content-type"].startswith("text/html")
    assert call("HEAD", "/v1/status").content == b""


def test_every_route_of_the_contract_is_published(call: Caller):
    paths = call("GET", "/openapi.json").json()["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} >= {
        ("/v1/events", "post"),
        ("/v1/recommendations", "post"),
        ("/v1/items", "post"),
        ("/v1/items/{item_id}", "get"),
        ("/v1/items/{item_id}", "put"),
        ("/v1/items/{item_id}", "patch"),
        ("/v1/items/{item_id}", "delete"),
        ("/v1/items/{item_id}/similar", "get"),
        ("/v1/trending", "get"),
        ("/v1/users/{user_id}", "get"),
        ("/v1/users/{user_id}/rows", "get"),
        ("/v1/users/{user_id}", "put"),
        ("/v1/users/{user_id}", "patch"),
        ("/v1/users/{user_id}", "delete"),
        ("/v1/status", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }


def _settled(call: Caller, answer: Any) -> Caller:
    """The caller, once the state reflects what was just taken."""
    token = answer.json()["position"]
    assert call("GET", f"/v1/status?position={token}&wait_ms=5000").json()["reached"] is True
    return call
