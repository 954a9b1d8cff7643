"""State whose partitions are stores of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from penchant.core.partitions import Layout, Partition
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores
from penchant.testing.contracts.partitioned_state import LAYOUT, PartitionedStateContract


class TestSeparateStores(PartitionedStateContract):
    durable = False

    def open_state(self, folder: Path, *, fingerprint: str = "f1") -> SeparateStores:
        return SeparateStores(lambda _: MemoryStore(fingerprint=fingerprint), LAYOUT)


def test_a_partition_that_is_not_there() -> None:
    state = SeparateStores(lambda _: MemoryStore(fingerprint="f1"), Layout(users=2, items=1))
    assert state.partition(Partition("users", 1)) is state.partition(Partition("users", 1))
    with pytest.raises(KeyError):
        state.partition(Partition("users", 2))
    state.close()
