"""The tables of the durable copy in PostgreSQL, brought to the version of this release, and connections to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING

from penchant.core.errors import PenchantError, SettingsError, StateUnavailable

if TYPE_CHECKING:
    from psycopg import Connection

_LOCK = 7_236_405_118_230_041
"""Two processes that start at once migrate one after the other."""
_PART = "copy"


class Tables:
    """Connections to the tables, in autocommit mode; connects and migrates at the first call. Safe for several threads.

    Raises `SettingsError` for a URL that cannot be used, and `StateUnavailable` for whatever server or network refuse.
    """

    def __init__(self, url: str, *, timeout_ms: int, setting: str) -> None:
        self._psycopg = _library()
        self._url = url
        self._timeout_ms = timeout_ms
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._migrated = False
        self._closed = False
        try:
            told = self._psycopg.conninfo.conninfo_to_dict(url)
        except self._psycopg.Error as error:
            raise SettingsError(f"{setting} is not the URL of a PostgreSQL: {error}") from error
        self.shown = f"PostgreSQL at {told.get('host', 'localhost')}:{told.get('port', 5432)}"
        """Where it is, without a password."""

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to use and give back; it is closed if anything went wrong."""
        db = self.take()
        try:
            with self.told():
                yield db
        except BaseException:
            db.close()
            raise
        self.give(db)

    @contextmanager
    def told(self) -> Iterator[None]:
        """What the server or the network refuse becomes `StateUnavailable`."""
        try:
            yield
        except self._psycopg.Error as error:
            line = " ".join(str(error).split())[:300] or type(error).__name__
            raise StateUnavailable(f"{self.shown}: {line}") from error

    def take(self) -> Connection:
        """A connection of the caller's own until it is given back or closed."""
        with self.told():
            while True:
                try:
                    db = self._idle.pop()
                except IndexError:
                    return self._connect()
                try:
                    db.execute("SELECT 1")  # the server may have been restarted since
                    return db
                except self._psycopg.Error:
                    db.close()

    def give(self, db: Connection) -> None:
        """Give a connection back."""
        if self._closed or db.closed:
            db.close()
        else:
            self._idle.append(db)

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self) -> Connection:
        db: Connection = self._psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(2, self._timeout_ms // 1_000),
            tcp_user_timeout=self._timeout_ms,
            application_name="penchant copy",
        )
        try:
            db.execute("SELECT set_config('statement_timeout', %s, false)", (str(self._timeout_ms),))
            with self._lock:
                if not self._migrated:
                    migrate(db)
                    self._migrated = True
        except BaseException:
            db.close()
            raise
        return db


def migrate(db: Connection) -> int:
    """Bring the tables to this version of Penchant, each script once and in order; returns the version.

    Raises `PenchantError` when they are newer. The connection must be in autocommit mode.
    """
    folder = files("penchant.stores") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(f"{_PART}_"))
    if _version(db) != len(names):
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            db.execute("CREATE SCHEMA IF NOT EXISTS penchant")
            db.execute(
                "CREATE TABLE IF NOT EXISTS penchant.versions"
                " (part text PRIMARY KEY, version int NOT NULL, at timestamptz NOT NULL DEFAULT now())"
            )
            found = _version(db)
            if found > len(names):
                raise PenchantError(
                    f"the tables of the copy in PostgreSQL are of version {found}; this Penchant knows {len(names)}:"
                    " install the newer release"
                )
            for name in names[found:]:
                db.execute((folder / name).read_bytes())
            db.execute(
                "INSERT INTO penchant.versions (part, version) VALUES (%s, %s)"
                " ON CONFLICT (part) DO UPDATE SET version = excluded.version, at = now()",
                (_PART, len(names)),
            )
    return len(names)


def _version(db: Connection) -> int:
    there = db.execute("SELECT to_regclass('penchant.versions') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return 0
    row = db.execute("SELECT version FROM penchant.versions WHERE part = %s", (_PART,)).fetchone()
    return int(row[0]) if row else 0


def _library() -> ModuleType:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as error:
        raise SettingsError("a copy in PostgreSQL needs its client: pip install 'penchant[postgres]'") from error
    return psycopg
