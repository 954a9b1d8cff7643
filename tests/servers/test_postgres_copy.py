"""The contracts of state on the durable copy in a real PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from penchant.core.partitions import Partition
from penchant.core.state import StateStore
from penchant.stores.postgres import PostgresCopy
from penchant.testing.contracts.partitioned_state import LAYOUT, PartitionedStateContract
from penchant.testing.contracts.store import StateStoreContract


class _Opened:
    """Opens copies that are closed after the test."""

    url: str
    opened: list[PostgresCopy]

    @pytest.fixture(autouse=True)
    def _on_postgres(self, database: str) -> Iterator[None]:
        self.url, self.opened = database, []
        yield
        for copy in self.opened:
            copy.close()

    def open(self, folder: Path, fingerprint: str) -> PostgresCopy:
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        self.opened.append(PostgresCopy(self.url, name=name, fingerprint=fingerprint, layout=LAYOUT))
        return self.opened[-1]


class TestStoreInPostgres(_Opened, StateStoreContract):
    def open_store(self, folder: Path, *, fingerprint: str = "f1") -> StateStore:
        return self.open(folder, fingerprint).partition(Partition("items", 2))


class TestCopyInPostgres(_Opened, PartitionedStateContract):
    def open_state(self, folder: Path, *, fingerprint: str = "f1") -> PostgresCopy:
        return self.open(folder, fingerprint)
