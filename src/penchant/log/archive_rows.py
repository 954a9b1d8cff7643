"""What a row of the archive is: a message, what its fold will see of it, and columns for those who query it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import numpy as np

from penchant.core.clock import Millis
from penchant.core.events import Event, Impression, Interaction
from penchant.core.hashing import hash_id
from penchant.core.log import Record
from penchant.core.partitions import Deeds, Message, Partition, Sent, decode_body, encode_body
from penchant.core.schema import Schema
from penchant.core.stamping import is_timed, stamped
from penchant.log.sequence import person, served_request, without_person
from penchant.log.table import digest

COLUMNS = {
    "partition": "VARCHAR",
    "position": "BIGINT",
    "ingested_at": "BIGINT",
    "ts": "BIGINT",
    "verdict": "TINYINT",
    "q": "BIGINT",
    "type": "VARCHAR",
    "action": "VARCHAR",
    "user": "BIGINT",
    "users": "BIGINT[]",
    "items": "BIGINT[]",
    "present": "BOOLEAN",
    "request": "BLOB",
    "event_id": "VARCHAR",
    "source": "VARCHAR",
    "place": "BIGINT",
    "row": "BIGINT",
    "appended_at": "BIGINT",
    "body": "BLOB",
}
"""Column names and types of the Parquet files.

Times are ms since 1970 UTC; `user`, `users` (whom deeds are of) and `items` are `hash_id`s; `present`: whether an
interaction had a value; `request`: xxh3_128 of the request that an impression of the engine answered. `place` and `row`
are the two parts of `Message.place`. `verdict` tells late ones; repeated ones are told by `event_id`, `source`, `place`
and `row`, as the fold tells them. `body` is the message itself, as msgpack.
"""
DEEDS = "deeds"
_SELECT = "partition, position, appended_at, source, place, row, event_id, body, type"
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_NUMBERS = ("position", "ingested_at", "ts", "verdict", "q", "place", "row", "appended_at")
_GROUP_ROWS = 20_000


class Row(NamedTuple):
    """A message as it is archived: with what is decided when it is folded."""

    message: Message
    ingested_at: Millis
    ts: Millis
    verdict: int
    q: int


def row_of(message: Message, clock: Millis, schema: Schema, lateness: Millis) -> Row:
    """The row of a message that arrives when its partition's clock shows `clock`."""
    body = message.body
    if isinstance(body, Deeds):
        arrived = max(clock, message.appended_at)
        return Row(message, arrived, arrived, 0, 0)
    arrived = max(clock, body.ingested_at or message.appended_at)
    ts, verdict = stamped(body.event.ts, arrived, is_timed(body.event), lateness)
    return Row(message, arrived, ts, verdict, _quantised(body.event, schema))


def row_of_record(record: Record, partition: Partition) -> Row:
    """The row of a record of a log that is one file: a message of the one partition that such a log is."""
    event = record.event
    message = Message(
        partition,
        record.position,
        record.ingested_at,
        "log",
        (0, record.position),
        event.id,
        Sent(event, [], record.ingested_at),
    )
    return Row(message, record.ingested_at, record.ts, record.verdict, record.q)


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB that stays small beside what else the process does."""
    db = duckdb.connect()
    db.execute("SET threads = 1")
    db.execute("SET memory_limit = '512MB'")
    return db


def write(db: duckdb.DuckDBPyConnection, rows: Sequence[Row], path: Path) -> None:
    """Write rows as one Parquet file, by partition and position."""
    _insert(db, rows)
    _copy(db, f"SELECT {_NAMES} FROM rows", path)


def merge(db: duckdb.DuckDBPyConnection, sources: Sequence[Path], path: Path) -> None:
    """Write the rows of several files as one."""
    _copy(db, f"SELECT {_NAMES} FROM {_files(sources)}", path)


def select(db: duckdb.DuckDBPyConnection, source: Path, partition: str, span: tuple[int, int], limit: int) -> list[Row]:
    """Up to `limit` rows of a partition with positions in `(after, upto]`, by position."""
    where = "partition = $partition AND position > $after AND position <= $upto"
    found = db.execute(
        f"SELECT {_SELECT}, ingested_at, ts, verdict, q FROM {_files([source])} "
        f"WHERE {where} ORDER BY position LIMIT {int(limit)}",
        {"partition": partition, "after": span[0], "upto": span[1]},
    ).fetchall()
    return [Row(_message(columns), *columns[-4:]) for columns in found]


def erased(db: duckdb.DuckDBPyConnection, source: Path, people: Mapping[int, Callable[[int], bool]], path: Path) -> int:
    """Write a file anew without what leads back to people; returns the rows changed, 0 and no file when there are none.

    `people`: by `hash_id`, whether a position of theirs is to be erased.
    """
    hashes = list(people)
    found = db.execute(
        f'SELECT {_SELECT}, ingested_at, ts, verdict, q, "user" FROM {_files([source])} '
        'WHERE list_contains($people::BIGINT[], "user") OR list_has_any(users, $people::BIGINT[])',
        {"people": hashes},
    ).fetchall()
    rows = []
    for *columns, user in found:
        row = Row(_message(columns), *columns[-4:])
        body, event_id = row.message.body, row.message.event_id
        if isinstance(body, Sent):
            if not people[user](row.message.position):
                continue
            changed: Sent | Deeds = msgspec.structs.replace(body, event=without_person(body.event))
            event_id = None
        else:
            changed = _without(body, people)
            if changed == body:
                continue
        rows.append(row._replace(message=msgspec.structs.replace(row.message, body=changed, event_id=event_id)))
    if rows:
        _insert(db, rows)
        _copy(
            db,
            f"SELECT {_NAMES} FROM {_files([source])} ANTI JOIN rows USING (partition, position) "
            f"UNION ALL SELECT {_NAMES} FROM rows",
            path,
        )
    return len(rows)


def erasures(db: duckdb.DuckDBPyConnection, source: Path) -> list[tuple[str, int, str]]:
    """`(partition, position, user_id)` of the events that ask to forget a person and still name them."""
    found = db.execute(
        f"SELECT {_SELECT} FROM {_files([source])} WHERE type = 'user_erased' AND \"user\" IS NOT NULL ORDER BY ALL"
    ).fetchall()
    messages = [_message(columns) for columns in found]
    return [(str(m.partition), m.position, person(m.body.event)) for m in messages if isinstance(m.body, Sent)]


def _without(body: Deeds, people: Mapping[int, Callable[[int], bool]]) -> Deeds:
    nobody = hash_id("")
    return Deeds(
        [
            msgspec.structs.replace(deed, user=nobody, attributes={})
            if deed.user in people and people[deed.user](deed.position)
            else deed
            for deed in body.deeds
        ]
    )


def _quantised(event: Event, schema: Schema) -> int:
    # The outbox has checked the action; one that is no longer declared counts for nothing.
    action = schema.actions.get(event.action) if isinstance(event, Interaction) else None
    return action.quantise(event.value) if action is not None and isinstance(event, Interaction) else 0


def _insert(db: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    lists = list(columns.values())
    for row in rows:
        for values, value in zip(lists, _values(row), strict=True):
            values.append(value)
    # Arrays go in much faster than lists, where there are no nulls and the type is certain.
    db.register("numbers", {name: np.array(columns.pop(name), np.int64) for name in _NUMBERS})
    unnested = ", ".join(f'unnest(${name}::{COLUMNS[name]}[]) AS "{name}"' for name in columns)
    typed = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in COLUMNS.items())
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE rows AS SELECT {typed} FROM (SELECT {unnested}) POSITIONAL JOIN numbers", columns
    )
    db.unregister("numbers")


def _values(row: Row) -> Iterable[object]:
    message, body = row.message, row.message.body
    kind, action, user, request, present = DEEDS, None, None, None, None
    if isinstance(body, Deeds):
        users = sorted({deed.user for deed in body.deeds})
        items = sorted({hash_id(item_id) for deed in body.deeds for item_id in deed.items})
    else:
        event = body.event
        kind = str(event.__struct_config__.tag)
        action = event.action if isinstance(event, Interaction) else None
        present = event.value is not None if isinstance(event, Interaction) else None
        user = hash_id(person(event)) if person(event) else None
        users = []
        items = [hash_id(item_id) for item_id in _items(event)]
        request_id = served_request(event)
        request = None if request_id is None else digest(request_id)
    return (
        str(message.partition),
        message.position,
        row.ingested_at,
        row.ts,
        row.verdict,
        row.q,
        kind,
        action,
        user,
        users,
        items,
        present,
        request,
        message.event_id,
        message.source,
        message.place[0],
        message.place[1],
        message.appended_at,
        encode_body(body),
    )


def _items(event: Event) -> list[str]:
    if isinstance(event, Impression):
        return [item.item_id for item in event.items]
    item_id = getattr(event, "item_id", None)
    return [] if item_id is None else [item_id]


def _message(columns: Sequence[Any]) -> Message:
    partition, position, appended_at, source, place, row, event_id, body, kind = columns[:9]
    return Message(
        Partition.parse(partition),
        position,
        appended_at,
        source,
        (place, row),
        event_id,
        decode_body(body, deeds=kind == DEEDS),
    )


def _files(sources: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(_quoted(source) for source in sources)}], hive_partitioning = false)"


def _copy(db: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP_ROWS}"
    db.execute(f"COPY (SELECT * FROM ({query}) ORDER BY partition, position) TO {_quoted(path)} ({options})")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
