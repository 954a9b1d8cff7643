from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.errors import InvalidEvent
from penchant.core.events import (
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    Served,
    ShownItem,
    UserErased,
    UserUpdate,
    decode_event,
    encode_event,
    to_builtins,
)
from penchant.core.parse import check_event, format_time, parse_event, parse_time
from penchant.core.schema import Action, Attribute, Schema
from penchant.core.vectors import pack

KINDS = ("text", "tags", "category", "number", "timestamp", "flag")
SCHEMA = Schema(
    actions={"click": Action("click", 0), "watch": Action("watch", 1, value="seconds", scale=2)},
    item={kind: Attribute(kind, kind) for kind in KINDS}
    | {"year": Attribute("year", "number"), "vector": Attribute("vector", "vector", 2)},
    user={"country": Attribute("country", "category")},
    context={"device": Attribute("device", "category"), "hour": Attribute("hour", "number")},
)
CLICK = {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click"}
WATCH = {**CLICK, "action": "watch"}
SHOWN = {"type": "impression", "user_id": "u1", "items": [{"item_id": "i1"}]}
ITEM = {"type": "item", "item_id": "i1", "attributes": {}}
USER = {"type": "user", "user_id": "u1", "attributes": {}}


def item(**attributes):
    return {**ITEM, "attributes": attributes}


def test_every_type_in_full():
    assert parse_event(
        {**WATCH, "value": 3, "ts": 5, "id": "e", "request_id": "r", "context": {"device": "tv", "hour": 3}}, SCHEMA
    ) == Interaction(
        user_id="u1", item_id="i1", action="watch", value=3.0, ts=5, id="e", request_id="r",
        context={"device": "tv", "hour": 3},
    )  # fmt: skip
    assert parse_event(
        {
            **SHOWN,
            "items": [{"item_id": "i1", "rank": 1, "propensity": 1}, {"item_id": "i2"}],
            "surface": "home",
            "ts": "1970-01-01T00:00:00Z",
            "id": "e",
            "request_id": "r",
        },
        SCHEMA,
    ) == Impression(
        user_id="u1", items=[ShownItem("i1", 1, 1.0), ShownItem("i2")], surface="home", ts=0, id="e", request_id="r"
    )
    assert parse_event({**ITEM, "listed": False, "merge": True, "ts": 1, "id": "e"}, SCHEMA) == ItemUpdate(
        item_id="i1", attributes={}, listed=False, merge=True, ts=1, id="e"
    )
    assert parse_event({"type": "item_removed", "item_id": "i1", "ts": 1, "id": "e"}, SCHEMA) == ItemRemoved(
        item_id="i1", ts=1, id="e"
    )
    assert parse_event({**USER, "attributes": {"country": "se"}, "merge": True}, SCHEMA) == UserUpdate(
        user_id="u1", attributes={"country": "se"}, merge=True
    )
    assert parse_event({"type": "user_erased", "user_id": "u1", "id": "e"}, SCHEMA) == UserErased(user_id="u1", id="e")


def test_attributes_are_normalised():
    event = parse_event(
        item(
            text="Heat\n(1995)",
            tags=["crime", "drama", "crime"],
            category="mann",
            number=2**60,
            timestamp="1969-12-31T23:00:00-01:00",
            flag=False,
            year=1995,
            vector=[0.1, -1],
        ),
        SCHEMA,
    )
    assert event.attributes == {
        "text": "Heat\n(1995)",
        "tags": ["crime", "drama"],
        "category": "mann",
        "number": float(2**60),
        "timestamp": 0,
        "flag": False,
        "year": 1995,
        "vector": pack([0.1, -1]),
    }
    assert type(event.attributes["year"]) is int


def test_null_takes_away_in_a_merge_and_says_nothing_elsewhere():
    assert parse_event({**item(year=None, flag=True), "merge": True}, SCHEMA).attributes == {"year": None, "flag": True}
    assert parse_event(item(year=None, flag=True), SCHEMA).attributes == {"flag": True}
    nulls = {**CLICK, "value": None, "ts": None, "id": None, "request_id": None, "context": None}
    assert parse_event(nulls, SCHEMA) == parse_event(CLICK, SCHEMA)


def test_an_item_released_before_1970_is_welcome():
    assert parse_event(item(timestamp="1950-01-01T00:00:00Z"), SCHEMA).attributes == {"timestamp": -631_152_000_000}


REFUSED = [
    ([], "", "wrong_type"),
    ("text", "", "wrong_type"),
    (None, "", "wrong_type"),
    ({}, "type", "missing"),
    ({"type": "interactoin"}, "type", "unknown_type"),
    ({"type": 1}, "type", "unknown_type"),
    ({"type": ["item"]}, "type", "unknown_type"),
    ({**CLICK, "usr": 1}, "usr", "unknown_field"),
    ({**SHOWN, "served": {}}, "served", "unknown_field"),
    ({"type": "user_erased", "user_id": "u", "ts": 5}, "ts", "unknown_field"),
    ({**ITEM, "user_id": "u"}, "user_id", "unknown_field"),
    ({"type": "interaction", "item_id": "i1", "action": "click"}, "user_id", "missing"),
    ({"type": "interaction", "user_id": "u1", "action": "click"}, "item_id", "missing"),
    ({"type": "interaction", "user_id": "u1", "item_id": "i1"}, "action", "missing"),
    ({**CLICK, "user_id": None}, "user_id", "wrong_type"),
    ({**CLICK, "user_id": 7}, "user_id", "wrong_type"),
    ({**CLICK, "user_id": ""}, "user_id", "invalid_id"),
    ({**CLICK, "user_id": "x" * 129}, "user_id", "invalid_id"),
    ({**CLICK, "item_id": "a\nb"}, "item_id", "invalid_id"),
    ({**CLICK, "item_id": "a\x7f"}, "item_id", "invalid_id"),
    ({**CLICK, "item_id": "a\x85b"}, "item_id", "invalid_id"),
    ({**CLICK, "item_id": "\ud800"}, "item_id", "invalid_id"),
    ({**CLICK, "id": ""}, "id", "invalid_id"),
    ({**CLICK, "request_id": 3}, "request_id", "wrong_type"),
    ({**CLICK, "action": "clik"}, "action", "unknown_action"),
    ({**CLICK, "action": 1}, "action", "unknown_action"),
    ({**CLICK, "action": ["click"]}, "action", "unknown_action"),
    ({**CLICK, "value": "3"}, "value", "wrong_type"),
    ({**CLICK, "value": True}, "value", "wrong_type"),
    ({**CLICK, "value": float("nan")}, "value", "out_of_range"),
    ({**CLICK, "value": float("inf")}, "value", "out_of_range"),
    ({**CLICK, "value": 10**400}, "value", "out_of_range"),
    ({**CLICK, "value": 2**40 + 1}, "value", "out_of_range"),
    ({**WATCH, "value": 2**40 / 100 + 1}, "value", "out_of_range"),
    ({**CLICK, "ts": True}, "ts", "invalid_time"),
    ({**CLICK, "ts": 1.5}, "ts", "invalid_time"),
    ({**CLICK, "ts": -1}, "ts", "invalid_time"),
    ({**CLICK, "ts": 253_402_300_800_000}, "ts", "invalid_time"),
    ({**CLICK, "ts": "2026-11-20"}, "ts", "invalid_time"),
    ({**CLICK, "context": []}, "context", "wrong_type"),
    ({**CLICK, "context": {"devise": "tv"}}, "context.devise", "unknown_attribute"),
    ({**CLICK, "context": {"hour": "3"}}, "context.hour", "wrong_type"),
    ({**SHOWN, "items": []}, "items", "out_of_range"),
    ({**SHOWN, "items": {}}, "items", "wrong_type"),
    ({"type": "impression", "user_id": "u1"}, "items", "missing"),
    ({**SHOWN, "items": [{"item_id": str(index)} for index in range(1_001)]}, "items", "out_of_range"),
    ({**SHOWN, "items": ["i1"]}, "items.0", "wrong_type"),
    ({**SHOWN, "items": [{"item_id": "i1"}, {}]}, "items.1.item_id", "missing"),
    ({**SHOWN, "items": [{"item_id": "i1"}, {"item_id": "i1"}]}, "items.1.item_id", "duplicate_item"),
    ({**SHOWN, "items": [{"item_id": "i1", "score": 1}]}, "items.0.score", "unknown_field"),
    ({**SHOWN, "items": [{"item_id": "i1", "rank": 0}]}, "items.0.rank", "out_of_range"),
    ({**SHOWN, "items": [{"item_id": "i1", "rank": 2**31}]}, "items.0.rank", "out_of_range"),
    ({**SHOWN, "items": [{"item_id": "i1", "rank": 1.0}]}, "items.0.rank", "wrong_type"),
    ({**SHOWN, "items": [{"item_id": "i1", "rank": True}]}, "items.0.rank", "wrong_type"),
    ({**SHOWN, "items": [{"item_id": "i1", "propensity": 0}]}, "items.0.propensity", "out_of_range"),
    ({**SHOWN, "items": [{"item_id": "i1", "propensity": 1.01}]}, "items.0.propensity", "out_of_range"),
    ({**SHOWN, "items": [{"item_id": "i1", "propensity": float("nan")}]}, "items.0.propensity", "out_of_range"),
    ({"type": "item", "item_id": "i1"}, "attributes", "missing"),
    ({**ITEM, "attributes": None}, "attributes", "wrong_type"),
    ({**ITEM, "listed": 1}, "listed", "wrong_type"),
    ({**ITEM, "merge": "yes"}, "merge", "wrong_type"),
    (item(yaer=1), "attributes.yaer", "unknown_attribute"),
    (item(**{"\ud800\n": 1}), "attributes.'\\ud800\\n'", "unknown_attribute"),
    (item(year="1995"), "attributes.year", "wrong_type"),
    (item(year=True), "attributes.year", "wrong_type"),
    (item(year=float("-inf")), "attributes.year", "out_of_range"),
    (item(year=10**5_000), "attributes.year", "out_of_range"),
    (item(text=5), "attributes.text", "wrong_type"),
    (item(text="x" * 10_001), "attributes.text", "out_of_range"),
    (item(text="\udfff"), "attributes.text", "out_of_range"),
    (item(category=["a"]), "attributes.category", "wrong_type"),
    (item(category=""), "attributes.category", "out_of_range"),
    (item(category="x" * 257), "attributes.category", "out_of_range"),
    (item(tags="a,b"), "attributes.tags", "wrong_type"),
    (item(tags=["a", 1]), "attributes.tags.1", "wrong_type"),
    (item(tags=["a", ["b"]]), "attributes.tags.1", "wrong_type"),
    (item(tags=["x" * 257]), "attributes.tags.0", "out_of_range"),
    (item(tags=[str(index) for index in range(257)]), "attributes.tags", "out_of_range"),
    (item(timestamp="yesterday"), "attributes.timestamp", "invalid_time"),
    (item(timestamp=10**20), "attributes.timestamp", "invalid_time"),
    (item(flag=0), "attributes.flag", "wrong_type"),
    (item(vector=1.5), "attributes.vector", "wrong_type"),
    (item(vector={}), "attributes.vector", "wrong_type"),
    (item(vector=[]), "attributes.vector", "out_of_range"),
    (item(vector=[1.0, 2.0, 3.0]), "attributes.vector", "out_of_range"),
    (item(vector=[1.0, "2"]), "attributes.vector.1", "wrong_type"),
    (item(vector=[True, 1.0]), "attributes.vector.0", "wrong_type"),
    (item(vector=[None, 1.0]), "attributes.vector.0", "wrong_type"),
    (item(vector=[0.0, float("nan")]), "attributes.vector.1", "out_of_range"),
    (item(vector=[1e39, 0.0]), "attributes.vector.0", "out_of_range"),
    (item(vector=[0, 10**400]), "attributes.vector.1", "out_of_range"),
    (item(vector=pack([1, 2, 3])), "attributes.vector", "out_of_range"),
    (item(vector=pack([1, float("nan")])), "attributes.vector", "out_of_range"),
    (item(vector="ä"), "attributes.vector", "out_of_range"),
]


@pytest.mark.parametrize(("raw", "field", "reason"), REFUSED)
def test_refusals_name_field_and_reason(raw, field, reason):
    with pytest.raises(InvalidEvent) as caught:
        parse_event(raw, SCHEMA)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert caught.value.message
    assert len(caught.value.message) < 300
    f"{caught.value.field} {caught.value.message}".encode()


def test_hints_name_the_nearest():
    for raw, near in (
        ({**CLICK, "usr_id": 1}, "user_id"),
        ({**CLICK, "action": "clik"}, "click"),
        (item(yaer=1), "year"),
        ({"type": "interactoin"}, "interaction"),
    ):
        with pytest.raises(InvalidEvent, match=f"did you mean '{near}'"):
            parse_event(raw, SCHEMA)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.001z", 1),
        ("1970-01-01 00:00:00.0019-00:00", 1),
        ("1970-01-01T01:00:00.5+01:00", 500),
        ("1969-12-31T23:30:00-00:30", 0),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("2024-02-29T12:00:00.123456789Z", 1_709_208_000_123),
    ],
)
def test_times(text, millis):
    assert parse_time(text) == millis


@pytest.mark.parametrize(
    "value",
    ["", "2026-11-20T12:00:00", "20261120T120000Z", "2026-W01-1", "2026-02-29T00:00:00Z", "2026-01-01T24:00:00Z",
     "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "2026-01-01T00:00:00+24:00", "0000-01-01T00:00:00Z",
     "２026-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n", "2026-01-01T00:00:00.Z", None, 1.0, False, [], -1, "\ud800"],
)  # fmt: skip
def test_no_times(value):
    with pytest.raises(InvalidEvent) as caught:
        parse_time(value, "since")
    assert (caught.value.field, caught.value.reason) == ("since", "invalid_time")


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)), st.integers(-1_439, 1_439))  # noqa: DTZ001
def test_times_agree_with_the_library(naive, offset):
    moment = naive.replace(tzinfo=UTC)
    zoned = moment.astimezone(timezone(timedelta(minutes=offset)))
    millis = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time(zoned.isoformat()) == millis
    assert parse_time(format_time(millis)) == millis == parse_time(millis)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=20),
    st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=5),
    st.sampled_from(["interaction", "impression", "item", "user", "click", "watch", "2026-01-01T00:00:00Z"]),
)
FIELDS = """type user_id item_id action value ts id request_id context items surface attributes listed merge rank
propensity device hour country served"""
names = st.one_of(st.sampled_from([*FIELDS.split(), *KINDS, "vector"]), st.text(max_size=5))
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6), max_leaves=12
)
near_events = st.builds(
    lambda event, changes: {**event, **changes},
    st.sampled_from([CLICK, WATCH, SHOWN, ITEM, USER, {"type": "user_erased", "user_id": "u1"}]),
    st.dictionaries(names, json_values, max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(json_values, near_events))
def test_arbitrary_json_is_an_event_or_refused(raw):
    try:
        event = parse_event(raw, SCHEMA)
    except InvalidEvent as refusal:
        json.dumps([refusal.field, refusal.reason, refusal.message]).encode()
        f"{refusal.field}{refusal.message}".encode()
    else:
        assert decode_event(encode_event(event)) == event
        assert parse_event(to_builtins(event), SCHEMA) == event, "what goes out comes in again"
        assert check_event(event, SCHEMA) == event


def test_events_built_in_python_are_held_to_the_same():
    assert check_event(UserErased(user_id="u", ts=5), SCHEMA) == UserErased(user_id="u")
    assert check_event(Interaction(user_id="u", item_id="i", action="watch", value=3), SCHEMA).value == 3.0
    made = ItemUpdate(item_id="i", attributes={"timestamp": "1970-01-01T00:00:01Z"})
    assert check_event(made, SCHEMA).attributes == {"timestamp": 1_000}
    facts = Served(now=0, request=b"", position=0, items_position=0, items_time=0, artifact="", surface="",
                   columns="", features=b"", scores=b"")  # fmt: skip
    for event, field in (
        (Interaction(user_id="u", item_id="i", action="dance"), "action"),
        (Interaction(user_id=object(), item_id="i", action="click"), "user_id"),
        (Impression(user_id="u", items=[ShownItem("i", 0)]), "items.0.rank"),
        (Impression(user_id="u", items=[ShownItem("i")], served=facts), "served"),
        (msgspec.Raw(b"{}"), ""),
    ):
        with pytest.raises(InvalidEvent) as caught:
            check_event(event, SCHEMA)
        assert caught.value.field == field


def test_deep_nesting_is_refused_shallowly():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidEvent):
        parse_event(item(text=deep, tags=[deep]), SCHEMA)
    while deep:  # taken apart by hand: the interpreter's own way down is recursive
        deep = deep[0]
