"""State whose partitions are stores of their own."""

from __future__ import annotations

import pytest

from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores


def test_partitions_have_fences_of_their_own() -> None:
    state = SeparateStores(lambda _: MemoryStore(fingerprint="f1"), Layout(users=2, items=1))
    zero, one = Partition("users", 0), Partition("users", 1)
    assert list(state.commit([Commit(zero, 0, 5, {b"ua": b"1"}), Commit(one, 3, 4, {b"ub": b"1"})])) == [None, 0]
    assert list(state.read([(zero, [b"ua", b"ub"]), (one, [b"ub"])])) == [View(5, [b"1", None]), View(0, [None])]
    assert state.partition(zero) is state.partition(zero)
    with pytest.raises(KeyError):
        state.partition(Partition("users", 2))
    state.close()
