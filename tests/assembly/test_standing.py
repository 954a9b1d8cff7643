"""A service without pictures waits for the fold."""

from __future__ import annotations

import threading

import pytest

from penchant.assembly.cluster.standing import wait_for
from penchant.core.clock import ManualClock
from penchant.core.errors import InvalidRequest, StateUnavailable
from penchant.core.partitions import META_KEY, Layout, Meta, encode_meta
from penchant.serving.remote import RemoteState
from penchant.serving.tokens import Places
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores

LAYOUT = Layout(8, 2)


def folded(state, partition, place):
    state.partition(partition).commit(0, 1, {META_KEY: encode_meta(Meta(clock=1, sources={"box": place}, entities=1))})


def test_it_is_reached_when_all_partitions_of_the_batch_are():
    state = SeparateStores(lambda _: MemoryStore(fingerprint="f"), LAYOUT)
    reading = RemoteState(state, LAYOUT, ManualClock(0))
    user, item = LAYOUT.user("u1"), LAYOUT.item("i1")
    token = str(Places("box", {user: (0, 2), item: (0, 1)}))
    folded(state, user, (0, 2))
    assert not wait_for(reading, token, 0)
    later = threading.Timer(0.05, folded, (state, item, (0, 1)))
    later.start()
    assert wait_for(reading, token, 10_000)
    later.join()
    with pytest.raises(InvalidRequest):
        wait_for(reading, "box~?", 0)


def test_nothing_is_reached_while_the_state_is_away():
    class Away:
        def read(self, asked):
            raise StateUnavailable("away")

    reading = RemoteState(Away(), LAYOUT, ManualClock(0))
    assert not wait_for(reading, str(Places("box", {LAYOUT.user("u1"): (0, 2)})), 20)
