"""Tables (CSV, TSV, Parquet) as events, a row each, read by DuckDB.

`--map FIELD=COLUMN,…` says which column holds which field of the event; `FIELD=:text` gives every row the same text,
and `FIELD=` leaves a field out. Fields that are not named come from the column of the same name, where there is one.

| field | of |
|---|---|
| `type` | interaction (where nothing is said), item, user, item_removed, user_erased |
| `user_id` `item_id` `action` `value` `request_id` `context.KEY` | interactions |
| `item_id` or `user_id`, `listed` `merge`, attributes (`attributes.NAME` where NAME is one of these) | items, users |
| `ts` `id` | all |

Times are times of day in UTC unless they say otherwise, milliseconds, or, below 10^11, seconds. Tags are lists, JSON
lists, or texts parted by `|`. Empty cells are missing. A row without `id` gets one made of its content.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from penchant.cli.importers.declare import plain_actions, to_toml
from penchant.cli.importers.jsonl import Identities
from penchant.cli.importers.source import Import, InvalidSource, Options, Rejections
from penchant.core.errors import InvalidEvent
from penchant.core.events import Event
from penchant.core.parse import parse_event
from penchant.core.schema import Attribute, Schema
from penchant.settings import parse

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "interaction": ("user_id", "item_id", "action", "value", "request_id"),
    "item": ("item_id", "listed", "merge"),
    "user": ("user_id", "merge"),
    "item_removed": ("item_id",),
    "user_erased": ("user_id",),
}
_RESERVED = frozenset({"type", "ts", "id", *(name for names in _FIELDS.values() for name in names)})
_SECONDS_BELOW = 1e11
_BATCH = 2_000


def open(source: Path, options: Options) -> Import:
    """Look through the table once for what it needs declared, then read it in order of time."""
    table = _Table(source)
    fields = _mapped(table, options)
    hint = _hint(table, fields)
    rejected = Rejections()
    events = _events(table, fields, options.schema or Schema.of(parse(hint)), rejected)
    return Import(settings_toml_hint=hint, total=table.count(), events=events, rejected=rejected)


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field comes from: a column, or the same text for all rows."""

    column: int
    text: str | None = None

    def of(self, row: Sequence[Any]) -> Any:
        return row[self.column] if self.text is None else self.text


class _Table:
    """The file behind DuckDB. Cells of CSV stay texts, so that an id `007` does not become 7."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        path = str(source).replace("'", "''")
        parquet = source.suffix == ".parquet"
        self._read = f"read_parquet('{path}')" if parquet else f"read_csv('{path}', all_varchar = true)"
        described = self.query(f"DESCRIBE SELECT * FROM {self._read}").fetchall()
        self.columns = [row[0] for row in described]
        self.types = [row[1] for row in described]
        if parquet:
            self.guessed = self.types
        else:
            self.guessed = [row[1] for row in self.query(f"DESCRIBE SELECT * FROM read_csv('{path}')").fetchall()]

    def query(self, sql: str) -> Any:
        try:
            return self._connection.cursor().execute(sql)
        except duckdb.Error as error:
            raise InvalidSource(f"{self.source}: {str(error).splitlines()[0]}") from None

    def count(self) -> int:
        return int(self.query(f"SELECT count(*) FROM {self._read}").fetchone()[0])

    def distinct(self, column: int, limit: int) -> list[str]:
        name = _quoted(self.columns[column])
        found = self.query(f"SELECT DISTINCT {name} FROM {self._read} WHERE {name} IS NOT NULL LIMIT {limit}")
        return sorted(str(row[0]) for row in found.fetchall())

    def recurs(self, column: int) -> bool:
        name = _quoted(self.columns[column])
        distinct, filled = self.query(
            f"SELECT approx_count_distinct({name}), count({name}) FROM {self._read}"
        ).fetchone()
        return bool(2 * distinct <= filled)

    def rows(self, ts: _Field | None) -> Iterator[tuple[Any, ...]]:
        """Every row followed by its time in milliseconds and its number, in order of time."""
        millis = "NULL::BIGINT" if ts is None or ts.text is not None else self._millis(ts.column)
        cells = [
            f"{name} AT TIME ZONE 'UTC'" if kind == "TIMESTAMP WITH TIME ZONE" else name
            for name, kind in zip(map(_quoted, self.columns), self.types, strict=True)
        ]
        result = self.query(
            f"SELECT {', '.join(cells)}, {millis} AS penchant_ms, row_number() OVER () AS penchant_row "
            f"FROM {self._read} ORDER BY penchant_ms NULLS FIRST, penchant_row"
        )
        while batch := result.fetchmany(_BATCH):
            yield from batch

    def _millis(self, column: int) -> str:
        name, kind = _quoted(self.columns[column]), self.types[column]
        if kind.startswith(("TIMESTAMP", "DATE")):
            return f"epoch_ms(CAST({name} AS TIMESTAMPTZ))"
        number = f"TRY_CAST({name} AS DOUBLE)"
        scaled = f"CASE WHEN abs({number}) < {_SECONDS_BELOW} THEN {number} * 1000 ELSE {number} END"
        moment = f"epoch_ms(TRY_CAST({name} AS TIMESTAMPTZ))" if kind == "VARCHAR" else "NULL"
        return f"CASE WHEN isfinite({number}) THEN CAST(round({scaled}) AS BIGINT) ELSE {moment} END"


def _mapped(table: _Table, options: Options) -> dict[str, _Field]:
    fields = {name: _Field(index) for index, name in enumerate(table.columns)}
    if options.schema is not None:
        known = _RESERVED | options.schema.item.keys() | options.schema.user.keys()
        known |= {f"context.{name}" for name in options.schema.context}
        fields = {name: field for name, field in fields.items() if name in known or name.startswith("attributes.")}
    for name, column in options.mapping.items():
        if not column:
            fields.pop(name, None)
        elif column.startswith(":"):
            fields[name] = _Field(-1, column[1:])
        elif column in table.columns:
            fields[name] = _Field(table.columns.index(column))
        else:
            raise InvalidSource(f"--map {name}={column}: no such column; there are: {', '.join(table.columns)}")
    return fields


def _hint(table: _Table, fields: Mapping[str, _Field]) -> str:
    action, kind = fields.get("action"), fields.get("type")
    actions: list[str] = []
    if action is not None:
        actions = [action.text] if action.text is not None else table.distinct(action.column, 100)
    types = {kind.text} if kind and kind.text is not None else set(table.distinct(kind.column, 100)) if kind else set()
    kinds: dict[str, str] = {}
    for name, field in fields.items():
        plain = name.removeprefix("attributes.")
        if (name not in _RESERVED or plain != name) and field.text is None and not name.startswith("context."):
            kinds[plain] = _kind(table, field.column)
    context = {
        name.removeprefix("context."): _kind(table, field.column)
        for name, field in fields.items()
        if name.startswith("context.") and field.text is None
    }
    valued = "value" in fields
    item = kinds if "item" in types else {}
    user = kinds if "user" in types else {}
    return to_toml(plain_actions(dict.fromkeys(actions, valued)), item, user, context)


def _kind(table: _Table, column: int) -> str:
    guessed = table.guessed[column]
    if guessed.endswith("[]"):
        return "tags"
    if guessed == "BOOLEAN":
        return "flag"
    if guessed.startswith(("TIMESTAMP", "DATE")):
        return "timestamp"
    if guessed.startswith("VARCHAR"):
        return "category" if table.recurs(column) else "text"
    return "number"


def _events(table: _Table, fields: Mapping[str, _Field], schema: Schema, rejected: Rejections) -> Iterator[Event]:
    identities = Identities("table")
    ts = fields.get("ts")
    for row in table.rows(ts):
        *cells, millis, number = row
        raw = _raw(cells, fields, schema)
        if ts is not None and raw["type"] != "user_erased":
            raw["ts"] = millis if millis is not None else _time(ts.of(cells))
        try:
            event = parse_event({name: value for name, value in raw.items() if value is not None}, schema)
        except InvalidEvent as error:
            rejected.add(f"row {number}", error)
            continue
        if event.id is None:
            content = msgspec.json.encode([raw.get("type"), sorted(raw.items(), key=str)], enc_hook=str)
            event = msgspec.structs.replace(event, id=identities.make(content))
        yield event


def _raw(cells: Sequence[Any], fields: Mapping[str, _Field], schema: Schema) -> dict[str, Any]:
    """The JSON object that the row stands for, as the parser takes it; what cannot be read is left for it to refuse."""
    kind = _text(fields["type"].of(cells)) if "type" in fields else None
    kind = kind or "interaction"
    raw: dict[str, Any] = {"type": kind}
    for name in ("id", *_FIELDS.get(kind, ())):
        if name in fields:
            cell = fields[name].of(cells)
            raw[name] = (
                _flag(cell) if name in {"listed", "merge"} else _number(cell) if name == "value" else _text(cell)
            )
    if kind in {"item", "user"}:
        raw["attributes"] = _values(cells, fields, schema.item if kind == "item" else schema.user, "attributes.")
    elif kind == "interaction":
        raw["context"] = _values(cells, fields, schema.context, "context.") or None
    return raw


def _values(
    cells: Sequence[Any], fields: Mapping[str, _Field], declared: Mapping[str, Attribute], prefix: str
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, attribute in declared.items():
        field = fields.get(prefix + name)
        if field is None and prefix == "attributes." and name not in _RESERVED:
            field = fields.get(name)
        if field is not None:
            value = _CONVERT[attribute.kind](field.of(cells))
            if value is not None:
                values[name] = value
    return values


def _text(cell: Any) -> Any:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return None if cell is None or cell == "" else str(cell)


def _number(cell: Any) -> Any:
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return str(cell)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _flag(cell: Any) -> Any:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return cell if isinstance(cell, bool) or cell is None or cell == "" else words.get(str(cell).lower(), str(cell))


def _time(cell: Any) -> Any:
    if isinstance(cell, date):
        moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000)
    number = _number(cell)
    if isinstance(number, str):
        try:
            return _time(datetime.fromisoformat(number))
        except ValueError:
            return number
    if number is None:
        return None
    return round(number * 1_000 if abs(number) < _SECONDS_BELOW else number)


def _tags(cell: Any) -> Any:
    if isinstance(cell, str):
        if cell.startswith("["):
            try:
                return msgspec.json.decode(cell)
            except msgspec.DecodeError:
                return cell
        return [tag for tag in (tag.strip() for tag in cell.split("|")) if tag]
    return cell


def _vector(cell: Any) -> Any:
    return _tags(cell) if isinstance(cell, str) and cell.startswith("[") else cell or None


_CONVERT = {
    "text": _text,
    "category": _text,
    "tags": _tags,
    "number": _number,
    "timestamp": _time,
    "flag": _flag,
    "vector": _vector,
}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
