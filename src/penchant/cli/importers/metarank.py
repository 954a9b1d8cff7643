"""Metarank's event format (https://docs.metarank.ai/reference/event-schema), one JSON event a line, also .gz.

| metarank | here |
|---|---|
| `item` | `item` that merges: fields become attributes of the same names |
| `user` | `user` that merges |
| `ranking` | `impression` with the ranking's id as `request_id` and ranks from 1; `surface` is "metarank" |
| `interaction` | `interaction`: `type` is the action, `ranking` the `request_id` |

Ids stay what they are. An event without `user` belongs to its `session`. Fields of rankings and of ranked items are
features that the peer was given and that are computed here; they are left out. Kinds of attributes are told from the
values: texts that recur are categories, lists are tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penchant.cli.importers.declare import Kinds, plain_actions, to_toml
from penchant.cli.importers.ordered import ordered_lines
from penchant.cli.importers.source import Import, InvalidSource, Options, Rejections, read_lines
from penchant.core.errors import InvalidEvent
from penchant.core.events import Event
from penchant.core.parse import parse_event
from penchant.core.schema import Attribute, Schema
from penchant.core.values import kind_of
from penchant.settings import parse

_TYPES = ("item", "user", "ranking", "interaction")


def open(source: Path, options: Options) -> Import:
    """Read the source twice: once for its order and kinds, once for its events. `--map` renames actions."""
    items, users = Kinds(), Kinds()
    actions: dict[str, bool] = {}
    times: list[int | None] = []
    for _, line in read_lines(source):
        raw = _decoded(line)
        times.append(_time(raw))
        match raw.get("event"):
            case "item":
                _add_all(items, raw)
            case "user":
                _add_all(users, raw)
            case "interaction" if isinstance(raw.get("type"), str):
                actions[options.mapping.get(raw["type"], raw["type"])] = False
    item_kinds, user_kinds = items.known(), users.known()
    hint = to_toml(plain_actions(actions), item_kinds, user_kinds)
    schema = options.schema or Schema.of(parse(hint))
    missing = sorted(actions.keys() - schema.actions.keys())
    if missing:
        raise InvalidSource(
            f"{source} has the action {missing[0]!r}: declare it in [actions], or pass --map {missing[0]}=ACTION "
            f"(there are: {', '.join(schema.actions)})"
        )
    rejected = Rejections()
    events = _events(source, times, schema, options.mapping, rejected)
    return Import(settings_toml_hint=hint, total=len(times), events=events, rejected=rejected)


def _events(
    source: Path, times: list[int | None], schema: Schema, mapping: Mapping[str, str], rejected: Rejections
) -> Iterator[Event]:
    for number, line in ordered_lines(source, times):
        try:
            yield parse_event(_translated(_decoded(line), schema, mapping), schema)
        except InvalidEvent as error:
            rejected.add(f"line {number}", error)


def _translated(raw: dict[str, Any], schema: Schema, mapping: Mapping[str, str]) -> dict[str, Any]:
    """The event in our own words; what is missing is left for the parser to name."""
    kind = raw.get("event")
    common = {"id": raw.get("id"), "ts": _time(raw)}
    who = {"user_id": raw.get("user") or raw.get("session")}
    match kind:
        case "item":
            attributes = _attributes(raw, schema.item)
            return {"type": "item", "item_id": raw.get("item"), "attributes": attributes, "merge": True, **common}
        case "user":
            return {"type": "user", "attributes": _attributes(raw, schema.user), "merge": True, **who, **common}
        case "interaction":
            action = mapping.get(raw.get("type", ""), raw.get("type"))
            rest = {"item_id": raw.get("item"), "action": action, "request_id": raw.get("ranking")}
            return {"type": "interaction", **rest, **who, **common}
        case "ranking":
            items = raw.get("items")
            if not isinstance(items, list):
                raise InvalidEvent("items", "wrong_type", f"expected a list of ranked items, not {kind_of(items)}")
            ids = dict.fromkeys(item.get("id") if isinstance(item, dict) else None for item in items)
            shown = [{"item_id": item_id, "rank": rank} for rank, item_id in enumerate(ids, start=1)]
            slate = {"items": shown, "request_id": raw.get("id"), "surface": "metarank"}
            return {"type": "impression", **slate, **who, **common}
    raise InvalidEvent("event", "unknown_type", f"an event is one of {', '.join(_TYPES)}, not {kind!r}")


def _attributes(raw: dict[str, Any], declared: Mapping[str, Attribute]) -> dict[str, Any]:
    """Those fields that are declared, without empty texts; one text may stand for a list of tags."""
    attributes: dict[str, Any] = {}
    for name, value in _fields(raw):
        if name in declared and value != "":
            attributes[name] = _tags(value) if declared[name].kind == "tags" else value
    return attributes


def _tags(value: Any) -> list[Any]:
    return [tag for tag in (value if isinstance(value, list) else [value]) if tag != ""]


def _fields(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    fields = raw.get("fields")
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict) and isinstance(field.get("name"), str):
            yield field["name"], field.get("value")


def _add_all(kinds: Kinds, raw: dict[str, Any]) -> None:
    for name, value in _fields(raw):
        kinds.add(name, value)


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        raw = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _time(raw: dict[str, Any]) -> int | None:
    """Metarank writes milliseconds as text or as a number."""
    value = raw.get("timestamp")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
