"""Versioned migrations of what the log keeps in PostgreSQL: `migrations/PART_NNN.sql`, applied in order, each once."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from penchant.core.errors import PenchantError

if TYPE_CHECKING:
    from psycopg import Connection

_LOCK = 7_236_405_118_230_041
"""Two processes that start at once migrate one after the other."""


def migrate(db: Connection, part: str) -> int:
    """Bring the tables of `part` to this version of Penchant; returns the version.

    Raises `PenchantError` when they are newer. The connection must be in autocommit mode.
    """
    scripts = _scripts(part)
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
            for script in scripts[found:]:
                db.execute(script)
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


def _scripts(part: str) -> list[bytes]:
    folder = files("penchant.log") / "migrations"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(f"{part}_"))
    return [(folder / name).read_bytes() for name in found]
