"""The log and the state of a folder, looked at without touching them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from penchant.core.log import LATE
from penchant.settings import without_password

_MANY_LATE = 0.01

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `fix` says what to do where it is not ok."""

    name: str
    status: Status
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the other checks need of the log; `newest` is the arrival of the last record, milliseconds."""

    end: int
    newest: int
    epoch: str


def look_at_log(folder: Path, url: str, found: list[LogFacts]) -> Iterator[Check]:
    """Readable, whole, and how much of it counts."""
    path = _path(folder, url, "log.sqlite")
    if path is None:
        shown = without_password(url)
        yield Check(
            "log",
            "fail",
            f"[log] url {shown!r} is not served by this version",
            'write url = "sqlite:", or kafka://… beside a state in Redis',
        )
        return
    if not path.exists():
        yield Check("log", "ok", "there is none yet; it is made at the first start or import")
        return
    with closing(_open(path)) as db:
        damage = _damage(db)
        if damage:
            yield Check("log", "fail", f"{path.name} is damaged: {damage}", "put it back from a backup")
            return
        end, newest = db.execute("SELECT position, ingested_at FROM log ORDER BY position DESC LIMIT 1").fetchone() or (
            0,
            0,
        )
        epoch = db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]
        late = db.execute("SELECT count(*) FROM log WHERE verdict = ?", (LATE,)).fetchone()[0]
    found.append(LogFacts(end, newest, epoch))
    size = path.stat().st_size / 2**20
    yield Check("log", "ok", f"{end:,} events in {size:,.1f} MiB, whole")
    if late > _MANY_LATE * end:
        yield Check(
            "lateness",
            "warn",
            f"{late:,} of {end:,} events arrived too late to count",
            'raise [log] lateness (for what comes), or replay history with [clock] source = "events" in a new folder',
        )


def look_at_state(folder: Path, url: str, log: LogFacts | None, expected: str | None) -> Iterator[Check]:
    """Readable, of this log and these settings, and how far behind."""
    path = _path(folder, url, "state.sqlite")
    if path is None:
        shown = without_password(url)
        yield Check(
            "state",
            "fail",
            f"[state] url {shown!r} is not served by this version",
            'write url = "sqlite:", or redis://… beside a log in Kafka',
        )
        return
    if not path.exists():
        yield Check("state", "ok", "there is none yet; it is folded from the log at the next start")
        return
    fix = f"delete {path.name} while nothing runs: the log rebuilds it"
    try:
        with closing(_open(path)) as db:
            damage = _damage(db)
            row = None if damage else db.execute("SELECT position, fingerprint FROM fence").fetchone()
    except sqlite3.Error as error:
        damage, row = str(error), None
    if damage:
        yield Check("state", "fail", f"{path.name} is damaged: {damage}", fix)
        return
    if log is None:
        yield Check("state", "warn", f"{path.name} is whole, but there is no log that could be read to compare it with")
        return
    position, known = row or (0, None)
    if expected is not None and known != expected:
        yield Check(
            "state",
            "warn",
            f"was folded by other settings or from another log: the next start folds all {log.end:,} events anew",
            "nothing to do, if the change was meant",
        )
    elif position > log.end:
        yield Check(
            "state",
            "warn",
            f"is at {position:,}, past the end of the log at {log.end:,}: the next start folds it anew",
            "was the log put back from an older backup? Then what came after it is lost",
        )
    elif position < log.end:
        yield Check(
            "state",
            "warn",
            f"is {log.end - position:,} events behind the log",
            "penchant up or penchant stream folds them; if one runs, see what it prints",
        )
    else:
        yield Check("state", "ok", f"whole and at the end of the log, position {position:,}")


def _path(folder: Path, url: str, default: str) -> Path | None:
    scheme, _, rest = url.partition(":")
    return folder / (rest.removeprefix("//") or default) if scheme == "sqlite" else None


def _open(path: Path) -> sqlite3.Connection:
    """Read-only. Without a WAL nobody has the file open, and `immutable` keeps SQLite from making one beside it."""
    wal = path.with_name(path.name + "-wal")
    mode = "mode=ro" if wal.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=5.0)


def _damage(db: sqlite3.Connection) -> str:
    """The first thing that SQLite finds wrong, "" when all is well."""
    try:
        found: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else found
