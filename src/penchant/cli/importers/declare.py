"""What `penchant.toml` would have to declare for a source: kinds told from values, written as TOML."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from penchant.core.errors import InvalidEvent
from penchant.core.hashing import fingerprint
from penchant.core.values import MAX_TAG, MIN_TIME, parse_time
from penchant.settings.table import MAX_VECTOR

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
_MANY = 10_000
"""Distinct values that are counted; an attribute with more is no category."""


class Seen:
    """The values of one attribute, so far as its kind depends on them."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._distinct: set[str] = set()
        self._texts = 0
        self._times = True

    def add(self, value: object) -> None:
        if isinstance(value, bool):
            self._kinds.add("flag")
        elif isinstance(value, int | float):
            self._kinds.add("number")
        elif isinstance(value, list):
            numbers = 0 < len(value) <= MAX_VECTOR and all(type(one) in (int, float) for one in value)
            self._kinds.add(f"vector:{len(value)}" if numbers else "tags")
        elif isinstance(value, str):
            self._kinds.add("text")
            self._texts += 1
            if len(self._distinct) <= _MANY:
                self._distinct.add(value[: MAX_TAG + 1])
            self._times = self._times and _is_time(value)

    def kind(self) -> str | None:
        """The kind that all values have, None where there is none. Texts that recur are categories."""
        if len(self._kinds) != 1:
            return None
        (kind,) = self._kinds
        if kind != "text":
            return kind
        if self._times:
            return "timestamp"
        recur = 2 * len(self._distinct) <= self._texts and len(self._distinct) <= _MANY
        return "category" if recur and all(0 < len(value) <= MAX_TAG for value in self._distinct) else "text"


class Kinds:
    """The attributes of items, of users or of the context, by name."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def add(self, name: str, value: object) -> None:
        if value is not None:
            self._seen.setdefault(name, Seen()).add(value)

    def known(self) -> dict[str, str]:
        """Name to kind, without what cannot be declared."""
        kinds = {name: seen.kind() for name, seen in self._seen.items() if _NAME.match(name)}
        return {name: kind for name, kind in kinds.items() if kind is not None}


def to_toml(
    actions: Mapping[str, str],
    item: Mapping[str, str],
    user: Mapping[str, str] | None = None,
    context: Mapping[str, str] | None = None,
) -> str:
    """The tables as TOML; `actions` maps names to their inline tables. History sets the clock."""
    lines = ["[clock]", 'source = "events"', "", "[actions]"]
    lines += [f"{name} = {table}" for name, table in actions.items()]
    for entity, kinds in (("item", item), ("user", user), ("context", context)):
        if kinds:
            lines += ["", f"[attributes.{entity}]", *(f'{name} = "{kind}"' for name, kind in kinds.items())]
    return "\n".join(lines) + "\n"


def plain_actions(names: Mapping[str, bool]) -> dict[str, str]:
    """Inline tables for actions of unknown worth; True for those that carry a value."""
    return {
        name: '{ weight = 1.0, value = "value", scale = 3 }' if valued else "{ weight = 1.0 }"
        for name, valued in names.items()
        if _NAME.match(name)
    }


def _is_time(text: str) -> bool:
    try:
        parse_time(text, earliest=MIN_TIME)
    except InvalidEvent:
        return False
    return True


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits of JSON-like content: equal content, equal id on every import."""
    return fingerprint(msgspec.json.encode(parts, order="deterministic").decode())[:16]
