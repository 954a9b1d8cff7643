"""Pictures of the catalogue: incremental equals fresh, earlier ones never change."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from catalog.world import SCHEMA, Store, ToyReader, cut, logs, neighbours_blob, toy_blob, visits_blob
from penchant.catalog import CatalogFold, ItemColumns
from penchant.core.errors import ContractError
from penchant.core.events import ItemUpdate
from penchant.core.items import LISTED
from penchant.core.log import Record
from penchant.core.profiles import ItemProfile, decode_item, encode_profile
from penchant.core.schema import Action
from penchant.core.state import catalog_key, item_key, neighbours_key, visits_key
from penchant.core.vectors import pack
from penchant.features.fold import FeatureFold
from penchant.features.plan import compile_plan
from penchant.features.reader import Reader
from penchant.retrieval.covisit_fold import CovisitFold
from penchant.retrieval.session_fold import SessionFold
from penchant.settings import parse
from penchant.testing.oracles.catalog import attribute_of, differences

POSITIVE = dataclasses.replace(SCHEMA, actions={"click": Action("click", 0, 1.0)})


def item_events(*names, **attributes):
    return [Record(n, n, n, 0, 0, ItemUpdate(item_id=i, attributes=attributes)) for n, i in enumerate(names, 1)]


def fold(store, records):
    store.position = records[-1].position
    CatalogFold(SCHEMA).apply(records, store)


@given(logs(most=40), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
@settings(max_examples=150, deadline=None)
def test_incremental_equals_fresh(records, sizes, data):
    store, catalog = Store(), CatalogFold(SCHEMA, data.draw(st.booleans(), "implicit"))
    columns, now, kept = ItemColumns(SCHEMA, ToyReader()), 1_000, []
    for batch in cut(records, sizes):
        store.position = batch[-1].position
        catalog.apply(batch, store)
        known = [key[1:].decode() for key, _ in store.scan(b"c")]
        for item_id in data.draw(st.lists(st.sampled_from(known), max_size=3) if known else st.just([])):
            times = st.tuples(st.integers(now - 15, now), st.sampled_from(["n", "s"]))
            store.put(item_key(item_id), toy_blob(data.draw(st.lists(times, max_size=4))))
            near = data.draw(st.dictionaries(st.sampled_from([*known, "nobody"]), st.integers(1, 9), max_size=4))
            store.put(neighbours_key(item_id), neighbours_blob(near) if near else None)
            who = data.draw(st.dictionaries(st.integers(0, 9), st.integers(0, 99), max_size=4))
            store.put(visits_key(item_id), visits_blob(who) if who else None)
        now += data.draw(st.integers(0, 7), "step")
        items = columns.refresh(store.snapshot(), now)
        assert differences(items, ItemColumns(SCHEMA, ToyReader()).refresh(store.snapshot(), now)) == []
        for row, item_id in enumerate(items.ids):
            profile = decode_item(store.entries[catalog_key(item_id)])
            assert (profile.row, profile.status, profile.listed_at) == (row, items.status[row], items.listed_at[row])
            for name, attribute in SCHEMA.item.items():
                value = profile.attributes.get(name)
                expected = set(value or ()) if attribute.kind == "tags" else value
                assert attribute_of(items, row, attribute) == expected
        _check_sessions(items, store)
        kept.append((items, copy.deepcopy(items)))
    for items, as_it_was in kept:
        assert differences(items, as_it_was) == []


def _check_sessions(items, store):
    visits = {}
    for key, blob in store.scan(b"v"):
        keys, values = np.frombuffer(blob or b"", np.int64).reshape(2, -1).tolist()
        for session, value in zip(keys, values, strict=True):
            visits.setdefault(session, []).append((value, items.row(key[1:].decode())))
    table = items.sessions
    if table is None:
        assert not visits
        return
    assert table.keys.tolist() == sorted(visits)
    for at, session in enumerate(sorted(visits)):
        rows = table.rows[table.offsets[at] : table.offsets[at + 1]].tolist()
        assert rows == [row for _, row in sorted(visits[session])]
        assert table.times[at] == max(visits[session])[0] >> 16
    bits = len(table.index).bit_length() - 1
    assert [
        table.index[key >> (63 - bits)] <= at < table.index[(key >> (63 - bits)) + 1]
        for at, key in enumerate(table.keys.tolist())
    ]


def test_vocabularies_hold_exactly_the_values_in_use_in_order():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events("a", genres=["war", "art"]))
    first = columns.refresh(store.snapshot(), 1)
    fold(store, [Record(2, 2, 2, 0, 0, ItemUpdate(item_id="b", attributes={"genres": ["crime", "war", "crime"]}))])
    second = columns.refresh(store.snapshot(), 1)
    fold(store, [Record(3, 3, 3, 0, 0, ItemUpdate(item_id="a", attributes={}))])
    third = columns.refresh(store.snapshot(), 1)
    assert [p.tags["genres"].vocabulary.values for p in (first, second, third)] == [
        ("art", "war"),
        ("art", "crime", "war"),
        ("crime", "war"),
    ]
    assert second.tags["genres"].codes.tolist() == [0, 2, 1, 2]
    assert third.tags["genres"].offsets.tolist() == [0, 0, 2]
    assert first.tags["genres"].codes.tolist() == [0, 1]


def test_only_what_changed_is_read_again():
    store, reader = Store(), ToyReader()
    columns = ItemColumns(SCHEMA, reader)
    fold(store, item_events("a", "b", "c"))
    store.put(item_key("a"), toy_blob([(100, "n")]))
    first = columns.refresh(store.snapshot(), 105)
    assert reader.read == 3
    store.commit(4, {item_key("b"): toy_blob([(105, "n")])})
    second = columns.refresh(store.snapshot(), 106)
    assert reader.read == 4
    assert second.numbers["price"] is first.numbers["price"]
    store.commit(5, {})
    assert columns.refresh(store.snapshot(), 109).features[:, 1].tolist() == [1, 1, 0]
    assert reader.read == 4
    assert columns.refresh(store.snapshot(), 110).features[:, 1].tolist() == [0, 1, 0]
    assert reader.read == 5


def test_the_same_position_and_time_are_the_same_picture():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events("a"))
    assert columns.refresh(store.snapshot(), 5) is columns.refresh(store.snapshot(), 5)


def test_an_empty_catalogue():
    items = ItemColumns(SCHEMA, ToyReader()).refresh(Store(), 5)
    assert items.count == 0
    assert items.features.shape == (0, 2)
    assert items.keyed["by_key"].offsets.tolist() == [0]
    assert items.neighbours.offsets.tolist() == [0]


def test_it_starts_anew_when_position_or_time_go_back_or_the_state_is_another():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events("a", "b", category="art"))
    store.put(item_key("a"), toy_blob([(100, "n")]))
    columns.refresh(store.snapshot(), 120)
    assert columns.refresh(store.snapshot(), 105).features[:, 1].tolist() == [1, 0]
    other = Store()
    fold(other, item_events("x"))
    assert columns.refresh(other.snapshot(), 106).ids == ["x"]
    longer = Store()
    fold(longer, item_events("y", "x", "z"))
    picture = columns.refresh(longer.snapshot(), 107)
    assert picture.ids == ["y", "x", "z"]
    assert picture.categories["category"].vocabulary.values == ()


def test_values_of_another_kind_than_declared_count_as_missing():
    store = Store()
    wrong = {
        "category": 5,
        "genres": "war",
        "title": 3,
        "price": "x",
        "released_at": "x",
        "adult": 1,
        "embedding": pack([1]),
    }
    store.commit(1, {b"ca": encode_profile(ItemProfile(item_id="a", row=0, status=LISTED, attributes=wrong))})
    items = ItemColumns(SCHEMA, ToyReader()).refresh(store.snapshot(), 5)
    assert [attribute_of(items, 0, attribute) or None for attribute in SCHEMA.item.values()] == [None] * 7


def test_a_state_that_contradicts_itself_is_refused():
    store = Store()
    store.commit(1, {b"ca": encode_profile(ItemProfile(item_id="a", row=3, status=LISTED))})
    with pytest.raises(ContractError, match="rows"):
        ItemColumns(SCHEMA, ToyReader()).refresh(store.snapshot(), 5)
    store.commit(2, {b"ca": encode_profile(ItemProfile(item_id="a", row=0, status=LISTED)), b"nb": neighbours_blob({})})
    with pytest.raises(ContractError, match="no such item"):
        ItemColumns(SCHEMA, ToyReader()).refresh(store.snapshot(), 5)


def test_a_start_anew_that_fails_leaves_nothing_half_renewed():
    store, other, columns = Store(), Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events("x"))
    columns.refresh(store.snapshot(), 5)
    fold(other, item_events("y", "x", "z"))
    other.put(neighbours_key("nobody"), neighbours_blob({}))
    with pytest.raises(ContractError, match="no such item"):
        columns.refresh(other.snapshot(), 5)
    other.commit(4, {neighbours_key("nobody"): None, item_key("x"): toy_blob([(5, "n")])})
    del other.written[neighbours_key("nobody")]
    fresh = ItemColumns(SCHEMA, ToyReader()).refresh(other.snapshot(), 5)
    assert differences(columns.refresh(other.snapshot(), 5), fresh) == []


def test_two_items_with_one_hash_are_refused(monkeypatch):
    store = Store()
    fold(store, item_events("a", "b"))
    monkeypatch.setattr("penchant.catalog.parts.hash_id", len)
    with pytest.raises(ContractError, match="hash of 'b'"):
        ItemColumns(SCHEMA, ToyReader()).refresh(store.snapshot(), 5)


ACTUAL = """
[actions]
click = { weight = 1.0 }
[attributes.item]
category = "category"
genres = "tags"
title = "text"
price = "number"
released_at = "timestamp"
adult = "flag"
[attributes.user]
country = "category"
[sources]
half_life = "1h"
segment = "country"
[features.hourly]
entity = "item"
of = "click"
window = "1h"
"""


@given(logs(most=40), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_incremental_equals_fresh_with_the_folds_and_the_reader_of_the_house(records, sizes, data):
    declared = parse(ACTUAL)
    plan = compile_plan(declared, SCHEMA)
    folds = (CatalogFold(SCHEMA), CovisitFold(SCHEMA, 2), SessionFold(POSITIVE, 1_000_000), FeatureFold(plan, SCHEMA))
    store, columns, now = Store(), ItemColumns(SCHEMA, Reader(plan)), 0
    for batch in cut(records, sizes):
        # The log's small steps in time are spread out, so that tiles and windows pass.
        now = 10_000_000 + 100_000 * (batch[-1].ts - 100)
        store.position = batch[-1].position
        spread = [structs.replace(r, ts=10_000_000 + 100_000 * (r.ts - 100), ingested_at=now) for r in batch]
        for each in folds:
            each.apply(spread, store)
        for later in (0, data.draw(st.integers(0, 5_000_000), "later")):
            items = columns.refresh(store.snapshot(), now + later)
            fresh = ItemColumns(SCHEMA, Reader(plan)).refresh(store.snapshot(), now + later)
            assert differences(items, fresh) == []
            assert "popularity" in items.feature_names
            assert items.keyed.keys() == {"popularity_segment"}


def test_a_cleared_store_is_another_state_wherever_its_position_is():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events("a", "b"))
    columns.refresh(store.snapshot(), 5)
    again = Store()
    again.generation = "1"
    fold(again, item_events("a"))
    again.position = 9
    assert columns.refresh(again.snapshot(), 5).count == 1


def test_a_partner_that_comes_later_joins_the_neighbours():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events("a", "b"))
    store.put(neighbours_key("a"), neighbours_blob({"b": 2, "later": 7}))
    assert columns.refresh(store.snapshot(), 5).neighbours.values.tolist() == [2]
    fold(store, [Record(3, 3, 3, 0, 0, ItemUpdate(item_id="later", attributes={}))])
    assert columns.refresh(store.snapshot(), 5).neighbours.values.tolist() == [2, 7]


def test_columns_that_an_event_leaves_as_they_were_stay_the_same_objects():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    same = {"category": "art", "genres": ["war"], "title": "A", "released_at": 5, "adult": False}
    same["embedding"] = pack([1, 2, 3])
    fold(store, item_events("a", "b", **same, price=1))
    before = columns.refresh(store.snapshot(), 5)
    fold(store, [Record(3, 3, 3, 0, 0, ItemUpdate(item_id="a", attributes={**same, "price": 2}))])
    after = columns.refresh(store.snapshot(), 5)
    assert after.numbers["price"].tolist() == [2, 1]
    assert after.status is before.status
    assert after.listed is before.listed
    for kind in ("categories", "tags", "timestamps", "flags", "texts", "vectors"):
        assert all(column is getattr(before, kind)[name] for name, column in getattr(after, kind).items()), kind


def test_vectors_of_new_items_are_written_where_no_earlier_picture_looks():
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    fold(store, item_events(*(f"i{n}" for n in range(40)), embedding=pack([1, 2, 3])))
    first = columns.refresh(store.snapshot(), 1).vectors["embedding"]
    fold(store, [Record(41, 41, 41, 0, 0, ItemUpdate(item_id="new", attributes={"embedding": pack([4, 5, 6])}))])
    second = columns.refresh(store.snapshot(), 1).vectors["embedding"]
    assert second.base is first.base
    assert second.tolist() == [*first.tolist(), [4, 5, 6]]
    fold(store, [Record(42, 42, 42, 0, 0, ItemUpdate(item_id="i0", attributes={"embedding": pack([7, 8, 9])}))])
    third = columns.refresh(store.snapshot(), 1).vectors["embedding"]
    assert third[0].tolist() == [7, 8, 9]
    assert first[0].tolist() == second[0].tolist() == [1, 2, 3]
    assert first.flags.c_contiguous
    assert third.flags.c_contiguous
