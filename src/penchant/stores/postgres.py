"""A durable copy of a state in partitions, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from penchant.core.errors import FenceConflict
from penchant.core.hashing import hash_id
from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.core.state import Key
from penchant.stores.postgres_tables import Tables
from penchant.stores.tracking import check_advance, is_tracked

if TYPE_CHECKING:
    from psycopg import Connection

_AT_ONCE = 1_000
_FIND = "SELECT id, position, cleared FROM penchant.copy_partitions WHERE (name, gid, partition) = (%s, %s, %s)"
_MAKE = "INSERT INTO penchant.copy_partitions (name, gid, partition) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_MOVE = "UPDATE penchant.copy_partitions SET position = %s WHERE id = %s AND position = %s"
_PUT = (
    "INSERT INTO penchant.copy_entries (partition, key, position, value)"
    " SELECT %s, key, %s, value FROM unnest(%b::bytea[], %b::bytea[]) AS given (key, value)"
    " ON CONFLICT (partition, key) DO UPDATE SET position = excluded.position, value = excluded.value"
)
_DROP = "DELETE FROM penchant.copy_entries WHERE partition = %s AND key = ANY(%b::bytea[])"
_GET = (
    "SELECT key, value FROM penchant.copy_entries WHERE partition = %s AND key = ANY(%b::bytea[]) AND value IS NOT NULL"
)
_RANGE = "FROM penchant.copy_entries WHERE partition = %s AND key >= %b AND key < %b"


class PostgresCopy:
    """A `PartitionedState` in tables of the schema `penchant`. Safe for several threads; connects at the first call.

    A commit is one transaction per partition, which compares the fence and moves it. Snapshots are transactions
    (REPEATABLE READ) on a connection of their own.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        fingerprint: str,
        layout: Layout,
        timeout_ms: int = 60_000,
        setting: str = "[copy] url",
    ) -> None:
        self.layout = layout
        self.gid = f"{hash_id(fingerprint) & 0xFFFFFFFFFFFF:012x}"
        self.tables = Tables(url, timeout_ms=timeout_ms, setting=setting)
        self._name = name

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        """One view for each; those of one partition are read atomically. Raises `StateUnavailable`."""
        views = []
        for partition, keys in wanted:
            snapshot = PostgresSnapshot(self, partition)
            try:
                views.append(View(snapshot.position, snapshot.get_many(keys)))
            finally:
                snapshot.close()
        return views

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        """Commit each partition's writes atomically and on its own: None where done, else the fence found instead.

        Raises `StateUnavailable` when it is not known which went through; the fences tell.
        """
        for commit in commits:
            check_advance(commit.expected, commit.position)
        with self.tables.connection() as db:
            return [self._commit(db, commit) for commit in commits]

    def partition(self, partition: Partition) -> PostgresPartition:
        """One partition as a store of its own."""
        return PostgresPartition(self, partition)

    def keys(self, partition: Partition) -> set[Key]:
        """All keys that a partition has values of."""
        snapshot = PostgresSnapshot(self, partition)
        try:
            return snapshot.keys()
        finally:
            snapshot.close()

    def drop(self, gid: str) -> None:
        """Delete the copy of a definition."""
        with self.tables.connection() as db:
            db.execute("DELETE FROM penchant.copy_partitions WHERE (name, gid) = (%s, %s)", (self._name, gid))

    def close(self) -> None:
        """Give the connections back; open snapshots end when they are closed."""
        self.tables.close()

    def find(self, db: Connection, partition: Partition) -> tuple[int, int, int] | None:
        """Number, fence and how often it was cleared of a partition in the tables; None before its first commit."""
        row = db.execute(_FIND, (self._name, self.gid, str(partition))).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def made(self, db: Connection, partition: Partition) -> tuple[int, int, int]:
        """As `find`, made if it is not there."""
        row = self.find(db, partition)
        while row is None:
            db.execute(_MAKE, (self._name, self.gid, str(partition)))
            row = self.find(db, partition)
        return row

    def _commit(self, db: Connection, commit: Commit) -> int | None:
        with db.transaction():
            number, current, _ = self.made(db, commit.partition)
            if current != commit.expected:
                return current
            # The fence's row is locked from here on; whoever was first is seen in the second look.
            if db.execute(_MOVE, (commit.position, number, commit.expected)).rowcount != 1:
                return self.made(db, commit.partition)[1]
            puts = sorted((key, value) for key, value in commit.writes.items() if value is not None or is_tracked(key))
            drops = [key for key, value in commit.writes.items() if value is None and not is_tracked(key)]
            for start in range(0, len(puts), _AT_ONCE):
                keys, values = zip(*puts[start : start + _AT_ONCE], strict=True)
                db.execute(_PUT, (number, commit.position, list(keys), list(values)))
            if drops:
                db.execute(_DROP, (number, drops))
        return None


class PostgresPartition:
    """A `StateStore` in one partition of a `PostgresCopy`, which stays open when this is closed. Safe for threads."""

    def __init__(self, copy: PostgresCopy, partition: Partition) -> None:
        self._copy = copy
        self._partition = partition

    def position(self) -> int:
        """The fence: the position the state reflects."""
        with self._copy.tables.connection() as db:
            found = self._copy.find(db, self._partition)
        return found[1] if found else 0

    def snapshot(self) -> PostgresSnapshot:
        """An unchanging view; a transaction on a connection of its own until it is closed."""
        return PostgresSnapshot(self._copy, self._partition)

    def commit(self, expected: int, position: int, writes: Mapping[Key, bytes | None]) -> None:
        """Set (or with `None` drop) the keys and move the fence, all or nothing.

        Raises `FenceConflict` and changes nothing when the fence is not at `expected`.
        """
        (found,) = self._copy.commit([Commit(self._partition, expected, position, writes)])
        if found is not None:
            raise FenceConflict(expected, found)

    def clear(self) -> None:
        """Drop everything, put the fence back to the start and begin another generation."""
        with self._copy.tables.connection() as db, db.transaction():
            number = self._copy.made(db, self._partition)[0]
            again = "UPDATE penchant.copy_partitions SET position = 0, cleared = cleared + 1 WHERE id = %s"
            db.execute(again, (number,))
            db.execute("DELETE FROM penchant.copy_entries WHERE partition = %s", (number,))

    def close(self) -> None:
        """Nothing to give back."""


class PostgresSnapshot:
    """A `Snapshot` of a partition of the copy; for one thread at a time."""

    def __init__(self, copy: PostgresCopy, partition: Partition) -> None:
        self._tables = copy.tables
        self._db = self._tables.take()
        self._open = True
        try:
            with self._tables.told():
                self._db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                # The first read fixes what the transaction sees.
                self._number, self.position, cleared = copy.find(self._db, partition) or (0, 0, 0)
        except BaseException:
            self._db.close()
            raise
        self.generation = str(cleared)

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys."""
        found: dict[Key, bytes] = {}
        if keys:
            with self._tables.told():
                found.update(self._db.execute(_GET, (self._number, list(keys)), binary=True))
        return [found.get(key) for key in keys]

    def changed(self, after: int, prefix: bytes) -> Sequence[Key]:
        """Keys that start with `prefix` and were last written by a commit past position `after`, in key order."""
        query = f"SELECT key {_RANGE} AND position > %s ORDER BY key"
        with self._tables.told():
            rows = self._db.execute(query, (self._number, prefix, _beyond(prefix), after), binary=True)
            return [key for (key,) in rows]

    def keys(self) -> set[Key]:
        """All keys that have values."""
        query = f"SELECT key {_RANGE} AND value IS NOT NULL"
        with self._tables.told():
            return {key for (key,) in self._db.execute(query, (self._number, b"", _beyond(b"")), binary=True)}

    def scan(self, prefix: bytes) -> Iterator[tuple[Key, bytes]]:
        """All entries whose key starts with `prefix`, in key order."""
        query = f"SELECT key, value {_RANGE} AND value IS NOT NULL ORDER BY key LIMIT {_AT_ONCE}"
        first, beyond = prefix, _beyond(prefix)
        while True:
            with self._tables.told():
                rows = self._db.execute(query, (self._number, first, beyond), binary=True).fetchall()
            yield from rows
            if len(rows) < _AT_ONCE:
                return
            first = rows[-1][0] + b"\0"

    def count(self, prefix: bytes) -> int:
        """How many keys start with `prefix`."""
        query = f"SELECT count(*) {_RANGE} AND value IS NOT NULL"
        with self._tables.told():
            row = self._db.execute(query, (self._number, prefix, _beyond(prefix))).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """End the view."""
        if self._open:
            self._open = False
            try:
                with self._tables.told():
                    self._db.execute("COMMIT")
            except BaseException:
                self._db.close()
                raise
            self._tables.give(self._db)


def _beyond(prefix: bytes) -> bytes:
    """The first key after all that start with `prefix`; none starts with 0xff, as ids are UTF-8."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\xff"
