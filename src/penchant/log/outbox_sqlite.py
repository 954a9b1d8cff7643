"""The outbox as one SQLite file on the collector's disk."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from penchant.core.clock import Clock, Millis
from penchant.core.errors import LogUnavailable, PenchantError
from penchant.core.events import Event, decode_event
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.outbox import Depth, Pending, Taken
from penchant.core.partitions import Layout, Place
from penchant.core.schema import Schema
from penchant.core.sqlite import transaction
from penchant.log.group import Batch, GroupCommit
from penchant.log.outbox import KEEP_IDS_MS, MINUTE_MS, Entry, Tally, enter, full, ids_of, stamp
from penchant.log.sequence import Sequencer
from penchant.log.table import PLACEHOLDERS, found, settle

GROUP = 2_000
"""Events of one transaction at most, unless a single batch is larger."""
_EXPIRE_AT_ONCE = 5_000
_POLL_S = 0.005
_BUSY_S = 10.0
_VERSION = 1
_CREATE = """
CREATE TABLE IF NOT EXISTS pending (
  row INTEGER PRIMARY KEY AUTOINCREMENT,  -- last + 1 in the transaction that inserts; never given again, no gaps
  accepted_at INTEGER NOT NULL,
  body BLOB NOT NULL                      -- the event as msgpack, with its ts
);
CREATE TABLE IF NOT EXISTS ids (
  row INTEGER PRIMARY KEY,
  id BLOB NOT NULL                        -- xxh3_128 of the event's id
);
CREATE UNIQUE INDEX IF NOT EXISTS ids_id ON ids (id);
CREATE TABLE IF NOT EXISTS confirmed (minute INTEGER PRIMARY KEY, upto INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID
"""
_FIND = f"SELECT id, row FROM ids WHERE id IN ({PLACEHOLDERS})"


class SqliteOutbox:
    """An `Outbox` in one SQLite file in WAL mode; several processes may append to it, one relays it.

    `synchronous=FULL`: accepted means durable, over a power cut as well; group commit shares the sync. Places are
    `(0, row)`. A file put back from a backup would give places a second time: start a new one instead.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        schema: Schema,
        layout: Layout,
        clock: Clock,
        lateness_ms: Millis,
        max_events: int = 5_000_000,
        keep_ids_ms: Millis = KEEP_IDS_MS,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._path = Path(path)
        self._schema = schema
        self._layout = layout
        self._clock = clock
        self._sequencer = Sequencer(clock, lateness_ms)
        self._max_events = max_events
        self._keep_ids_ms = keep_ids_ms
        self._failpoint = failpoint
        self._news = threading.Condition()
        self._known_end = 0
        self._closed = False
        self._leading: int | None = None
        self._lead_lock = threading.Lock()
        self._writing = threading.Lock()
        self._reading_lock = threading.Lock()
        self._group: GroupCommit[Entry, Taken] = GroupCommit(self._commit, GROUP)
        self._writer = self._connect()
        try:
            self._name = self._open()
            self._reader = self._connect()
        except BaseException:
            self._writer.close()
            raise

    @property
    def name(self) -> str:
        """Made at random with the file."""
        return self._name

    def append(self, events: Sequence[Event]) -> Taken:
        """Make the events durable, in order, each id once; raises `LogFull` having taken nothing."""
        entries = [enter(event, self._schema, self._layout) for event in events]
        return self._group.submit(entries) if entries else Taken(0, 0)

    def read(self, after: Place | None, limit: int) -> Sequence[Pending]:
        """Up to `limit` events past `after`, in order."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT row, accepted_at, body FROM pending WHERE row > ? ORDER BY row LIMIT ?", (_row(after), limit)
            ).fetchall()
        return [Pending((0, row), accepted_at, decode_event(body)) for row, accepted_at, body in rows]

    def wait(self, after: Place | None, timeout: float) -> bool:
        """Block until there is an event past `after` (True) or `timeout` seconds went by (False).

        Wakes at once for an append of this process, within milliseconds for one of another.
        """
        deadline = time.monotonic() + timeout
        while not self._closed:
            if self._has(after):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._news:
                if self._known_end <= _row(after):
                    self._news.wait(min(left, _POLL_S))
        return False

    def confirm(self, upto: Place) -> None:
        """Forget the events at or before `upto`; their ids are known for `keep_ids_ms` more."""
        minute = self._clock.now() // MINUTE_MS
        try:
            with self._writing, transaction(self._writer) as db:
                db.execute("DELETE FROM pending WHERE row <= ?", (upto[1],))
                db.execute(
                    "INSERT INTO confirmed VALUES (?, ?) ON CONFLICT (minute) DO UPDATE SET upto = excluded.upto",
                    (minute, upto[1]),
                )
                self._expire(db, minute)
                self._failpoint("before_confirm")
        except sqlite3.Error as error:
            raise LogUnavailable(f"the outbox cannot forget what was sent: {error}") from error

    def depth(self) -> Depth:
        """How much waits; rows have no gaps, so nothing is counted."""
        with self._reading() as db:
            first = db.execute("SELECT row, accepted_at FROM pending ORDER BY row LIMIT 1").fetchone()
            last = db.execute("SELECT max(row) FROM pending").fetchone()[0]
        if first is None or last is None:
            return Depth(0, 0)
        return Depth(max(0, last - first[0] + 1), max(0, self._clock.now() - first[1]))

    def lead(self) -> bool:
        """Take the lock on a file beside this one; the system drops it when the process dies."""
        with self._lead_lock:
            if self._leading is None and not self._closed:
                file = os.open(f"{self._path}.relay", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(file)
                else:
                    self._leading = file
            return self._leading is not None

    def resign(self) -> None:
        """Give the lock back."""
        with self._lead_lock:
            if self._leading is not None:
                os.close(self._leading)
                self._leading = None

    def close(self) -> None:
        """Give the file back; calls that wait return."""
        with self._writing, self._reading_lock:
            if self._closed:
                return
            self._closed = True
            self._reader.close()
            self._writer.close()
        self.resign()
        with self._news:
            self._news.notify_all()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        return db

    def _open(self) -> str:
        db = self._writer
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, _VERSION}:
            raise PenchantError(
                f"{self._path} is an outbox of format {version}; this version of Penchant reads {_VERSION}"
            )
        db.execute("PRAGMA journal_mode = WAL")
        with transaction(self._writer):
            for statement in _CREATE.split(";\n"):
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('name', ?)", (os.urandom(8).hex(),))
            db.execute(f"PRAGMA user_version = {_VERSION}")
        self._known_end = self._last()
        name: str = db.execute("SELECT value FROM meta WHERE name = 'name'").fetchone()[0]
        return name

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._reading_lock:
            try:
                yield self._reader
            except sqlite3.Error as error:
                raise LogUnavailable(f"the outbox cannot be read: {error}") from error

    def _has(self, after: Place | None) -> bool:
        with self._reading() as db:
            return db.execute("SELECT 1 FROM pending WHERE row > ? LIMIT 1", (_row(after),)).fetchone() is not None

    def _last(self) -> int:
        found = self._writer.execute("SELECT seq FROM sqlite_sequence WHERE name = 'pending'").fetchone()
        return found[0] if found else 0

    def _commit(self, group: list[Batch[Entry, Taken]]) -> None:
        with self._writing:
            settle(group, self._transact)

    def _transact(self, group: list[Batch[Entry, Taken]]) -> None:
        tallies: list[Tally | None] = []
        with transaction(self._writer) as db:
            last = self._last()
            first = db.execute("SELECT min(row) FROM pending").fetchone()[0]
            pending = last - first + 1 if first is not None else 0
            for batch in group:
                if pending + len(batch.rows) > self._max_events:
                    tallies.append(None)
                    continue
                tally, end = self._take(batch.rows, last)
                tallies.append(tally)
                pending += end - last
                last = end
            self._failpoint("before_commit")
        for batch, done in zip(group, tallies, strict=True):
            if done is None:
                batch.error = full(pending, self._max_events)
            else:
                batch.result = done.taken()
        with self._news:
            self._known_end = max(self._known_end, last)
            self._news.notify_all()
        self._failpoint("after_commit")

    def _take(self, entries: list[Entry], last: int) -> tuple[Tally, int]:
        known = self._known(ids_of(entries))
        tally = Tally()
        rows, ids = [], []
        for id, partition, event in entries:
            if id is not None and id in known:
                tally.knew(partition, (0, known[id]))
                continue
            accepted_at, late, body = stamp(event, self._sequencer)
            last += 1
            rows.append((last, accepted_at, body))
            if id is not None:
                known[id] = last
                ids.append((last, id))
            tally.took(partition, (0, last), late=late)
        self._writer.executemany("INSERT INTO pending VALUES (?, ?, ?)", rows)
        self._writer.executemany("INSERT INTO ids VALUES (?, ?)", ids)
        return tally, last

    def _known(self, ids: list[bytes]) -> dict[bytes, int]:
        return dict(found(self._writer, _FIND, ids))

    def _expire(self, db: sqlite3.Connection, minute: int) -> None:
        """Drop some of the ids that were confirmed long enough ago; the next confirmation goes on."""
        oldest = minute - -(-self._keep_ids_ms // MINUTE_MS)
        upto = db.execute("SELECT max(upto) FROM confirmed WHERE minute < ?", (oldest,)).fetchone()[0]
        if upto is None:
            return
        first = db.execute("SELECT min(row) FROM ids").fetchone()[0]
        if first is not None and first <= upto:
            db.execute("DELETE FROM ids WHERE row <= ?", (min(upto, first + _EXPIRE_AT_ONCE),))
        else:
            db.execute("DELETE FROM confirmed WHERE minute < ?", (oldest,))


def _row(after: Place | None) -> int:
    return 0 if after is None else after[1]
