"""The mirror of the items on a real Redis: whole at its fences while a fold goes on."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from catalog.world import SCHEMA, ToyReader, neighbours_blob, toy_blob
from penchant.catalog.columns import ItemColumns
from penchant.catalog.mirror import ItemMirror
from penchant.catalog.shared import PictureWriter, SharedPictures
from penchant.core.errors import StateUnavailable
from penchant.core.items import LISTED
from penchant.core.partitions import META_KEY, Commit, Layout, Meta, Partition, encode_meta
from penchant.core.profiles import ItemProfile, decode_item, encode_profile
from penchant.core.state import catalog_key, item_key, neighbours_key
from penchant.stores.memory import MemoryStore
from penchant.stores.redis import RedisState
from penchant.testing.oracles.catalog import differences

pytestmark = pytest.mark.redis
LAYOUT = Layout(users=2, items=4)
PARTITIONS = [Partition("items", number) for number in range(LAYOUT.items)]
NAMES = [f"i{n}" for n in range(400)]


class Fold:
    """Commits to all item partitions, one after the other; what is kept of an item carries its last commit."""

    def __init__(self, state, seed):
        self._state = state
        self._rng = np.random.default_rng(seed)
        self._own = {partition: [n for n in NAMES if LAYOUT.item(n) == partition] for partition in PARTITIONS}
        self._known = dict.fromkeys(PARTITIONS, 0)
        self._fences = dict.fromkeys(PARTITIONS, 0)

    def step(self):
        for partition, own in self._own.items():
            fence, known = self._fences[partition], self._known[partition]
            new = min(len(own), known + int(self._rng.integers(0, 4)))
            touched = {*range(known, new), *self._rng.integers(0, max(new, 1), 5).tolist()} if new else set()
            writes = {META_KEY: encode_meta(Meta(clock=fence + 1))}
            for row in touched:
                near = {str(name): fence + 1 for name in self._rng.choice(NAMES, 3, replace=False)}
                profile = ItemProfile(item_id=own[row], row=row, status=LISTED, listed_at=fence + 1)
                writes[catalog_key(own[row])] = encode_profile(profile)
                writes[item_key(own[row])] = toy_blob([(fence + 1, "n")])
                writes[neighbours_key(own[row])] = neighbours_blob(near)
            assert self._state.commit([Commit(partition, fence, fence + 1, writes)]) == [None]
            self._fences[partition], self._known[partition] = fence + 1, new


def refreshed(columns, store, now=10**9):
    snapshot = store.snapshot()
    try:
        return columns.refresh(snapshot, now)
    finally:
        snapshot.close()


def whole(store):
    """That what is kept of each item was written by one commit."""
    snapshot = store.snapshot()
    for key, value in snapshot.scan(b"c"):
        profile = decode_item(value)
        blob, near = snapshot.get_many([b"i" + key[1:], b"n" + key[1:]])
        assert blob == toy_blob([(profile.listed_at, "n")])
        assert set(np.frombuffer(near, "<i8")[3:].tolist()) == {profile.listed_at}
    snapshot.close()


def held(state):
    """All that Redis has of the items, but for the rows."""
    found = {}
    for partition in PARTITIONS:
        snapshot = state.partition(partition).snapshot()
        for kind in (b"c", b"i", b"n"):
            found.update(snapshot.scan(kind))
    return {key: decode_item(value).listed_at if key[:1] == b"c" else value for key, value in found.items()}


@pytest.mark.parametrize("server", ["redis_url", "cluster_url"])
def test_the_mirror_is_whole_while_the_fold_goes_on(request, server, tmp_path):
    url = request.getfixturevalue(server)
    state = RedisState(url, name="mirrored", fingerprint="f", layout=LAYOUT)
    writing = RedisState(url, name="mirrored", fingerprint="f", layout=LAYOUT)
    fold, stop = Fold(writing, 3), threading.Event()
    store = MemoryStore(fingerprint="mirror")
    mirror, columns = ItemMirror(state, LAYOUT, store), ItemColumns(SCHEMA, ToyReader())
    writer, pictures = PictureWriter(tmp_path), SharedPictures(tmp_path)
    fold.step()

    def go_on():
        while not stop.wait(0.002):
            fold.step()

    thread = threading.Thread(target=go_on)
    thread.start()
    renewals = 0
    try:
        while renewals < 25:
            try:
                renewals += mirror.renew()
            except StateUnavailable:
                continue
            whole(store)
            items = refreshed(columns, store)
            writer.write(items)
            assert differences(pictures.newest().items, items) == []
    finally:
        stop.set()
        thread.join()
    mirror.renew()
    assert mirror.positions == {partition: state.partition(partition).position() for partition in PARTITIONS}
    assert all(meta.clock == mirror.positions[partition] for partition, meta in mirror.metas.items())
    snapshot = store.snapshot()
    copied = {key: value for kind in (b"c", b"i", b"n") for key, value in snapshot.scan(kind)}
    snapshot.close()
    assert {k: decode_item(v).listed_at if k[:1] == b"c" else v for k, v in copied.items()} == held(state)
    assert differences(refreshed(columns, store), refreshed(ItemColumns(SCHEMA, ToyReader()), store)) == []
    writer.close()
    state.close()
    writing.close()


def test_a_partition_that_was_cleared_keeps_the_picture_until_it_is_folded_again(redis_url):
    state = RedisState(redis_url, name="cleared", fingerprint="f", layout=LAYOUT)
    fold, store = Fold(state, 4), MemoryStore(fingerprint="mirror")
    for _ in range(10):
        fold.step()
    mirror, columns = ItemMirror(state, LAYOUT, store), ItemColumns(SCHEMA, ToyReader())
    mirror.renew()
    before = refreshed(columns, store)
    for partition in PARTITIONS:
        state.partition(partition).clear()
    again = Fold(state, 4)
    for _ in range(9):
        again.step()
        assert not mirror.renew()
        assert refreshed(columns, store) is before
    again.step()
    assert mirror.renew()
    assert {name: before.status[before.row(name)] for name in before.ids} == {
        name: after.status[after.row(name)] for after in [refreshed(columns, store)] for name in after.ids
    }
    state.close()
