"""Slow and plain: what the catalogue must hold after a log, what its columns must be, which items a condition takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from penchant.core.events import AttributeValue, Impression, Interaction, ItemRemoved, ItemUpdate
from penchant.core.items import LISTED, REMOVED, UNKNOWN, UNLISTED, Items
from penchant.core.log import Record
from penchant.core.profiles import ItemProfile
from penchant.core.schema import Attribute, Schema
from penchant.core.values import MIN_TIME, parse_time
from penchant.core.vectors import pack


def naive_profiles(records: Sequence[Record], *, implicit: bool) -> dict[str, ItemProfile]:
    """Item profiles after the log, one record at a time, in order of row."""
    status: dict[str, int] = {}
    listed_at: dict[str, int] = {}
    attributes: dict[str, dict[str, AttributeValue]] = {}
    for record in records:
        event = record.event
        named: list[str] = []
        if isinstance(event, Interaction | ItemUpdate | ItemRemoved):
            named = [event.item_id]
        elif isinstance(event, Impression):
            named = [shown.item_id for shown in event.items]
        for item_id in named:
            if item_id not in status:
                status[item_id], listed_at[item_id], attributes[item_id] = UNKNOWN, 0, {}
                if implicit and isinstance(event, Interaction | Impression):
                    status[item_id], listed_at[item_id] = LISTED, record.ts
        if isinstance(event, ItemRemoved):
            status[event.item_id], attributes[event.item_id] = REMOVED, {}
        if isinstance(event, ItemUpdate) and status[event.item_id] != REMOVED:
            item_id = event.item_id
            if not event.merge:
                attributes[item_id] = {}
            for name, value in event.attributes.items():
                attributes[item_id].pop(name, None)
                if value is not None:
                    attributes[item_id][name] = value
            if status[item_id] == UNKNOWN:
                listed_at[item_id] = record.ts
            if event.listed is not None:
                status[item_id] = LISTED if event.listed else UNLISTED
            elif not event.merge or status[item_id] == UNKNOWN:
                status[item_id] = LISTED
    return {
        item_id: ItemProfile(
            item_id=item_id,
            row=row,
            status=status[item_id],
            listed_at=listed_at[item_id],
            attributes=attributes[item_id],
        )
        for row, item_id in enumerate(status)
    }


def attribute_of(items: Items, row: int, attribute: Attribute) -> Any:
    """The value of one attribute of one row, from the columns; None where missing; tags as a set, vectors packed."""
    name = attribute.name
    match attribute.kind:
        case "category":
            category = items.categories[name]
            code = int(category.codes[row])
            return None if code < 0 else category.vocabulary.values[code]
        case "tags":
            ragged = items.tags[name]
            codes = ragged.codes[ragged.offsets[row] : ragged.offsets[row + 1]]
            return {ragged.vocabulary.values[code] for code in codes}
        case "number":
            number = float(items.numbers[name][row])
            return None if math.isnan(number) else number
        case "timestamp":
            ts = int(items.timestamps[name][row])
            return None if ts == -1 else ts
        case "flag":
            flag = int(items.flags[name][row])
            return None if flag < 0 else bool(flag)
        case "vector":
            vector = items.vectors[name][row]
            return None if np.isnan(vector).any() else pack(vector)
        case _:
            return items.texts[name][row]


def naive_match(where: Mapping[str, Any], attributes: Mapping[str, Any], schema: Schema) -> bool:
    """Whether an item with these attributes (tags as any collection) satisfies every condition."""
    for name, condition in where.items():
        have = attributes.get(name)
        kind = schema.item[name].kind
        holds = set(have or ()) if kind == "tags" else set() if have is None else {have}
        operators = (
            condition if isinstance(condition, dict) else {"in" if isinstance(condition, list) else "eq": condition}
        )
        for op, bound in operators.items():
            values = bound if isinstance(bound, list) else [bound]
            if kind == "timestamp":
                values = [parse_time(value, earliest=MIN_TIME) for value in values]
            if not _satisfies(op, have, holds, values):
                return False
    return True


def _satisfies(op: str, have: Any, holds: set[Any], values: list[Any]) -> bool:
    if op in {"eq", "in"}:
        return any(value in holds for value in values)
    if op in {"ne", "not_in"}:
        return not any(value in holds for value in values)
    if have is None:
        return False
    return bool(
        {"lt": have < values[0], "lte": have <= values[0], "gt": have > values[0], "gte": have >= values[0]}[op]
    )


def differences(left: Items, right: Items) -> list[str]:
    """Where two pictures differ, bit for bit, as paths; `tables` and what ids know past `count` aside."""
    found: list[str] = []
    for field in dataclasses.fields(Items):
        if field.name not in {"tables", "ids", "rows"}:
            _compare(getattr(left, field.name), getattr(right, field.name), field.name, found)
    _compare(list(left.ids[: left.count]), list(right.ids[: right.count]), "ids", found)
    return found + [f"rows.{name}" for name in right.ids[: right.count] if left.row(name) != right.row(name)]


def _compare(left: Any, right: Any, path: str, found: list[str]) -> None:
    if isinstance(left, np.ndarray):
        same = left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        if not same:
            found.append(path)
    elif dataclasses.is_dataclass(left):
        for field in dataclasses.fields(left):
            _compare(getattr(left, field.name), getattr(right, field.name), f"{path}.{field.name}", found)
    elif isinstance(left, Mapping):
        if list(left) != list(right):
            found.append(path)
        for name in left.keys() & right.keys():
            _compare(left[name], right[name], f"{path}.{name}", found)
    elif isinstance(left, str | int | float) or left is None:
        if left != right:
            found.append(path)
    elif list(left) != list(right):
        found.append(path)
