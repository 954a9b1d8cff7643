"""The table of a SQLite log: its columns and indexes, and how events become rows and rows records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import xxhash

from penchant.core.clock import Millis
from penchant.core.errors import LogFull
from penchant.core.events import Event, decode_event, encode_event
from penchant.core.hashing import hash_id
from penchant.core.log import Record
from penchant.core.schema import Schema
from penchant.log.group import Batch
from penchant.log.sequence import is_timed, person, quantised, served_request

T = TypeVar("T")
R = TypeVar("R")

BUCKET_BITS = 14
"""People are indexed within buckets of positions: inserts then touch the few pages of the newest bucket instead of
one of all pages each, and finding a person's records costs a look-up per bucket, which only erasure does."""
CREATE = f"""
CREATE TABLE IF NOT EXISTS log (
  position INTEGER PRIMARY KEY,  -- last + 1 in the transaction that inserts; no row is ever deleted
  id BLOB,                       -- xxh3_128 of the event's id, null without one
  ingested_at INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  verdict INTEGER NOT NULL,
  q INTEGER NOT NULL,
  type TEXT NOT NULL,
  user INTEGER,                  -- hash_id of the person, null when there is none (any more)
  request BLOB,                  -- xxh3_128 of the request that an impression of the engine answered
  body BLOB NOT NULL             -- the event as msgpack
);
CREATE UNIQUE INDEX IF NOT EXISTS log_id ON log (id) WHERE id IS NOT NULL;
CREATE INDEX IF NOT EXISTS log_user ON log (position >> {BUCKET_BITS}, user) WHERE user IS NOT NULL;
CREATE INDEX IF NOT EXISTS log_request ON log (request) WHERE request IS NOT NULL;
CREATE INDEX IF NOT EXISTS log_erasure ON log (position) WHERE type = 'user_erased' AND user IS NOT NULL;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
"""
_FIND_AT_ONCE = 64
PLACEHOLDERS = ", ".join("?" * _FIND_AT_ONCE)
"""What a query for `found` looks for: always as many, so that SQLite prepares it once."""
FIND = f"SELECT id FROM log WHERE id IN ({PLACEHOLDERS})"
COLUMNS = "position, ingested_at, ts, verdict, q, body"
_FULL = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}


class Row(NamedTuple):
    """An event made ready outside of the transaction; what the transaction decides is missing."""

    id: bytes | None
    ts: Millis | None
    timed: bool
    q: int
    type: str
    user: int | None
    request: bytes | None
    body: bytes


def prepare(event: Event, schema: Schema) -> Row:
    """The row of an event, as far as it can be made before the log's end is known."""
    user_id = person(event)
    request_id = served_request(event)
    return Row(
        None if event.id is None else digest(event.id),
        event.ts,
        is_timed(event),
        quantised(event, schema),
        event.__struct_config__.tag,  # type: ignore[arg-type]
        hash_id(user_id) if user_id else None,
        None if request_id is None else digest(request_id),
        encode_event(event),
    )


def to_record(row: tuple[int, int, int, int, int, bytes]) -> Record:
    """The record of a row of `COLUMNS`."""
    position, ingested_at, ts, verdict, q, body = row
    return Record(position, ingested_at, ts, verdict, q, decode_event(body))


def digest(text: str) -> bytes:
    """How an id is kept: 16 bytes that do not tell it."""
    return xxhash.xxh3_128_digest(text.encode())


def found(db: sqlite3.Connection, query: str, ids: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
    """The rows that a query with `PLACEHOLDERS` finds of any number of ids."""
    for start in range(0, len(ids), _FIND_AT_ONCE):
        some = ids[start : start + _FIND_AT_ONCE]
        yield from db.execute(query, (*some, *(None,) * (_FIND_AT_ONCE - len(some))))


def settle(group: list[Batch[T, R]], transact: Callable[[list[Batch[T, R]]], None]) -> None:
    """Settle a group by one transaction; where that fails, each batch that can go through alone does."""
    try:
        transact(group)
    except sqlite3.Error as error:
        if len(group) == 1:
            group[0].error = refusal(error)
            return
        for batch in group:
            settle([batch], transact)


def refusal(error: sqlite3.Error) -> Exception:
    """What the caller is told: `LogFull` where trying again later can help."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return LogFull(f"the log can take nothing for now: {error}") if code in _FULL else error
