"""Conditions on item attributes, as requests and settings write them, compiled to one mask over all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Mask
from penchant.core.compile import kernel
from penchant.core.errors import InvalidEvent, InvalidRequest
from penchant.core.items import MISSING_TIME, Items
from penchant.core.schema import Attribute, Schema
from penchant.core.values import MIN_TIME, check_number, fail, hint, parse_time, refuse, safe_name, show

MAX_VALUES = 100
"""Values in one list."""
MAX_ATTRIBUTES = 32
"""Attributes in one `where`."""

Test = Callable[[Items], Mask]

_ORDER: Mapping[str, Callable[[NDArray[np.generic], float | int], Mask]] = {
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
}
_OPERATORS = ("eq", "ne", "in", "not_in", *_ORDER)
_ORDERED = ("number", "timestamp")
_NOT_FILTERABLE = ("text", "vector")


@dataclass(frozen=True, slots=True)
class Predicate:
    """A conjunction of tests; called with a picture it says, row by row, what satisfies all of them."""

    tests: tuple[Test, ...]

    def __call__(self, items: Items) -> Mask:
        mask = np.ones(items.count, np.bool_)
        for test in self.tests:
            mask &= test(items)
        return mask


def compile_where(where: Mapping[str, object], schema: Schema, prefix: str = "where") -> Predicate:
    """Compile `{attribute: condition, …}`; an item must satisfy all of them.

    A condition is a value; a list, any of whose values will do; or a table of operators that must all hold: `eq`, `ne`,
    `in`, `not_in`, and for numbers and timestamps `lt`, `lte`, `gt`, `gte`. A tags attribute equals a value that it
    contains. An item without the attribute satisfies no `eq`, `in` or order, and every `ne` and `not_in`.

    Raises `InvalidRequest` that names the place (`where.price.lte`), the reason and the fix.
    """
    try:
        return Predicate(tuple(_tests(where, schema, prefix)))
    except InvalidEvent as error:  # conditions hold the values that events hold, and are refused in the same words
        raise InvalidRequest(error.field, error.reason, error.message) from None


def _tests(where: object, schema: Schema, prefix: str) -> list[Test]:
    if not isinstance(where, Mapping):
        refuse(prefix, where, "an object of attributes and conditions")
    if len(where) > MAX_ATTRIBUTES:
        fail(prefix, "out_of_range", f"conditions may name {MAX_ATTRIBUTES} attributes, not {len(where):,}")
    tests: list[Test] = []
    for name, condition in where.items():
        attribute = _attribute(name, schema, prefix)
        place = f"{prefix}.{name}"
        if isinstance(condition, Mapping):
            if not condition:
                fail(place, "empty", f"name an operator: {', '.join(_OPERATORS)}")
            tests += [_operator(attribute, op, value, f"{place}.{safe_name(op)}") for op, value in condition.items()]
        elif isinstance(condition, list | tuple):
            tests.append(_among(attribute, _values(attribute, condition, place)))
        else:
            tests.append(_among(attribute, [_value(attribute, condition, place)]))
    return tests


def _attribute(name: object, schema: Schema, prefix: str) -> Attribute:
    attribute = schema.item.get(name) if isinstance(name, str) else None
    if attribute is None:
        usable = [known.name for known in schema.item.values() if known.kind not in _NOT_FILTERABLE]
        place = f"{prefix}.{safe_name(name)}"
        fail(place, "unknown_attribute", f"{show(name)} is not declared in [attributes.item]; {hint(name, usable)}")
    if attribute.kind in _NOT_FILTERABLE:
        fail(f"{prefix}.{name}", "not_filterable", f"{name!r} is a {attribute.kind}, which no condition can be put on")
    return attribute


def _operator(attribute: Attribute, op: object, value: object, place: str) -> Test:
    if op not in _OPERATORS:
        fail(place, "unknown_operator", f"{show(op)} is no operator; {hint(op, _OPERATORS)}")
    if op in {"in", "not_in"}:
        if not isinstance(value, list | tuple):
            refuse(place, value, "a list of values")
        test = _among(attribute, _values(attribute, value, place))
        return _negated(test) if op == "not_in" else test
    if op in {"eq", "ne"}:
        test = _among(attribute, [_value(attribute, value, place)])
        return _negated(test) if op == "ne" else test
    if attribute.kind not in _ORDERED:
        fail(place, "wrong_operator", f"{op!r} is for numbers and timestamps; {attribute.name!r} is a {attribute.kind}")
    return _ordered(attribute, str(op), _value(attribute, value, place))


def _values(attribute: Attribute, values: list[object] | tuple[object, ...], place: str) -> list[object]:
    if not values:
        fail(place, "empty", "nothing is in an empty list; name a value or leave the condition out")
    if len(values) > MAX_VALUES:
        fail(place, "out_of_range", f"a list may have {MAX_VALUES} values, not {len(values):,}")
    return [_value(attribute, value, f"{place}.{index}") for index, value in enumerate(values)]


def _value(attribute: Attribute, value: object, place: str) -> object:
    """The value as the column holds it."""
    match attribute.kind:
        case "flag":
            if not isinstance(value, bool):
                refuse(place, value, "true or false")
            return int(value)
        case "number":
            check_number(value, place)
            return float(value)  # type: ignore[arg-type]
        case "timestamp":
            return parse_time(value, place, earliest=MIN_TIME)
        case _:
            if not isinstance(value, str):
                refuse(place, value, "a string")
            return value


def _negated(test: Test) -> Test:
    return lambda items: ~test(items)


def _among(attribute: Attribute, values: list[object]) -> Test:
    name, kind = attribute.name, attribute.kind
    if kind == "category":
        return lambda items: _category_among(items, name, values)
    if kind == "tags":
        return lambda items: _tags_among(items, name, values)
    if kind == "number":
        wanted = np.unique(np.array(values, np.float64))
        return lambda items: _equals_any(items.numbers[name], wanted)  # NaN equals nothing
    if kind == "timestamp":
        moments = np.unique(np.array(values, np.int64))
        return lambda items: _equals_any(items.timestamps[name], moments) & (items.timestamps[name] != MISSING_TIME)
    flags = np.unique(np.array(values, np.int8))
    return lambda items: _equals_any(items.flags[name], flags)


def _equals_any(column: NDArray[np.generic], wanted: NDArray[np.generic]) -> Mask:
    mask: Mask = column == wanted[0] if len(wanted) == 1 else np.isin(column, wanted)
    return mask


def _category_among(items: Items, name: str, values: list[object]) -> Mask:
    column = items.categories[name]
    chosen = _chosen(column.vocabulary.codes, values)
    return chosen[column.codes]  # a missing code, -1, finds the last entry, which is never chosen


def _tags_among(items: Items, name: str, values: list[object]) -> Mask:
    column = items.tags[name]
    return _any_chosen(column.offsets, column.codes, _chosen(column.vocabulary.codes, values))


@kernel
def _any_chosen(offsets: NDArray[np.int64], codes: NDArray[np.int32], chosen: Mask) -> Mask:
    mask = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(mask)):
        for at in range(offsets[row], offsets[row + 1]):
            if chosen[codes[at]]:
                mask[row] = True
                break
    return mask


def _chosen(codes: Mapping[str, int], values: list[object]) -> Mask:
    chosen = np.zeros(len(codes) + 1, np.bool_)
    chosen[[codes[value] for value in values if value in codes]] = True  # type: ignore[index]
    return chosen


def _ordered(attribute: Attribute, op: str, bound: object) -> Test:
    name, compare = attribute.name, _ORDER[op]
    limit: float | int = bound  # type: ignore[assignment]
    if attribute.kind == "number":
        return lambda items: compare(items.numbers[name], limit)  # NaN is on no side of anything
    return lambda items: compare(items.timestamps[name], limit) & (items.timestamps[name] != MISSING_TIME)
