"""The parts of an event, checked: ids, times, numbers and attributes, each refused with its field and the fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import numpy as np

from penchant.core import vectors
from penchant.core.clock import Millis
from penchant.core.errors import InvalidEvent
from penchant.core.events import AttributeValue
from penchant.core.schema import Attribute

MAX_ID = 128
MAX_TEXT = 10_000
MAX_TAGS = 256
MAX_TAG = 256
MAX_Q = 2**40
"""Bound of a value as fixed point: sums of 2**23 of them still fit 64 bits."""
MAX_TIME = 253_402_300_799_999
MIN_TIME = -62_135_596_800_000
"""The years 9999 and 1; the time of an event must not be before 1970, a timestamp attribute may be."""

_NOT_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HOUR_MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"
_RFC3339 = re.compile(
    rf"\d{{4}}-\d\d-\d\d[Tt ]{_HOUR_MINUTE}:([0-5]\d|60)(?:\.\d{{1,18}})?(?:[Zz]|[+-]{_HOUR_MINUTE})", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EXACT = 2**53
_MAX_FLOAT32 = 3.4028234663852886e38


def parse_time(value: object, field: str = "ts", *, earliest: Millis = 0) -> Millis:
    """Milliseconds of RFC 3339 text or integer milliseconds, from `earliest` to the year 9999.

    Digits after the milliseconds are cut off. Raises `InvalidEvent` (reason `invalid_time`).

    >>> parse_time("2026-11-20T12:00:00.5+01:00")
    1795172400500
    """
    if isinstance(value, str):
        millis = _read_time(value, field)
    elif isinstance(value, int) and not isinstance(value, bool):
        millis = value
    else:
        fail(field, "invalid_time", f"write RFC 3339 text or integer milliseconds, not {kind_of(value)}")
    if not earliest <= millis <= MAX_TIME:
        fail(
            field,
            "invalid_time",
            f"{show(value)} is outside {format_time(earliest)[:4]}–9999; integers are milliseconds since 1970",
        )
    return millis


def format_time(millis: Millis) -> str:
    """RFC 3339 in UTC with milliseconds, as times go out.

    >>> format_time(1795172400500)
    '2026-11-20T11:00:00.500Z'
    """
    return (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Absent:
    """Tells a field that is not there from one that is null."""


ABSENT = Absent()


def fail(field: str, reason: str, message: str) -> Never:
    """Raise `InvalidEvent`."""
    raise InvalidEvent(field, reason, message)


def read_id(raw: dict[str, Any], name: str, prefix: str = "") -> str:
    """The id `raw[name]`, which must be there; `prefix` leads to it in the path of a refusal."""
    value = raw.get(name, ABSENT)
    if isinstance(value, str):
        if 0 < len(value) <= MAX_ID and ((value.isascii() and value.isprintable()) or not _NOT_IN_IDS.search(value)):
            return value
        fail(
            prefix + name, "invalid_id", f"use 1 to {MAX_ID} characters, without control characters or lone surrogates"
        )
    refuse(prefix + name, value, f"a string of 1 to {MAX_ID} characters")


def read_optional_id(raw: dict[str, Any], name: str) -> str | None:
    """The id `raw[name]`, None where it is absent or null."""
    return None if raw.get(name) is None else read_id(raw, name)


def read_ts(raw: dict[str, Any]) -> Millis | None:
    """The time `raw["ts"]`, None where it is absent or null."""
    value = raw.get("ts")
    return None if value is None else parse_time(value)


def read_flag(raw: dict[str, Any], name: str) -> bool | None:
    """The flag `raw[name]`, None where it is absent or null."""
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        refuse(name, value, "true or false")
    return value


def read_attributes(
    raw: object, declared: Mapping[str, Attribute], field: str, *, merge: bool = False
) -> dict[str, AttributeValue]:
    """Checked by kind. Null takes an attribute away in a merge; elsewhere it says no more than leaving it out."""
    if not isinstance(raw, dict):
        refuse(field, raw, "an object of declared names")
    checked: dict[str, AttributeValue] = {}
    for name, value in raw.items():
        attribute = declared.get(name)
        if attribute is None:
            table = "context" if field == "context" else "item or user"
            fail(
                f"{field}.{safe_name(name)}",
                "unknown_attribute",
                f"{show(name)} is not declared in [attributes] for {table}; {hint(name, declared)}",
            )
        if value is not None:
            checked[name] = (
                _vector(value, f"{field}.{name}", attribute.size)
                if attribute.kind == "vector"
                else _KINDS[attribute.kind](value, field, name)
            )
        elif merge:
            checked[name] = None
    return checked


def _text(value: object, field: str, name: str) -> str:
    if not isinstance(value, str):
        refuse(f"{field}.{name}", value, "text")
    if len(value) > MAX_TEXT:
        fail(f"{field}.{name}", "out_of_range", f"text may have {MAX_TEXT:,} characters, this has {len(value):,}")
    _check_encodable(value, f"{field}.{name}")
    return value


def _category(value: object, field: str, name: str) -> str:
    if not isinstance(value, str):
        refuse(f"{field}.{name}", value, "one string")
    return _label(value, f"{field}.{name}")


def _tags(value: object, field: str, name: str) -> list[str]:
    field = f"{field}.{name}"
    if not isinstance(value, list):
        refuse(field, value, "a list of strings")
    if len(value) > MAX_TAGS:
        fail(field, "out_of_range", f"there may be {MAX_TAGS} tags, not {len(value):,}")
    for index, tag in enumerate(value):
        if not isinstance(tag, str):
            refuse(f"{field}.{index}", tag, "a string")
        _label(tag, f"{field}.{index}")
    return list(dict.fromkeys(value))


def _label(value: str, field: str) -> str:
    if not 0 < len(value) <= MAX_TAG:
        fail(field, "out_of_range", f"use 1 to {MAX_TAG} characters; leave out what is unknown")
    _check_encodable(value, field)
    return value


def _number(value: object, field: str, name: str) -> float | int:
    check_number(value, f"{field}.{name}")
    if isinstance(value, int) and -_EXACT <= value <= _EXACT:
        return value
    return float(value)  # type: ignore[arg-type]


def _timestamp(value: object, field: str, name: str) -> Millis:
    return parse_time(value, f"{field}.{name}", earliest=MIN_TIME)


def _flag(value: object, field: str, name: str) -> bool:
    if not isinstance(value, bool):
        refuse(f"{field}.{name}", value, "true or false")
    return value


def _vector(value: object, field: str, size: int) -> str:
    """A list of numbers, or the text that `core.vectors` packs them into, which is what is kept."""
    if isinstance(value, str):
        if vectors.unpack(value, size) is None:
            fail(field, "out_of_range", f"text must be base64 of {size:,} finite little-endian float32; or send a list")
        return value
    if not isinstance(value, list):
        refuse(field, value, f"a list of {size:,} numbers")
    if len(value) != size:
        fail(field, "out_of_range", f"the vector is declared with {size:,} numbers, this has {len(value):,}")
    if set(map(type, value)) != {float}:
        for index, number in enumerate(value):
            check_number(number, f"{field}.{index}")
    wide = np.array(value, np.float64)
    outside = np.flatnonzero(~(np.abs(wide) <= _MAX_FLOAT32))
    if len(outside):
        at = int(outside[0])
        fail(f"{field}.{at}", "out_of_range", f"a finite number that 32 bits can hold, not {show(value[at])}")
    return vectors.pack(wide)


def check_number(value: object, field: str) -> None:
    """A finite number that float64 can hold; compared, not converted, as an int may be too large for that."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(field, value, "a number")
    if not -1e308 <= value <= 1e308:
        fail(field, "out_of_range", f"a finite number, not {show(value)}")


def _check_encodable(value: str, field: str) -> None:
    if not value.isascii() and _SURROGATE.search(value):
        fail(field, "out_of_range", "half of a surrogate pair is no character; send valid Unicode")


def _read_time(text: str, field: str) -> Millis:
    match = _RFC3339.fullmatch(text)
    if match is None:
        fail(field, "invalid_time", f"{show(text)} is not RFC 3339; write it as 2026-11-20T12:00:00Z")
    # RFC 3339 allows second 60 (a leap second), the library does not; it is counted as the first of the next minute.
    leap = match[1] == "60"
    if leap:
        text = f"{text[:17]}59{text[19:]}"
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        fail(field, "invalid_time", f"{show(text)} is no date of the calendar")
    return (moment - _EPOCH) // _MILLISECOND + leap * 1_000


def refuse(field: str, value: object, wanted: str) -> Never:
    """Refuse a value of the wrong type, or one that is missing."""
    if value is ABSENT:
        fail(field, "missing", f"{field.rpartition('.')[2]} is required: {wanted}")
    fail(field, "wrong_type", f"expected {wanted}, not {kind_of(value)}")


def kind_of(value: object) -> str:
    """What a JSON value is called in a message."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a flag", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def show(value: object) -> str:
    """Short and safe to send: never a surrogate, never a deep or endless representation."""
    if isinstance(value, str):
        return ascii(value[:60]) + ("…" if len(value) > 60 else "")
    if isinstance(value, float) or (isinstance(value, int) and -(10**30) < value < 10**30):
        return repr(value)
    return "a number that large" if isinstance(value, int) else kind_of(value)


def safe_name(value: object) -> str:
    """A client's own name as a part of a field path."""
    text = value[:60] if isinstance(value, str) else kind_of(value)
    return text if text.isascii() and text.isprintable() else ascii(text)


def hint(value: object, known: Collection[str]) -> str:
    """The name nearest to what was written, or all that there are."""
    near = difflib.get_close_matches(value[:60], known, n=1, cutoff=0.5) if isinstance(value, str) else []
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"


_KINDS: dict[str, Callable[[object, str, str], AttributeValue]] = {
    "text": _text,
    "category": _category,
    "tags": _tags,
    "number": _number,
    "timestamp": _timestamp,
    "flag": _flag,
}
