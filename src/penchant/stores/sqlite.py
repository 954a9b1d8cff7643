"""State in one SQLite file of its own: the default."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby
from pathlib import Path

import msgspec

from penchant.core.errors import FenceConflict, PenchantError, StateUnavailable
from penchant.core.log import START
from penchant.core.sqlite import transaction
from penchant.core.state import Key
from penchant.stores.tracking import check_advance, is_tracked

_BUSY_S = 30.0
_AT_ONCE = 32
_VERSION = 2
_REMEMBERED = 200_000
"""For so many positions back it is written down which keys changed; whoever asks for older ones has all keys looked at.
"""
_CHECKPOINT_PAGES = 4_000
"""The same values are written again and again: a longer WAL brings each page home once for many commits."""
_PAGE = 16_384
"""A row of a table without rowid moves to overflow pages beyond a quarter of the page; most blobs are below 4 KiB."""

_CREATE = """
CREATE TABLE IF NOT EXISTS state (
  key BLOB PRIMARY KEY,
  position INTEGER NOT NULL,  -- of the commit that wrote it last
  value BLOB                  -- null: a tracked key that was dropped
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
  position INTEGER NOT NULL, kind BLOB NOT NULL,
  keys BLOB NOT NULL,  -- msgpack: what this commit wrote; an index of the state by position would cost far more
  PRIMARY KEY (position, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fence (
  only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL, fingerprint TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS generation (
  only INTEGER PRIMARY KEY CHECK (only = 1), cleared INTEGER NOT NULL  -- how often everything was dropped
);
"""
_ONE = "SELECT value FROM state WHERE key = ?"
_MANY = f"SELECT key, value FROM state WHERE key IN ({', '.join('?' * _AT_ONCE)})"
_FENCE = "SELECT position, fingerprint FROM fence"
_SHOWN = "SELECT position, (SELECT cleared FROM generation) FROM fence"
_CHANGED = "SELECT keys FROM changes WHERE position > ? AND kind = ?"
_LOOKED_FOR = "SELECT key FROM state WHERE position > ? AND key >= ? AND key < ? ORDER BY key"
_SCAN = "SELECT key, value FROM state WHERE key >= ? AND key < ? AND value IS NOT NULL ORDER BY key"
_COUNT = "SELECT count(*) FROM state WHERE key >= ? AND key < ? AND value IS NOT NULL"
_PUT = (
    "INSERT INTO state VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET position = excluded.position, value = excluded.value"
)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[bytes])


class SqliteStore:
    """A `StateStore` in one SQLite file in WAL mode. Safe for several threads and processes.

    `synchronous=NORMAL`: a power cut may take the last commits, never a part of one; the fence goes with them and the
    runner folds them again from the log. State of another `fingerprint` is dropped when the store is opened
    (`was_rebuilt`).
    """

    def __init__(self, path: str | Path, *, fingerprint: str) -> None:
        self._path = Path(path)
        self._fingerprint = fingerprint
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._writing = threading.Lock()
        self._unclean = False
        self._writer = self._connect()
        try:
            self.was_rebuilt = self._open()
        except BaseException:
            self._writer.close()
            raise

    def position(self) -> int:
        """The fence: the position the state reflects."""
        with reading():
            db = self._borrow()
            try:
                position: int = db.execute(_FENCE).fetchone()[0]
            finally:
                self._give_back(db)
            if self._unclean:
                with self._writing:
                    self._empty_wal()
        return position

    def snapshot(self) -> SqliteSnapshot:
        """An unchanging view; a read transaction on a connection of its own until it is closed."""
        return SqliteSnapshot(self)

    def commit(self, expected: int, position: int, writes: Mapping[Key, bytes | None]) -> None:
        """Set (or with `None` drop) the keys and move the fence, all or nothing.

        Raises `FenceConflict` and changes nothing when the fence is not at `expected`.
        """
        check_advance(expected, position)
        puts = [(key, position, value) for key, value in sorted(writes.items()) if value is not None or is_tracked(key)]
        drops = [(key,) for key, value in writes.items() if value is None and not is_tracked(key)]
        with self._writing:
            with self._transaction() as db:
                current, fingerprint = db.execute(_FENCE).fetchone()
                if fingerprint != self._fingerprint:
                    raise PenchantError(f"{self._path}: another process keeps the state of other settings; restart")
                if current != expected:
                    raise FenceConflict(expected, current)
                db.executemany(_PUT, puts)
                self._note(db, position, [key for key, _, _ in puts])
                db.executemany("DELETE FROM state WHERE key = ?", drops)
                db.execute("UPDATE fence SET position = ?", (position,))
            self._unclean = self._unclean or bool(drops)
            if self._unclean:
                self._empty_wal()

    def clear(self) -> None:
        """Drop everything, put the fence back to the start and begin another generation."""
        with self._writing, self._transaction() as db:
            self._clear(db)

    def close(self) -> None:
        """Give the file back; open snapshots end when they are closed."""
        with self._writing:
            self._closed = True
            self._close_idle()
            self._writer.close()

    def _note(self, db: sqlite3.Connection, position: int, keys: Sequence[Key]) -> None:
        """Write down which tracked keys the commit writes, and forget what nobody will ask for any more."""
        db.executemany(
            "INSERT INTO changes VALUES (?, ?, ?)",
            [
                (position, kind, _encoder.encode(list(some)))
                for kind, some in groupby(keys, lambda key: key[:1])
                if is_tracked(kind)
            ],
        )
        db.execute("DELETE FROM changes WHERE position <= ?", (position - _REMEMBERED,))

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA page_size = {_PAGE}")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")
        return db

    def _open(self) -> bool:
        db = self._writer
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA cache_size = -65536")  # readers lose their cache at every commit: not theirs
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        with self._transaction():
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise PenchantError(f"{self._path} is of format {version}, not {_VERSION}: delete it, to be made anew")
            if version < _VERSION:
                for table in ("state", "fence"):
                    db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _CREATE.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("INSERT OR IGNORE INTO fence VALUES (1, ?, ?)", (START, self._fingerprint))
            db.execute("INSERT OR IGNORE INTO generation VALUES (1, 0)")
            if db.execute(_FENCE).fetchone()[1] == self._fingerprint:
                return bool(0 < version < _VERSION)
            self._clear(db)
        return True

    def _clear(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM state")
        db.execute("DELETE FROM changes")
        db.execute("UPDATE fence SET position = ?, fingerprint = ?", (START, self._fingerprint))
        db.execute("UPDATE generation SET cleared = cleared + 1")

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """All writing goes through here, so that a test can let a process die inside."""
        return transaction(self._writer)

    def _empty_wal(self) -> None:
        """What was dropped must not stay readable in the WAL; while a snapshot needs the old pages, try again later."""
        self._writer.execute("PRAGMA busy_timeout = 0")
        try:
            self._unclean = bool(self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        finally:
            self._writer.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1_000)}")

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, db: sqlite3.Connection) -> None:
        self._idle.append(db)
        if self._closed:
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


class SqliteSnapshot:
    """A `Snapshot` of a `SqliteStore`; for one thread at a time."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        with reading():
            self._db = store._borrow()
            self._open = True
            try:
                self._db.execute("BEGIN")
                # The first read fixes what the transaction sees.
                self.position: int
                self.position, cleared = self._db.execute(_SHOWN).fetchone()
                self.generation = str(cleared)
            except BaseException:
                self._db.close()
                raise

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys."""
        execute = self._db.execute
        with reading():
            if len(keys) <= 4:
                rows = [execute(_ONE, (key,)).fetchone() for key in keys]
                return [None if row is None else row[0] for row in rows]
            found: dict[bytes, bytes] = {}
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                found.update(execute(_MANY, (*some, *(None,) * (_AT_ONCE - len(some)))))
        return [found.get(key) for key in keys]

    def changed(self, after: int, prefix: bytes) -> Sequence[Key]:
        """Keys that start with `prefix` and were last written by a commit past position `after`, in key order."""
        found: set[Key] = set()
        with reading():
            if not is_tracked(prefix) or after < self.position - _REMEMBERED:
                return [key for (key,) in self._db.execute(_LOOKED_FOR, (after, prefix, _beyond(prefix)))]
            for (keys,) in self._db.execute(_CHANGED, (after, prefix[:1])):
                found.update(_decoder.decode(keys))
        return sorted(found if len(prefix) == 1 else (key for key in found if key.startswith(prefix)))

    def scan(self, prefix: bytes) -> Iterator[tuple[Key, bytes]]:
        """All entries whose key starts with `prefix`, in key order."""
        with reading():
            yield from self._db.execute(_SCAN, (prefix, _beyond(prefix)))

    def count(self, prefix: bytes) -> int:
        """How many keys start with `prefix`."""
        with reading():
            ((count,),) = self._db.execute(_COUNT, (prefix, _beyond(prefix)))
        return int(count)

    def close(self) -> None:
        """End the view."""
        if self._open:
            self._open = False
            self._db.execute("COMMIT")
            self._store._give_back(self._db)


@contextmanager
def reading() -> Iterator[None]:
    """What SQLite cannot read becomes `StateUnavailable`; misuse of it stays what it is."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        raise StateUnavailable(f"the state cannot be read for now: {error}") from error


def _beyond(prefix: bytes) -> bytes:
    """The first key after all that start with `prefix`; none starts with 0xff, as ids are UTF-8."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\xff"
