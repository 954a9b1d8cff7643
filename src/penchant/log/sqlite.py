"""The log as one SQLite file: the default, and its own outbox."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from penchant.core.clock import Clock, Millis
from penchant.core.errors import LogUnavailable, PenchantError
from penchant.core.events import Event, decode_event, encode_event
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.hashing import hash_id
from penchant.core.log import LATE, START, Appended, Record
from penchant.core.schema import Schema
from penchant.core.sqlite import transaction
from penchant.log.group import Batch, GroupCommit
from penchant.log.sequence import Sequencer, person, without_person
from penchant.log.table import (
    BUCKET_BITS,
    COLUMNS,
    CREATE,
    FIND,
    Row,
    digest,
    found,
    prepare,
    refusal,
    settle,
    to_record,
)
from penchant.telemetry import logger

GROUP = 2_000
"""Events of one transaction at most, unless a single batch is larger."""
_ERASE_AT_ONCE = 1_000
_CHECKPOINT_PAGES = 4_000
"""Hashed ids dirty pages all over their index; a longer WAL writes each of them back once for many commits."""
_POLL_S = 0.005
_BUSY_S = 10.0
_VERSION = 1


class SqliteLog:
    """An `EventLog` in one SQLite file in WAL mode; several processes may append to it and read it.

    `synchronous=FULL`: accepted means durable, over a power cut as well, and the state may never get ahead of its log.
    That costs a sync per commit, which group commit shares: all batches that came while the previous group was synced
    are one transaction. Readers never wait for writers. `epoch` names this log for good: a state folded from another
    one is not a state of this one.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        schema: Schema,
        clock: Clock,
        lateness_ms: Millis,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._path = Path(path)
        self._schema = schema
        self._sequencer = Sequencer(clock, lateness_ms)
        self._failpoint = failpoint
        self._news = threading.Condition()
        self._known_end = START
        self._closed = False
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._group: GroupCommit[Row, Appended] = GroupCommit(self._commit, GROUP)
        self._writer = self._connect()
        try:
            self.epoch = self._open()
        except BaseException:
            self._writer.close()
            raise

    def append(self, events: Sequence[Event]) -> Appended:
        """Make the events durable, in order, each id once; raises `LogFull` having taken nothing."""
        rows = [prepare(event, self._schema) for event in events]
        return self._group.submit(rows) if rows else Appended(self.end(), 0, 0)

    def read(self, after: int, limit: int) -> Sequence[Record]:
        """Up to `limit` records with position > `after`, in order."""
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM log WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
            ).fetchall()
        if rows:
            self._sequencer.observe(rows[-1][1])
        return [to_record(row) for row in rows]

    def end(self) -> int:
        """The last position, `START` when empty."""
        with self._reading() as db:
            position: int = db.execute("SELECT coalesce(max(position), 0) FROM log").fetchone()[0]
        return position

    def wait(self, after: int, timeout: float) -> bool:
        """Block until there is a record past `after` (True) or `timeout` seconds went by (False).

        Wakes at once for an append of this process, within milliseconds for one of another.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self._known_end > after or (not self._closed and self.end() > after):
                return True
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                return False
            with self._news:
                if self._known_end <= after:
                    self._news.wait(min(left, _POLL_S))

    def impression(self, request_id: str) -> Record | None:
        """The engine's own impression that answered `request_id`."""
        with self._reading() as db:
            row = db.execute(
                f"SELECT {COLUMNS} FROM log WHERE request = ? ORDER BY position LIMIT 1", (digest(request_id),)
            ).fetchone()
        return None if row is None else to_record(row)

    def erasures(self, upto: int) -> Sequence[tuple[int, str]]:
        """`(position, user_id)` of the `UserErased` records at or before `upto` that still name the person."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT position, body FROM log"
                " WHERE type = 'user_erased' AND user IS NOT NULL AND position <= ? ORDER BY position",
                (upto,),
            ).fetchall()
        return [(position, person(decode_event(body))) for position, body in rows]

    def erase(self, user_id: str, upto: int | None = None) -> int:
        """Take the person out of the records at or before `upto` (default: all); returns the records changed.

        Done in pieces, so that appends go on; the `UserErased` records go last, so that a half-done erasure is still
        found by `erasures`. Afterwards no byte of the person's id is left in the file or its WAL (deleted content is
        zeroed, the WAL emptied).
        """
        upto = self.end() if upto is None else upto
        places = self._places(user_id, upto)
        changed = 0
        for start in range(0, len(places), _ERASE_AT_ONCE):
            changed += self._empty(user_id, places[start : start + _ERASE_AT_ONCE])
        if changed:
            self._failpoint("before_checkpoint")
            self._empty_wal()
        return changed

    def close(self) -> None:
        """Give the file back; calls that wait return."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            self._close_idle()
            self._writer.close()
        with self._news:
            self._news.notify_all()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return db

    def _open(self) -> str:
        db = self._writer
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, _VERSION}:
            raise PenchantError(f"{self._path} is a log of format {version}; this version of Penchant reads {_VERSION}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA cache_size = -16000")  # readers lose their cache at every commit: not theirs
        with transaction(self._writer):
            for statement in CREATE.split(";\n"):
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (os.urandom(16).hex(),))
            db.execute(f"PRAGMA user_version = {_VERSION}")
        self._known_end, last = self._tail()
        self._sequencer.observe(last)
        # A process killed between an erasure and its checkpoint left the old pages in the WAL.
        db.execute("PRAGMA busy_timeout = 0")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        db.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1_000)}")
        epoch: str = db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]
        return epoch

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._connect()
        except sqlite3.Error as error:
            raise LogUnavailable(f"the log cannot be opened: {error}") from error
        try:
            yield db
        except sqlite3.Error as error:
            raise LogUnavailable(f"the log cannot be read: {error}") from error
        finally:
            self._idle.append(db)
            if self._closed:
                self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _tail(self) -> tuple[int, Millis]:
        last = self._writer.execute("SELECT position, ingested_at FROM log ORDER BY position DESC LIMIT 1").fetchone()
        return last or (START, 0)

    def _commit(self, group: list[Batch[Row, Appended]]) -> None:
        with self._writing:
            settle(group, self._transact)

    def _transact(self, group: list[Batch[Row, Appended]]) -> None:
        results = []
        with transaction(self._writer) as db:
            position, last = self._tail()
            self._sequencer.observe(last)
            for batch in group:
                before = position
                rows, late, last = self._stamp(batch.rows, position, last)
                db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                position += len(rows)
                results.append((position - before, late))
            self._failpoint("before_commit")
        for batch, (accepted, late) in zip(group, results, strict=True):
            batch.result = Appended(position, accepted, len(batch.rows) - accepted, late)
        with self._news:
            self._known_end = max(self._known_end, position)
            self._news.notify_all()
        self._failpoint("after_commit")

    def _stamp(self, rows: list[Row], position: int, last: Millis) -> tuple[list[tuple[object, ...]], int, Millis]:
        known = self._known([row.id for row in rows if row.id is not None])
        stamp = self._sequencer.stamp
        stamped: list[tuple[object, ...]] = []
        late = 0
        for key, client_ts, timed, q, kind, user, request, body in rows:
            if key is not None:
                if key in known:
                    continue
                known.add(key)
            last, ts, verdict = stamp(client_ts, timed, last)
            position += 1
            late += verdict == LATE
            stamped.append((position, key, last, ts, verdict, q, kind, user, request, body))
        return stamped, late, last

    def _known(self, ids: list[bytes]) -> set[bytes]:
        """Those that the log has. Asked for before anything is stamped: a duplicate must not move the clock."""
        return {key for (key,) in found(self._writer, FIND, ids)}

    def _places(self, user_id: str, upto: int) -> list[int]:
        """Where the person's records are, the `UserErased` ones last."""
        find = f"SELECT type = 'user_erased', position FROM log WHERE position >> {BUCKET_BITS} = ? AND user = ?"
        places: list[tuple[int, int]] = []
        with self._reading() as db:
            for bucket in range((upto >> BUCKET_BITS) + 1):
                places += db.execute(find, (bucket, hash_id(user_id)))
        return [position for _, position in sorted(places) if position <= upto]

    def _empty(self, user_id: str, places: Sequence[int]) -> int:
        try:
            with self._writing, transaction(self._writer) as db:
                bodies = [
                    db.execute("SELECT body FROM log WHERE position = ?", (place,)).fetchone()[0] for place in places
                ]
                emptied = [
                    (encode_event(without_person(event)), place)
                    for place, event in zip(places, map(decode_event, bodies), strict=True)
                    if person(event) == user_id
                ]
                db.executemany("UPDATE log SET user = NULL, request = NULL, body = ? WHERE position = ?", emptied)
                self._failpoint("before_erase")
        except sqlite3.Error as error:
            raise refusal(error) from error
        return len(emptied)

    def _empty_wal(self) -> None:
        try:
            with self._writing:
                busy = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise refusal(error) from error
        if busy:
            logger.warning(
                "%s: a reader holds old pages of the WAL; they go with the next erasure or start", self._path
            )
