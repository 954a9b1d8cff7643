"""The catalogue's fold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.world import SCHEMA, Store, cut, logs
from penchant.catalog import ROWS_KEY, CatalogFold
from penchant.core.events import (
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.items import LISTED, REMOVED, UNKNOWN, UNLISTED
from penchant.core.log import Record
from penchant.core.profiles import decode_item, decode_user
from penchant.core.state import catalog_key, profile_key, user_key
from penchant.testing.oracles.catalog import naive_profiles


def fold(*events, implicit=False, sizes=(100,)):
    store = Store()
    catalog = CatalogFold(SCHEMA, implicit)
    records = [Record(n, 10 * n, 10 * n, 0, 0, event) for n, event in enumerate(events, start=1)]
    for batch in cut(records, sizes):
        catalog.apply(batch, store)
    return store


def item(store, item_id):
    return decode_item(store.entries[catalog_key(item_id)])


def profiles(store):
    return {p.item_id: p for p in sorted((decode_item(b) for _, b in store.scan(b"c")), key=lambda p: p.row)}


CLICK = Interaction(user_id="u1", item_id="i1", action="click")


@settings(deadline=None)
@given(logs(), st.booleans(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_equals_the_plain_fold_however_it_is_cut(records, implicit, sizes):
    catalog, store, whole = CatalogFold(SCHEMA, implicit), Store(), Store()
    for batch in cut(records, sizes):
        catalog.apply(batch, store)
    for batch in cut(records, [10_000]):
        CatalogFold(SCHEMA, implicit).apply(batch, whole)
    naive = naive_profiles(records, implicit=implicit)
    assert profiles(store) == naive
    assert list(profiles(store)) == list(naive)
    assert store.entries == whole.entries
    assert int.from_bytes(store.entries.get(ROWS_KEY, b""), "little") == len(naive)


def test_an_interaction_makes_an_unknown_item_that_an_item_event_brings():
    store = fold(CLICK)
    assert (item(store, "i1").status, item(store, "i1").listed_at) == (UNKNOWN, 0)
    store = fold(CLICK, ItemUpdate(item_id="i1", attributes={"price": 3}))
    assert (item(store, "i1").status, item(store, "i1").listed_at, item(store, "i1").row) == (LISTED, 20, 0)


def test_implicit_items_are_listed_from_the_first_time_they_are_named():
    shown = Impression(user_id="u1", items=[ShownItem("i2"), ShownItem("i1")])
    store = fold(CLICK, shown, ItemUpdate(item_id="i2", attributes={}), implicit=True)
    assert [(p.item_id, p.status, p.listed_at) for p in profiles(store).values()] == [
        ("i1", LISTED, 10),
        ("i2", LISTED, 20),
    ]


def test_a_removed_item_stays_removed():
    back = ItemUpdate(item_id="i1", attributes={"price": 1}, listed=True)
    for implicit in (False, True):
        store = fold(back, ItemRemoved(item_id="i1"), CLICK, back, implicit=implicit)
        assert item(store, "i1").status == REMOVED
        assert item(store, "i1").attributes == {}
        assert item(fold(ItemRemoved(item_id="i1"), back, implicit=implicit), "i1").status == REMOVED


def test_replace_and_merge():
    first = ItemUpdate(item_id="i1", attributes={"price": 1, "category": "art"}, listed=False)
    merge = ItemUpdate(item_id="i1", attributes={"price": None, "adult": True}, merge=True)
    store = fold(first, merge)
    assert item(store, "i1").attributes == {"adult": True, "category": "art"}
    assert item(store, "i1").status == UNLISTED
    store = fold(first, ItemUpdate(item_id="i1", attributes={"adult": True}))
    assert item(store, "i1").attributes == {"adult": True}
    assert item(store, "i1").status == LISTED
    assert item(store, "i1").listed_at == 10
    assert item(fold(merge), "i1").status == LISTED


def test_equal_profiles_are_equal_bytes():
    one = fold(ItemUpdate(item_id="i1", attributes={"price": 1, "adult": True}))
    other = fold(ItemUpdate(item_id="i1", attributes={"adult": True, "price": 1}))
    assert one.entries == other.entries


def test_users_are_replaced_merged_and_erased():
    de = UserUpdate(user_id="u1", attributes={"country": "de"})
    keep = UserUpdate(user_id="u1", attributes={}, merge=True)
    assert decode_user(fold(de, keep).entries[profile_key("u1")]).attributes == {"country": "de"}
    assert decode_user(fold(de, keep, sizes=(1,)).entries[profile_key("u1")]).attributes == {"country": "de"}
    assert fold(de, UserErased(user_id="u1"), keep).entries.keys() == {profile_key("u1")}
    store = Store()
    store.entries = {user_key("u1"): b"features", profile_key("u1"): b"profile", user_key("u2"): b"other"}
    CatalogFold(SCHEMA).apply([Record(1, 1, 1, 0, 0, UserErased(user_id="u1"))], store)
    assert store.entries == {user_key("u2"): b"other"}


def test_what_erased_users_did_still_gives_items_their_rows():
    gone = Interaction(user_id="", item_id="i1", action="click")
    assert item(fold(gone), "i1").row == 0
    assert fold(UserUpdate(user_id="", attributes={"country": "de"}), UserErased(user_id="")).entries == {}


def test_the_fingerprint_tells_what_would_be_written_differently():
    assert CatalogFold(SCHEMA, True).fingerprint != CatalogFold(SCHEMA, False).fingerprint
