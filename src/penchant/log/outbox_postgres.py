"""The outbox as a table in PostgreSQL, into which applications may write in their own transactions."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from penchant.core.clock import Clock, Millis
from penchant.core.errors import LogFull, LogUnavailable
from penchant.core.events import Event
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.outbox import Depth, Pending, Taken
from penchant.core.partitions import Layout, Place
from penchant.core.postgres import migrate
from penchant.core.schema import Schema
from penchant.log.group import Batch, GroupCommit
from penchant.log.outbox import KEEP_IDS_MS, MINUTE_MS, Entry, Tally, enter, full, ids_of, stamp
from penchant.log.outbox_rows import Row, pending_or_refused
from penchant.log.postgres_link import PostgresLink
from penchant.log.sequence import Sequencer
from penchant.telemetry import logger

if TYPE_CHECKING:
    from psycopg import Connection

GROUP = 2_000
"""Events of one transaction at most, unless a single batch is larger."""
_POLL_S = 0.02
_COUNT_AT_MOST = 100_000
_COUNT_S = 1.0
_EXPIRE_AT_ONCE = 5_000
_LEAD = 7_236_405_118_230_042
_START = ("0", -1)
_READABLE = "(xid, id) > (%s::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())"


class _Counted(NamedTuple):
    pending: int
    at: float


class PostgresOutbox:
    """An `Outbox` in the schema `penchant` of a database; collectors share it, one process relays it.

    Rows are read by transaction horizon: in the order (transaction, row), and only of transactions older than every
    one that is still open, so that a poller never passes over what commits later. A writing transaction that stays
    open holds everything up, in any database of the server: set `idle_in_transaction_session_timeout`. Places are
    `(transaction, row)`.

    Applications call `penchant.emit(event jsonb)` in their own transactions; what they write is checked when it is
    read, and goes to `penchant.outbox_refused` with the reason when it is no event. They are not held to
    `max_events`. `name` changes when the server was replaced by a promoted standby or a restored copy, which may give
    the numbers of transactions a second time; what waited then and has no id could count twice.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: Schema,
        layout: Layout,
        clock: Clock,
        lateness_ms: Millis,
        rng: random.Random,
        max_events: int = 5_000_000,
        keep_ids_ms: Millis = KEEP_IDS_MS,
        timeout_ms: int = 5_000,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._link = PostgresLink(url, prepare=self._prepare, rng=rng, timeout_ms=timeout_ms)
        self._schema = schema
        self._layout = layout
        self._clock = clock
        self._sequencer = Sequencer(clock, lateness_ms)
        self._max_events = max_events
        self._keep_ids_ms = keep_ids_ms
        self._failpoint = failpoint
        self._name: str | None = None
        self._counted: _Counted | None = None
        self._expired_in = -1
        self._news = threading.Condition()
        self._appends = 0
        self._closed = False
        self._lead_lock = threading.Lock()
        self._leading: Connection | None = None
        self._group: GroupCommit[Entry, Taken] = GroupCommit(self._commit, GROUP)

    @property
    def name(self) -> str:
        """Of the tables and of the history of the server that has them."""
        if self._name is None:
            with self._link.connection():
                pass
        assert self._name is not None
        return self._name

    def append(self, events: Sequence[Event]) -> Taken:
        """Make the events durable, in order, each id once; raises `LogFull` having taken nothing."""
        entries = [enter(event, self._schema, self._layout, _digest) for event in events]
        return self._group.submit(entries) if entries else Taken(0, 0)

    def read(self, after: Place | None, limit: int) -> Sequence[Pending]:
        """Up to `limit` events past `after`, in order; what is no event is put aside."""
        position = _at(after)
        while True:
            with self._link.connection() as db:
                rows = db.execute(
                    "SELECT xid::text::bigint, id, accepted_at, body, event::text FROM penchant.outbox"
                    f" WHERE {_READABLE} ORDER BY xid, id LIMIT %s",
                    (*position, limit),
                ).fetchall()
                parsed = [pending_or_refused(Row(*row), self._schema) for row in rows]
                for refused in parsed:
                    if not isinstance(refused, Pending):
                        logger.warning("an event in the outbox is none: %s: %s", refused.field, refused.message)
                        db.execute(_REFUSE, refused)
            good = [one for one in parsed if isinstance(one, Pending)]
            if good or not rows:
                return good
            position = (str(rows[-1][0]), rows[-1][1])

    def wait(self, after: Place | None, timeout: float) -> bool:
        """Block until there is an event past `after` (True) or `timeout` seconds went by (False).

        Wakes at once for an append of this process; asks every 20 ms for those of others.
        """
        deadline = time.monotonic() + timeout
        while not self._closed:
            appends = self._appends
            with self._link.connection() as db:
                if db.execute(f"SELECT 1 FROM penchant.outbox WHERE {_READABLE} LIMIT 1", _at(after)).fetchone():
                    return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._news:
                if self._appends == appends:
                    self._news.wait(min(left, _POLL_S))
        return False

    def confirm(self, upto: Place) -> None:
        """Forget the events at or before `upto`; their ids are known for `keep_ids_ms` more."""
        minute = self._clock.now() // MINUTE_MS
        place = _at(upto)
        with self._link.connection() as db:
            with db.transaction():
                db.execute("DELETE FROM penchant.outbox WHERE (xid, id) <= (%s::xid8, %s)", place)
                db.execute(
                    "INSERT INTO penchant.outbox_confirmed VALUES (%s, %s::xid8, %s)"
                    " ON CONFLICT (minute) DO UPDATE SET xid = excluded.xid, id = excluded.id",
                    (minute, *place),
                )
                self._failpoint("before_confirm")
            self._counted = None
            if minute != self._expired_in and self._expire(db, minute):
                self._expired_in = minute

    def depth(self) -> Depth:
        """How much waits: counted to 100,000, beyond that taken from the numbers of the first and the last row."""
        with self._link.connection() as db:
            pending = self._count(db)
            first = db.execute("SELECT accepted_at FROM penchant.outbox ORDER BY xid, id LIMIT 1").fetchone()
        return Depth(pending, max(0, self._clock.now() - first[0]) if first else 0)

    def lead(self) -> bool:
        """Hold an advisory lock on a connection of its own; the server drops it with the connection."""
        with self._lead_lock:
            if self._leading is not None:
                if not self._link.alive(self._leading):
                    self._leading = None
                return self._leading is not None
            if not self._closed:
                self._leading = self._link.locked(_LEAD)
            return self._leading is not None

    def resign(self) -> None:
        """Close the connection that has the lock."""
        with self._lead_lock:
            if self._leading is not None:
                self._leading.close()
                self._leading = None

    def close(self) -> None:
        """Give the connections back; calls that wait return."""
        self._closed = True
        self.resign()
        with self._news:
            self._news.notify_all()
        self._link.close()

    def _prepare(self, db: Connection) -> None:
        migrate(db, "outbox", "penchant.log")
        # The table is empty or huge from one moment to the next: statistics would mislead.
        db.execute("SET enable_seqscan = off")
        row = db.execute(
            "SELECT name, (SELECT system_identifier FROM pg_control_system())::text,"
            " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM penchant.outbox_name"
        ).fetchone()
        assert row is not None
        self._name = xxhash.xxh3_64_hexdigest("/".join(row).encode())

    def _commit(self, group: list[Batch[Entry, Taken]]) -> None:
        try:
            with self._link.connection() as db:
                self._transact(db, group)
        except LogUnavailable as error:
            for batch in group:
                batch.error = LogFull(f"the outbox can take nothing for now: {error}")

    def _transact(self, db: Connection, group: list[Batch[Entry, Taken]]) -> None:
        pending = known_pending = self._pending(db)
        fitting = []
        for batch in group:
            if pending + len(batch.rows) <= self._max_events:
                fitting.append(batch)
                pending += len(batch.rows)
        with db.transaction():
            tallies, accepted = self._take(db, [batch.rows for batch in fitting])
            self._failpoint("before_commit")
        self._counted = self._counted and self._counted._replace(pending=known_pending + accepted)
        for batch in group:
            if batch not in fitting:
                batch.error = full(known_pending + accepted, self._max_events)
        for batch, tally in zip(fitting, tallies, strict=True):
            batch.result = tally.taken()
        with self._news:
            self._appends += 1
            self._news.notify_all()
        self._failpoint("after_commit")

    def _take(self, db: Connection, batches: list[list[Entry]]) -> tuple[list[Tally], int]:
        entries = [entry for batch in batches for entry in batch]
        first_row: dict[bytes, int] = {}
        xid, numbers = db.execute(
            "SELECT pg_current_xact_id()::text, array_agg(nextval('penchant.outbox_rows')) FROM generate_series(1, %s)",
            (len(entries),),
        ).fetchone() or ("0", [])
        for entry, number in zip(entries, numbers or [], strict=True):
            if entry.id is not None:
                first_row.setdefault(entry.id, number)
        ids = ids_of(entries)
        # In one order, so that two collectors with the same ids wait for each other instead of both waiting.
        new = set() if not ids else {
            bytes(id)
            for (id,) in db.execute(
                "INSERT INTO penchant.outbox_ids (id, xid, row_id)"
                " SELECT id, pg_current_xact_id(), row_id FROM unnest(%s::bytea[], %s::bigint[]) AS new (id, row_id)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (ids, [first_row[id] for id in ids]),
            )
        }  # fmt: skip
        known: dict[bytes, Place] = {id: (int(xid), first_row[id]) for id in new}
        if len(new) < len(ids):
            old = [id for id in ids if id not in new]
            find = "SELECT id, xid::text::bigint, row_id FROM penchant.outbox_ids WHERE id = ANY (%s)"
            known.update((bytes(id), (their_xid, row)) for id, their_xid, row in db.execute(find, (old,)))
        rows, tallies, numbered = [], [], iter(numbers or [])
        for batch in batches:
            tally = Tally()
            for (id, partition, event), number in zip(batch, numbered, strict=False):
                if id is not None and (id not in new or first_row[id] != number):
                    tally.knew(partition, known.get(id))
                    continue
                accepted_at, late, body = stamp(event, self._sequencer)
                rows.append((number, accepted_at, body))
                tally.took(partition, (int(xid), number), late=late)
            tallies.append(tally)
        if rows:
            db.execute(
                "INSERT INTO penchant.outbox (id, accepted_at, body)"
                " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[])",
                tuple(map(list, zip(*rows, strict=True))),
            )
        return tallies, len(rows)

    def _pending(self, db: Connection) -> int:
        """How many wait, counted afresh about every second and after each confirmation."""
        counted = self._counted
        if counted is None or time.monotonic() - counted.at > _COUNT_S:
            counted = self._counted = _Counted(self._count(db), time.monotonic())
        return counted.pending

    def _count(self, db: Connection) -> int:
        row = db.execute(
            "SELECT count(*) FROM (SELECT FROM penchant.outbox LIMIT %s) AS few", (_COUNT_AT_MOST,)
        ).fetchone()
        if row is None or row[0] < _COUNT_AT_MOST:
            return row[0] if row else 0
        ends = db.execute(
            "SELECT (SELECT id FROM penchant.outbox ORDER BY xid DESC, id DESC LIMIT 1)"
            " - (SELECT id FROM penchant.outbox ORDER BY xid, id LIMIT 1) + 1"
        ).fetchone()
        return max(_COUNT_AT_MOST, ends[0] or 0) if ends else _COUNT_AT_MOST

    def _expire(self, db: Connection, minute: int) -> bool:
        """Drop some of the ids that were confirmed long enough ago; True when there are no more."""
        oldest = minute - -(-self._keep_ids_ms // MINUTE_MS)
        upto = db.execute(
            "SELECT xid::text, id FROM penchant.outbox_confirmed WHERE minute < %s ORDER BY minute DESC LIMIT 1",
            (oldest,),
        ).fetchone()
        if upto is None:
            return True
        gone = db.execute(
            "DELETE FROM penchant.outbox_ids WHERE id IN (SELECT id FROM penchant.outbox_ids"
            " WHERE (xid, row_id) <= (%s::xid8, %s) ORDER BY xid, row_id LIMIT %s)",
            (*upto, _EXPIRE_AT_ONCE),
        ).rowcount
        if gone == _EXPIRE_AT_ONCE:
            return False
        db.execute("DELETE FROM penchant.outbox_confirmed WHERE minute < %s", (oldest,))
        return True


_REFUSE = """
WITH gone AS (DELETE FROM penchant.outbox WHERE xid = %s::xid8 AND id = %s RETURNING xid, id, accepted_at, event),
  refused AS (
    INSERT INTO penchant.outbox_refused (id, accepted_at, event, field, reason, message)
    SELECT id, accepted_at, event, %s, %s, %s FROM gone ON CONFLICT DO NOTHING
  )
DELETE FROM penchant.outbox_ids WHERE (xid, row_id) IN (SELECT xid, id FROM gone)
"""
"""Its id is forgotten too, so that the event can be sent again once it is mended."""


def _at(place: Place | None) -> tuple[str, int]:
    return _START if place is None else (str(place[0]), place[1])


def _digest(id: str) -> bytes:
    """As `penchant.emit` has it."""
    return hashlib.sha256(id.encode()).digest()[:16]
