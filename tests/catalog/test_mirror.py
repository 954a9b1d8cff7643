"""The mirror of the item partitions: whole at each fence, whatever moves meanwhile."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.world import SCHEMA, ToyReader, neighbours_blob, toy_blob, visits_blob
from penchant.catalog.columns import ItemColumns
from penchant.catalog.mirror import ItemMirror
from penchant.core.errors import StateUnavailable, ViewGone
from penchant.core.items import LISTED
from penchant.core.log import START
from penchant.core.partitions import META_KEY, Layout, Meta, encode_meta
from penchant.core.profiles import ItemProfile, decode_item, encode_profile
from penchant.core.state import catalog_key, item_key, neighbours_key, visits_key
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores
from penchant.testing.oracles.catalog import differences

LAYOUT = Layout(users=1, items=3)
NAMES = [f"i{n}" for n in range(12)]
PARTITIONS = [one for one in LAYOUT.all() if one.side == "items"]


class Forgetful:
    """A snapshot of a store that keeps no old versions."""

    def __init__(self, store):
        self._store = store
        self._view = store.snapshot()
        self.position, self.generation = self._view.position, self._view.generation

    def changed(self, after, prefix):
        if self._store.position() != self.position:
            raise ViewGone("moved on")
        return self._view.changed(after, prefix)

    def close(self):
        self._view.close()


class World:
    """Item partitions with little in them; `meanwhile` is called whenever the mirror has read something."""

    def __init__(self):
        self.stores = SeparateStores(lambda partition: MemoryStore(fingerprint="f"), LAYOUT)
        self.taken = Counter()
        self.calls = Counter()
        self.meanwhile = lambda: None
        self._busy = False

    def write(self, *names, title="t", near=None):
        """One commit for each partition concerned, as the fold of the items would make it."""
        for partition in PARTITIONS:
            own = [name for name in names if LAYOUT.item(name) == partition]
            store = self.stores.partition(partition)
            position, writes = store.position() + 1, {}
            for name in own:
                (held,) = self.values(store, [catalog_key(name)])
                row = self.taken[partition] if held is None else decode_item(held).row
                self.taken[partition] += held is None
                profile = ItemProfile(item_id=name, row=row, status=LISTED, attributes={"title": title})
                writes[catalog_key(name)] = encode_profile(profile)
                writes[item_key(name)] = toy_blob([(position, title)])
                writes[neighbours_key(name)] = neighbours_blob(near) if near else None
                writes[visits_key(name)] = visits_blob({position % 5: position})
            if own:
                writes[META_KEY] = encode_meta(Meta(clock=position, sources={"o": (0, position)}))
                store.commit(position - 1, position, writes)

    @staticmethod
    def values(store, keys):
        snapshot = store.snapshot()
        try:
            return snapshot.get_many(keys)
        finally:
            snapshot.close()

    def fences(self):
        return {partition: self.stores.partition(partition).position() for partition in PARTITIONS}

    def read(self, wanted):
        self.calls["read"] += 1
        views = self.stores.read(wanted)
        self._go_on()
        return views

    def partition(self, partition):
        world, store = self, self.stores.partition(partition)

        class Store:
            def snapshot(self):
                snapshot = Forgetful(store)
                world._go_on()
                return snapshot

        return Store()

    def _go_on(self):
        if not self._busy:
            self._busy = True
            self.meanwhile()
            self._busy = False


def contents(world):
    """By item what the partitions hold of it, without rows."""
    found = {}
    for partition in PARTITIONS:
        snapshot = world.stores.partition(partition).snapshot()
        found.update(
            {key: rowless(key, value) for kind in (b"c", b"i", b"n", b"v") for key, value in snapshot.scan(kind)}
        )
        snapshot.close()
    return found


def rowless(key, value):
    return msgspec.structs.replace(decode_item(value), row=0) if key.startswith(b"c") else value


def check(world, mirror, store):
    """That the copy is that of the fences told, which are the present ones."""
    assert mirror.positions == world.fences()
    assert store.position() == sum(world.fences().values())
    for partition, meta in mirror.metas.items():
        fence = mirror.positions[partition]
        assert meta == (Meta(clock=fence, sources={"o": (0, fence)}) if fence > START else Meta())
    snapshot = store.snapshot()
    copied = {key: value for kind in (b"c", b"i", b"n", b"v") for key, value in snapshot.scan(kind)}
    snapshot.close()
    assert {key: rowless(key, value) for key, value in copied.items()} == contents(world)
    rows = {key: decode_item(value).row for key, value in copied.items() if key.startswith(b"c")}
    assert sorted(rows.values()) == list(range(len(rows)))
    return rows


@pytest.fixture
def world():
    return World()


@pytest.fixture
def store():
    return MemoryStore(fingerprint="mirror")


def refreshed(columns, store, now=1_000):
    snapshot = store.snapshot()
    try:
        return columns.refresh(snapshot, now)
    finally:
        snapshot.close()


names = st.lists(st.sampled_from(NAMES), max_size=4)
nearby = st.none() | st.dictionaries(st.sampled_from(NAMES), st.integers(1, 9), max_size=4)
turns = st.tuples(names, st.text(max_size=2), nearby)


@given(st.lists(st.tuples(turns, st.lists(turns, max_size=6)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_the_copy_is_whole_whatever_moves_meanwhile(rounds):
    world, store = World(), MemoryStore(fingerprint="mirror")
    mirror, columns, known = ItemMirror(world, LAYOUT, store), ItemColumns(SCHEMA, ToyReader()), {}
    for (first, title, near), later in [*rounds, (([], "", None), [])]:
        world.write(*first, title=title, near=near)
        waiting = list(later)

        def meanwhile(waiting=waiting):
            if waiting:
                some, text, close = waiting.pop(0)
                world.write(*some, title=text, near=close)

        world.meanwhile = meanwhile
        mirror.renew()
        world.meanwhile = lambda: None
        mirror.renew()
        rows = check(world, mirror, store)
        assert known.items() <= rows.items()
        known = rows
        fresh = refreshed(ItemColumns(SCHEMA, ToyReader()), store)
        assert differences(refreshed(columns, store), fresh) == []


def test_rows_are_given_in_order_of_the_partitions_rows(world, store):
    world.write(*NAMES[:6])
    mirror = ItemMirror(world, LAYOUT, store)
    mirror.renew()
    rows = check(world, mirror, store)
    ordered = sorted(rows, key=rows.__getitem__)
    local = {
        key: decode_item(world.values(world.stores.partition(LAYOUT.item(key[1:].decode())), [key])[0]).row
        for key in rows
    }
    assert ordered == sorted(rows, key=lambda key: (local[key], LAYOUT.item(key[1:].decode())))


def test_nothing_moved_is_one_call(world, store):
    world.write(*NAMES)
    mirror = ItemMirror(world, LAYOUT, store)
    assert mirror.renew()
    world.calls.clear()
    assert not mirror.renew()
    assert world.calls == {"read": 1}


def test_an_empty_state_is_a_copy_too(world, store):
    mirror = ItemMirror(world, LAYOUT, store)
    assert mirror.renew()
    assert mirror.positions == dict.fromkeys(PARTITIONS, START)
    assert not mirror.renew()


def test_many_keys_are_read_in_several_calls(world, store, monkeypatch):
    monkeypatch.setattr("penchant.catalog.mirror._AT_ONCE", 2)
    world.write(*NAMES)
    mirror = ItemMirror(world, LAYOUT, store)
    mirror.renew()
    check(world, mirror, store)


def test_a_first_copy_that_cannot_be_whole_is_none(world, store):
    world.write(*NAMES)
    world.meanwhile = lambda: world.write(*NAMES)
    mirror = ItemMirror(world, LAYOUT, store)
    with pytest.raises(StateUnavailable, match="faster"):
        mirror.renew()
    assert store.position() == START
    assert mirror.positions == {}
    world.meanwhile = lambda: None
    assert mirror.renew()
    check(world, mirror, store)


def test_a_fence_that_went_back_keeps_the_copy_until_it_has_come_again(world, store):
    columns = ItemColumns(SCHEMA, ToyReader())
    world.write(*NAMES)
    world.write(*NAMES)
    mirror = ItemMirror(world, LAYOUT, store)
    mirror.renew()
    before = dict(mirror.positions)
    refreshed(columns, store)
    lost = world.stores.partition(PARTITIONS[1])
    lost.clear()
    world.taken[PARTITIONS[1]] = 0
    own = [name for name in NAMES if LAYOUT.item(name) == PARTITIONS[1]]
    others = [name for name in NAMES if LAYOUT.item(name) != PARTITIONS[1]]
    world.write(*others, title="new")
    assert mirror.renew()
    assert mirror.positions[PARTITIONS[1]] == before[PARTITIONS[1]]
    assert mirror.positions[PARTITIONS[0]] > before[PARTITIONS[0]]
    assert refreshed(columns, store).count == len(NAMES)
    for _ in range(3):
        world.write(*own[:1], title="again")
    assert mirror.renew()
    check(world, mirror, store)
    assert refreshed(columns, store).count == len(NAMES) - len(own) + 1


def test_a_fence_that_stays_back_is_believed_in_the_end(world, store):
    world.write(*NAMES)
    world.write(*NAMES)
    mirror = ItemMirror(world, LAYOUT, store, patience=2)
    mirror.renew()
    world.stores.partition(PARTITIONS[1]).clear()
    assert [mirror.renew() for _ in range(3)] == [False, False, True]
    check(world, mirror, store)


def test_a_partition_that_was_cleared_and_went_past_is_noticed(world, store):
    world.write(*NAMES)
    mirror = ItemMirror(world, LAYOUT, store)
    mirror.renew()
    world.stores.partition(PARTITIONS[1]).clear()
    world.taken[PARTITIONS[1]] = 0
    own = next(name for name in NAMES if LAYOUT.item(name) == PARTITIONS[1])
    for _ in range(3):
        world.write(own)
    with pytest.raises(StateUnavailable, match="replaced"):
        mirror.renew()
    assert mirror.renew()
    check(world, mirror, store)
