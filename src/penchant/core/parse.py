"""From what a client sent to an event: strict, and every refusal names the field and the fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penchant.core.events import (
    AttributeValue,
    Event,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.schema import Attribute, Schema
from penchant.core.values import (
    ABSENT,
    MAX_Q,
    check_number,
    fail,
    format_time,
    hint,
    kind_of,
    parse_time,
    read_attributes,
    read_flag,
    read_id,
    read_optional_id,
    read_ts,
    refuse,
    safe_name,
    show,
)

__all__ = ["check_event", "format_time", "parse_event", "parse_time"]

MAX_SHOWN = 1_000
"""Items of one impression."""


def parse_event(raw: object, schema: Schema) -> Event:
    """The event that a JSON object of the public contract means.

    Timestamps become int milliseconds, values floats; the object is not kept. Raises `InvalidEvent` and nothing else,
    whatever `raw` is.

    >>> from penchant.core.schema import Action
    >>> parse_event({"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click",
    ...              "ts": "1970-01-01T00:00:01Z"}, Schema(actions={"click": Action("click", 0)}))
    Interaction(user_id='u1', item_id='i1', action='click', value=None, request_id=None, context={}, ts=1000, id=None)
    """
    if not isinstance(raw, dict):
        fail("", "wrong_type", f"an event is a JSON object, not {kind_of(raw)}")
    kind = raw.get("type", ABSENT)
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        if kind is ABSENT:
            fail("type", "missing", f"say which event it is: one of {', '.join(_PARSERS)}")
        fail("type", "unknown_type", f"{show(kind)} is no type of event; {hint(kind, _PARSERS)}")
    fields, parse = parser
    if not raw.keys() <= fields:
        unknown = next(name for name in raw if name not in fields)
        fail(
            safe_name(unknown),
            "unknown_field",
            f"{show(unknown)} is no field of {kind!r}; {hint(unknown, sorted(fields))}",
        )
    return parse(raw, schema)


def check_event(event: Event, schema: Schema) -> Event:
    """An event built in Python, checked and normalised as if it had come over the wire; raises `InvalidEvent`."""
    kind = _TAGS.get(type(event))
    if kind is None:
        fail("", "wrong_type", f"an event is one of {', '.join(t.__name__ for t in _TAGS)}, not {kind_of(event)}")
    raw: dict[str, Any] = {
        name: value for name in event.__struct_fields__ if (value := getattr(event, name)) is not None
    }
    raw["type"] = kind
    if isinstance(event, UserErased):
        raw.pop("ts", None)
    if isinstance(raw.get("items"), list):
        raw["items"] = [
            msgspec.structs.asdict(shown) if isinstance(shown, ShownItem) else shown for shown in raw["items"]
        ]
    return parse_event(raw, schema)


def _interaction(raw: dict[str, Any], schema: Schema) -> Interaction:
    user_id = read_id(raw, "user_id")
    item_id = read_id(raw, "item_id")
    name = raw.get("action", ABSENT)
    action = schema.actions.get(name) if isinstance(name, str) else None
    if action is None:
        if name is ABSENT:
            fail("action", "missing", f"say what the user did: {hint(None, schema.actions)}")
        fail("action", "unknown_action", f"{show(name)} is not declared in [actions]; {hint(name, schema.actions)}")
    value = raw.get("value")
    if value is not None:
        check_number(value, "value")
        if not -MAX_Q <= value * 10**action.scale <= MAX_Q:
            fail("value", "out_of_range", f"{show(value)} must lie within ±{MAX_Q / 10**action.scale:.0f}")
        value = float(value)
    context = raw.get("context")
    return Interaction(
        user_id=user_id,
        item_id=item_id,
        action=action.name,
        value=value,
        ts=read_ts(raw),
        id=read_optional_id(raw, "id"),
        request_id=read_optional_id(raw, "request_id"),
        context=read_attributes(context, schema.context, "context") if context is not None else {},
    )


def _impression(raw: dict[str, Any], _: Schema) -> Impression:
    user_id = read_id(raw, "user_id")
    items = raw.get("items", ABSENT)
    if not isinstance(items, list):
        refuse("items", items, "a list of objects with an item_id")
    if not 1 <= len(items) <= MAX_SHOWN:
        fail("items", "out_of_range", f"an impression shows 1 to {MAX_SHOWN:,} items, not {len(items):,}")
    shown = [_shown(item, f"items.{index}") for index, item in enumerate(items)]
    seen: set[str] = set()
    for index, item in enumerate(shown):
        if item.item_id in seen:
            fail(f"items.{index}.item_id", "duplicate_item", f"{show(item.item_id)} is shown twice; name it once")
        seen.add(item.item_id)
    return Impression(
        user_id=user_id,
        items=shown,
        surface=read_optional_id(raw, "surface"),
        request_id=read_optional_id(raw, "request_id"),
        ts=read_ts(raw),
        id=read_optional_id(raw, "id"),
    )


def _shown(raw: object, field: str) -> ShownItem:
    if not isinstance(raw, dict):
        refuse(field, raw, "an object with an item_id")
    if not raw.keys() <= _SHOWN:
        unknown = next(name for name in raw if name not in _SHOWN)
        fail(f"{field}.{safe_name(unknown)}", "unknown_field", f"{show(unknown)} is unknown; {hint(unknown, _SHOWN)}")
    item_id = read_id(raw, "item_id", f"{field}.")
    rank = raw.get("rank")
    if rank is not None:
        if not isinstance(rank, int) or isinstance(rank, bool):
            refuse(f"{field}.rank", rank, "a whole number from 1")
        if not 1 <= rank < 2**31:
            fail(f"{field}.rank", "out_of_range", f"ranks count from 1; {show(rank)} is none")
    propensity = raw.get("propensity")
    if propensity is not None:
        check_number(propensity, f"{field}.propensity")
        if not 0 < propensity <= 1:
            fail(f"{field}.propensity", "out_of_range", f"a probability in (0, 1], not {show(propensity)}")
        propensity = float(propensity)
    return ShownItem(item_id, rank, propensity)


def _item(raw: dict[str, Any], schema: Schema) -> ItemUpdate:
    merge = read_flag(raw, "merge") or False
    return ItemUpdate(
        item_id=read_id(raw, "item_id"),
        attributes=_required_attributes(raw, schema.item, merge),
        listed=read_flag(raw, "listed"),
        merge=merge,
        ts=read_ts(raw),
        id=read_optional_id(raw, "id"),
    )


def _item_removed(raw: dict[str, Any], _: Schema) -> ItemRemoved:
    return ItemRemoved(item_id=read_id(raw, "item_id"), ts=read_ts(raw), id=read_optional_id(raw, "id"))


def _user(raw: dict[str, Any], schema: Schema) -> UserUpdate:
    merge = read_flag(raw, "merge") or False
    return UserUpdate(
        user_id=read_id(raw, "user_id"),
        attributes=_required_attributes(raw, schema.user, merge),
        merge=merge,
        ts=read_ts(raw),
        id=read_optional_id(raw, "id"),
    )


def _user_erased(raw: dict[str, Any], _: Schema) -> UserErased:
    return UserErased(user_id=read_id(raw, "user_id"), id=read_optional_id(raw, "id"))


def _required_attributes(
    raw: dict[str, Any], declared: Mapping[str, Attribute], merge: bool
) -> dict[str, AttributeValue]:
    return read_attributes(raw.get("attributes", ABSENT), declared, "attributes", merge=merge)


_SHOWN = frozenset({"item_id", "rank", "propensity"})
_PARSERS: dict[str, tuple[frozenset[str], Callable[[dict[str, Any], Schema], Event]]] = {
    name: (frozenset(f"type id {fields}".split()), parse)
    for name, fields, parse in (
        ("interaction", "user_id item_id action value ts request_id context", _interaction),
        ("impression", "user_id items surface ts request_id", _impression),
        ("item", "item_id attributes listed merge ts", _item),
        ("item_removed", "item_id ts", _item_removed),
        ("user", "user_id attributes merge ts", _user),
        ("user_erased", "user_id", _user_erased),
    )
}
_TAGS: dict[type, str] = {
    Interaction: "interaction",
    Impression: "impression",
    ItemUpdate: "item",
    ItemRemoved: "item_removed",
    UserUpdate: "user",
    UserErased: "user_erased",
}
