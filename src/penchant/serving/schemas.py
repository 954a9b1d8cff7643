"""JSON Schemas of what a deployment takes: the events and requests that its settings declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from penchant.core.schema import Attribute, Schema
from penchant.core.values import MAX_Q, MAX_TAG, MAX_TAGS, MAX_TEXT, MAX_TIME, MIN_TIME
from penchant.serving import wire
from penchant.serving.problems import ProblemDocument
from penchant.settings import Settings

Json = dict[str, Any]
REF = "#/components/schemas/"
ID: Json = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"}
_ANSWERS = (wire.Answer, wire.Rows, wire.Accepted, wire.ItemAnswer, wire.UserAnswer, wire.Status, ProblemDocument)
_BUILTIN_SURFACES = ("home", "similar", "trending", "because", "new_for_you")


def time_schema(earliest: int = 0) -> Json:
    """RFC 3339 text or integer milliseconds."""
    return {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "integer", "minimum": earliest, "maximum": MAX_TIME},
        ]
    }


_LABEL: Json = {"type": "string", "minLength": 1, "maxLength": MAX_TAG}
_NUMBER: Json = {"type": "number", "minimum": -1e308, "maximum": 1e308}
_MAX_FLOAT32 = 3.4028234663852886e38
_VALUES: Mapping[str, Json] = {
    "text": {"type": "string", "maxLength": MAX_TEXT},
    "category": _LABEL,
    "tags": {"type": "array", "items": _LABEL, "maxItems": MAX_TAGS},
    "number": _NUMBER,
    "timestamp": time_schema(MIN_TIME),
    "flag": {"type": "boolean"},
}
_COMPARED: Mapping[str, Json] = {**_VALUES, "category": {"type": "string"}, "tags": {"type": "string"}}
MAX_VALUES = 100
"""Values in one list of a condition."""


def components(settings: Settings) -> dict[str, Json]:
    """All schemas of the document, by name."""
    schema = Schema.of(settings)
    _, found = msgspec.json.schema_components(_ANSWERS, ref_template=REF + "{name}")
    return {
        **found,
        **_events(schema),
        "Request": _request(settings, schema),
        "Context": attributes(schema.context),
        "Where": _where(schema.item),
        "EventBatch": _batch("events", "Event", settings.server.max_events),
        "ItemBatch": _batch("items", "ItemRow", settings.server.max_events),
    }


def _batch(name: str, of: str, most: int) -> Json:
    rows = {"type": "array", "items": {"$ref": REF + of}, "maxItems": most}
    return _object({name: rows}, [name])


def _events(schema: Schema) -> dict[str, Json]:
    stamp: Json = {"ts": _nullable(time_schema()), "id": _nullable(ID)}
    item = {
        "attributes": attributes(schema.item),
        "listed": _nullable({"type": "boolean"}),
        "merge": _nullable({"type": "boolean"}),
        **stamp,
    }
    user = {"attributes": attributes(schema.user), "merge": _nullable({"type": "boolean"}), **stamp}
    shown = _object(
        {
            "item_id": ID,
            "rank": _nullable({"type": "integer", "minimum": 1, "maximum": 2**31 - 1}),
            "propensity": _nullable({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        },
        ["item_id"],
    )
    events = {
        "Impression": _event(
            "impression",
            {
                "user_id": ID,
                "items": {"type": "array", "items": shown, "minItems": 1, "maxItems": 1_000},
                "surface": _nullable(ID),
                "request_id": _nullable(ID),
                **stamp,
            },
            ["user_id", "items"],
        ),
        "ItemUpdate": _event("item", {"item_id": ID, **item}, ["item_id", "attributes"]),
        "ItemRemoved": _event("item_removed", {"item_id": ID, **stamp}, ["item_id"]),
        "UserUpdate": _event("user", {"user_id": ID, **user}, ["user_id", "attributes"]),
        "UserErased": _event("user_erased", {"user_id": ID, "id": _nullable(ID)}, ["user_id"]),
        **({"Interaction": _interaction(schema, stamp)} if schema.actions else {}),
    }
    return {
        **events,
        "Event": {"oneOf": [{"$ref": REF + name} for name in events]},
        "ItemRow": _object({"type": {"const": "item"}, "item_id": ID, **item}, ["item_id", "attributes"]),
        "ItemBody": _object(_without(item, "merge"), ["attributes"]),
        "ItemPatch": _object(_without(item, "merge"), []),
        "UserBody": _object(_without(user, "merge"), ["attributes"]),
        "UserPatch": _object(_without(user, "merge"), []),
    }


def _interaction(schema: Schema, stamp: Json) -> Json:
    """One shape per scale, because the scale bounds the value."""
    by_scale: dict[int, list[str]] = {}
    for action in schema.actions.values():
        by_scale.setdefault(action.scale, []).append(action.name)
    shapes = []
    for scale, names in by_scale.items():
        bound = MAX_Q // 10**scale
        fields = {
            "user_id": ID,
            "item_id": ID,
            "action": {"enum": names},
            "value": _nullable({"type": "number", "minimum": -bound, "maximum": bound}),
            "request_id": _nullable(ID),
            "context": _nullable(attributes(schema.context)),
            **stamp,
        }
        shapes.append(_event("interaction", fields, ["user_id", "item_id", "action"]))
    return shapes[0] if len(shapes) == 1 else {"oneOf": shapes}


def _request(settings: Settings, schema: Schema) -> Json:
    _, found = msgspec.json.schema_components([wire.Request], ref_template=REF + "{name}")
    request: Json = found["Request"]
    properties: Json = request["properties"]
    properties["surface"] = {"enum": surfaces(settings), "default": "home"}
    properties["where"] = {"$ref": REF + "Where"}
    properties["context"] = attributes(schema.context)
    properties["fields"] = {"type": "array", "items": {"enum": list(schema.item)}} if schema.item else {"maxItems": 0}
    return request


def surfaces(settings: Settings) -> list[str]:
    """The surfaces that requests may name."""
    near = ("trending_near",) if settings.sources.segment is not None else ()
    rising = ("rising",) if settings.sources.rising is not None else ()
    return sorted({*settings.surfaces, *_BUILTIN_SURFACES, *near, *rising})


def attributes(declared: Mapping[str, Attribute]) -> Json:
    """An object of declared attributes; null says no more than leaving the attribute out (in a merge: take it away)."""
    return _object({name: _nullable(_value(attribute)) for name, attribute in declared.items()}, [])


def _value(attribute: Attribute) -> Json:
    if attribute.kind != "vector":
        return _VALUES[attribute.kind]
    bounds = {"type": "number", "minimum": -_MAX_FLOAT32, "maximum": _MAX_FLOAT32}
    return {"type": "array", "items": bounds, "minItems": attribute.size, "maxItems": attribute.size}


def _where(declared: Mapping[str, Attribute]) -> Json:
    return _object(
        {
            name: _condition(_COMPARED[attribute.kind], ordered=attribute.kind in {"number", "timestamp"})
            for name, attribute in declared.items()
            if attribute.kind not in {"text", "vector"}
        },
        [],
    )


def _condition(value: Json, *, ordered: bool) -> Json:
    several = {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_VALUES}
    operators = {"eq": value, "ne": value, "in": several, "not_in": several}
    if ordered:
        operators |= dict.fromkeys(("lt", "lte", "gt", "gte"), value)
    return {"anyOf": [value, several, {**_object(operators, []), "minProperties": 1}]}


def _event(kind: str, fields: Json, required: list[str]) -> Json:
    return _object({"type": {"const": kind}, **fields}, ["type", *required])


def _object(properties: Json, required: list[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _without(fields: Json, name: str) -> Json:
    return {key: value for key, value in fields.items() if key != name}
