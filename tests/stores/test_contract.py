from __future__ import annotations

from pathlib import Path

from penchant.stores.memory import MemoryStore
from penchant.stores.sqlite import SqliteStore
from penchant.testing.contracts.store import StateStoreContract


class TestSqliteStore(StateStoreContract):
    def open_store(self, folder: Path, *, fingerprint: str = "f1") -> SqliteStore:
        return SqliteStore(folder / "state.db", fingerprint=fingerprint)


class TestMemoryStore(StateStoreContract):
    durable = False

    def open_store(self, folder: Path, *, fingerprint: str = "f1") -> MemoryStore:
        return MemoryStore(fingerprint=fingerprint)
