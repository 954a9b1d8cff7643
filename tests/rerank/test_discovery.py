"""A share of discovery: what is new ground for a person, and how slots are given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.errors import SettingsError
from penchant.core.items import Items
from penchant.core.schema import Attribute, Schema
from penchant.rerank.discovery import Discovery
from penchant.settings import Cap
from penchant.testing.strategies import generators, random_items

ITEM = {
    "genres": Attribute("genres", "tags"),
    "category": Attribute("category", "category"),
    "title": Attribute("title", "text"),
}
SCHEMA = Schema(actions={}, item=ITEM)


def values(items: Items, name: str, row: int) -> set[int]:
    if name == "category":
        code = int(items.categories[name].codes[row])
        return {code} if code >= 0 else set()
    tags = items.tags[name]
    return set(tags.codes[tags.offsets[row] : tags.offsets[row + 1]].tolist())


@settings(max_examples=60, deadline=None)
@given(generators(), st.sampled_from(["category", "genres"]))
def test_new_ground_shares_no_value_with_what_was_met(rng: np.random.Generator, by: str) -> None:
    items = random_items(rng, int(rng.integers(1, 40)))
    met = rng.choice(items.count, int(rng.integers(0, min(6, items.count))), replace=False).astype(np.int32)
    known = set().union(*(values(items, by, row) for row in met.tolist()))
    unmet = Discovery(0.5, by, [], SCHEMA).unmet(items, met)
    assert unmet.tolist() == [
        bool(values(items, by, row)) and not values(items, by, row) & known for row in range(items.count)
    ]


@settings(max_examples=60, deadline=None)
@given(generators(), st.floats(0, 1), st.integers(0, 12))
def test_slots_are_shared_as_stated_and_in_order(rng: np.random.Generator, share: float, size: int) -> None:
    items = random_items(rng, 60)
    rows = rng.permutation(60).astype(np.int32)
    order = Discovery(share, "category", [], SCHEMA).compose(items, rows[:30], rows[30:], size).tolist()
    assert len(order) == len(set(order)) == size
    assert sum(index >= 30 for index in order) == int(size * share + 0.5)
    for kind in ([i for i in order if i < 30], [i for i in order if i >= 30]):
        assert kind == sorted(kind)
    # Every beginning of the list has its share as well, to within a slot.
    for length in range(1, size + 1):
        assert abs(sum(index >= 30 for index in order[:length]) - length * share) <= 1.5


@pytest.mark.parametrize(("familiar", "new"), [(0, 5), (5, 0), (2, 9), (0, 0)])
def test_where_one_kind_runs_out_the_other_fills(familiar: int, new: int) -> None:
    items = random_items(np.random.default_rng(1), 20)
    rows = np.arange(20, dtype=np.int32)
    order = Discovery(0.5, "category", [], SCHEMA).compose(items, rows[:familiar], rows[familiar : familiar + new], 8)
    assert len(order) == min(8, familiar + new)


@settings(max_examples=60, deadline=None)
@given(generators(), st.integers(1, 3), st.booleans())
def test_caps_hold_over_both_kinds(rng: np.random.Generator, most: int, adjacent: bool) -> None:
    items = random_items(rng, 40)
    rows = rng.permutation(40).astype(np.int32)
    cap = Cap(by="genres", max=most, adjacent=adjacent)
    order = Discovery(0.4, "category", [cap], SCHEMA).compose(items, rows[:20], rows[20:], 15)
    shown = [values(items, "genres", row) for row in rows[order].tolist()]
    for code in set().union(*shown):
        assert sum(code in some for some in shown) <= most
    if not adjacent:
        assert not any(one & other for one, other in itertools.pairwise(shown))


def test_by_default_it_goes_by_the_first_category_then_by_tags() -> None:
    assert Discovery(0.3, None, [], SCHEMA).by == "category"
    assert Discovery(0.3, None, [], Schema(actions={}, item={"genres": ITEM["genres"]})).by == "genres"


def test_without_such_an_attribute_only_a_share_of_nothing_can_be_had() -> None:
    schema = Schema(actions={}, item={"title": ITEM["title"]})
    with pytest.raises(SettingsError, match="category or tags"):
        Discovery(0.3, None, [], schema)
    with pytest.raises(SettingsError, match="title"):
        Discovery(0.3, "title", [], SCHEMA)
    nothing = Discovery(0, None, [], schema)
    assert not nothing.unmet(random_items(np.random.default_rng(1), 5), np.arange(2, dtype=np.int32)).any()
