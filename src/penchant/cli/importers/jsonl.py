"""The events of the public contract, one JSON object a line, also .gz.

An event without `id` gets one made of its line (and of how many lines like it came before), so that importing the same
file again, or a longer one that starts the same, brings nothing twice. What is no event is refused by line number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from penchant.cli.importers.declare import Kinds, plain_actions, to_toml
from penchant.cli.importers.ordered import ordered_lines
from penchant.cli.importers.source import Import, InvalidSource, Options, Rejections, read_lines
from penchant.core.errors import InvalidEvent
from penchant.core.events import Event
from penchant.core.parse import parse_event, parse_time
from penchant.core.schema import Schema
from penchant.settings import parse


def open(source: Path, options: Options) -> Import:
    """Read the source twice: once for its order and what it needs declared, once for its events."""
    if options.mapping:
        raise InvalidSource("--map is for tables; JSONL events carry the names of the public contract")
    needs = Needs()
    times = [needs.look(_decoded(line)) for _, line in read_lines(source)]
    hint = needs.to_toml()
    rejected = Rejections()
    events = _events(source, times, options.schema or Schema.of(parse(hint)), rejected)
    return Import(settings_toml_hint=hint, total=len(times), events=events, rejected=rejected)


class Needs:
    """What events, as JSON objects, need declared."""

    def __init__(self) -> None:
        self._actions: dict[str, bool] = {}
        self._kinds = {"item": Kinds(), "user": Kinds(), "context": Kinds()}

    def look(self, raw: object) -> int | None:
        """Take note of an event; returns its time, None where it has none that can be read."""
        if not isinstance(raw, dict):
            return None
        kind, action = raw.get("type"), raw.get("action")
        if kind == "interaction" and isinstance(action, str):
            self._actions[action] = self._actions.get(action, False) or raw.get("value") is not None
            self._note("context", raw.get("context"))
        elif kind in {"item", "user"}:
            self._note(kind, raw.get("attributes"))
        try:
            return parse_time(raw.get("ts"))
        except InvalidEvent:
            return None

    def _note(self, entity: str, attributes: object) -> None:
        if isinstance(attributes, dict):
            for name, value in attributes.items():
                self._kinds[entity].add(name, value)

    def to_toml(self) -> str:
        item, user, context = (kinds.known() for kinds in self._kinds.values())
        return to_toml(plain_actions(self._actions), item, user, context)


class Identities:
    """Ids for events that have none, from their content."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._before: Counter[bytes] = Counter()

    def make(self, content: bytes) -> str:
        digest = xxhash.xxh3_128_digest(content)
        self._before[digest] += 1
        return f"{self._prefix}:{digest.hex()}:{self._before[digest]}"


def _events(source: Path, times: list[int | None], schema: Schema, rejected: Rejections) -> Iterator[Event]:
    identities = Identities("jsonl")
    for number, line in ordered_lines(source, times):
        try:
            raw = _decoded(line, strict=True)
            event = parse_event(raw, schema)
        except InvalidEvent as error:
            rejected.add(f"line {number}", error)
            continue
        yield event if event.id is not None else msgspec.structs.replace(event, id=identities.make(line))


def _decoded(line: bytes, *, strict: bool = False) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if strict:
            raise InvalidEvent("", "invalid_json", f"not JSON: {error}") from None
        return None
