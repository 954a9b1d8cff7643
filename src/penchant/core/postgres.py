"""What all that is kept in PostgreSQL shares: how its server is reached, and how its tables are brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from penchant.core.errors import PenchantError, SettingsError
from penchant.core.extras import library

if TYPE_CHECKING:
    from psycopg import Connection

_LOCK = 7_236_405_118_230_041
"""Two processes that start at once migrate one after the other."""


class PostgresServer:
    """A server by its URL, and what it or the network refuses as an error of ours. Connects to nothing by itself.

    `unavailable` is raised for whatever they refuse; `setting` names the URL in the `SettingsError` for one that cannot
    be used.
    """

    def __init__(self, url: str, *, setting: str, timeout_ms: int, unavailable: type[PenchantError]) -> None:
        self._psycopg = library("psycopg", extra="postgres", of=setting)
        self._url = url
        self._timeout_ms = timeout_ms
        self._unavailable = unavailable
        self.Error: type[Exception] = self._psycopg.Error
        try:
            told = self._psycopg.conninfo.conninfo_to_dict(url)
        except self._psycopg.Error:
            # What libpq says of it may quote the password.
            raise SettingsError(
                f"{setting} is not the URL of a PostgreSQL: write it as postgresql://USER@HOST:5432/DATABASE, with %25"
                " and the like for what is no letter or digit in a password"
            ) from None
        self.shown = f"PostgreSQL at {told.get('host', 'localhost')}:{told.get('port', 5432)}"
        """Where it is, without a password."""

    def connect(self, application: str) -> Connection:
        """A new connection in autocommit mode, which the server shows under the name of the application."""
        db: Connection = self._psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(2, self._timeout_ms // 1_000),
            tcp_user_timeout=self._timeout_ms,
            keepalives_idle=5,
            application_name=application,
        )
        return db

    @contextmanager
    def told(self) -> Iterator[None]:
        """What the server or the network refuse inside becomes an error of ours."""
        try:
            yield
        except self._psycopg.Error as error:
            raise self._unavailable(f"{self.shown}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What an error says, short enough for a line of a log."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def migrate(db: Connection, part: str, package: str) -> int:
    """Bring the tables of `part` to this version of Penchant; returns the version.

    Applies the scripts `migrations/PART_NNN.sql` of a package in order, each once. Raises `PenchantError` when the
    tables are newer. The connection must be in autocommit mode.
    """
    folder = files(package) / "migrations"
    scripts = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(f"{part}_"))
    if _version(db, part) != len(scripts):
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            db.execute("CREATE SCHEMA IF NOT EXISTS penchant")
            db.execute(
                "CREATE TABLE IF NOT EXISTS penchant.versions"
                " (part text PRIMARY KEY, version int NOT NULL, at timestamptz NOT NULL DEFAULT now())"
            )
            found = _version(db, part)
            if found > len(scripts):
                raise PenchantError(
                    f"the tables of the {part} in PostgreSQL are of version {found}; this Penchant knows"
                    f" {len(scripts)}: install the newer release"
                )
            for name in scripts[found:]:
                db.execute((folder / name).read_bytes())
            db.execute(
                "INSERT INTO penchant.versions (part, version) VALUES (%s, %s)"
                " ON CONFLICT (part) DO UPDATE SET version = excluded.version, at = now()",
                (part, len(scripts)),
            )
    return len(scripts)


def _version(db: Connection, part: str) -> int:
    there = db.execute("SELECT to_regclass('penchant.versions') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return 0
    row = db.execute("SELECT version FROM penchant.versions WHERE part = %s", (part,)).fetchone()
    return row[0] if row else 0
