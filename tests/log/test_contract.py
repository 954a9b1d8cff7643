from __future__ import annotations

from pathlib import Path

from penchant.core.clock import Clock
from penchant.log.memory import MemoryLog
from penchant.log.sqlite import SqliteLog
from penchant.testing.contracts.log import LATENESS, SCHEMA, EventLogContract


class TestSqliteLog(EventLogContract):
    def open_log(self, folder: Path, *, clock: Clock) -> SqliteLog:
        return SqliteLog(folder / "log.db", schema=SCHEMA, clock=clock, lateness_ms=LATENESS)


class TestMemoryLog(EventLogContract):
    durable = False

    def open_log(self, folder: Path, *, clock: Clock) -> MemoryLog:
        return MemoryLog(schema=SCHEMA, clock=clock, lateness_ms=LATENESS)
