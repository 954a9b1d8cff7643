from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.core.candidates import Candidates
from penchant.core.errors import SettingsError
from penchant.core.events import AttributeValue
from penchant.core.items import LISTED, UNKNOWN, Items
from penchant.core.query import Query
from penchant.core.schema import Attribute, AttributeKind, Schema
from penchant.core.stages import Filter
from penchant.rerank import filters
from penchant.rerank.filters import FILTERS, STATIC, Age, Hidden, Listed, Rules, Seen, make_filter
from penchant.settings import Age as AgeSettings
from penchant.settings import Settings, Surface
from penchant.testing.contracts.stage import FilterContract
from penchant.testing.strategies import make_items, make_query, make_user, pictures


def schema(item: AttributeKind = "flag", user: AttributeKind = "flag") -> Schema:
    return Schema(
        actions={},
        item={
            "adult": Attribute("adult", item),
            "genres": Attribute("genres", "tags"),
            "price": Attribute("price", "number"),
        },
        user={"adult": Attribute("adult", user)},
        context={"adult": Attribute("adult", user)},
    )


class TestSeen(FilterContract):
    def make(self) -> Filter:
        return Seen()


class TestHidden(FilterContract):
    def make(self) -> Filter:
        return Hidden()


class TestListed(FilterContract):
    def make(self) -> Filter:
        return Listed()


class TestAgeByFlag(FilterContract):
    def make(self) -> Filter:
        return Age(AgeSettings(), schema())


class TestAgeByNumber(FilterContract):
    def make(self) -> Filter:
        return Age(AgeSettings(item="price"), schema(user="number"))


class TestRules(FilterContract):
    def make(self) -> Filter:
        return Rules({"genres": ["drama", "war"]}, {"price": {"gt": 30}}, schema(), "surfaces.home")


def kept(stage: Filter, query: Query) -> list[int]:
    rows = np.arange(query.items.count, dtype=np.int32)[::-1].copy()
    return sorted(rows[stage.keep(query, Candidates(rows, np.ones(len(rows), np.uint32)))].tolist())


@given(st.sets(st.integers(0, 2**31 - 1), max_size=60), st.lists(st.integers(0, 2**31 - 1), max_size=60), st.data())
def test_absent_is_set_difference(rows: set[int], removed: list[int], data: st.DataObject) -> None:
    if rows:
        removed = removed + data.draw(st.lists(st.sampled_from(sorted(rows)), max_size=20))
    also = removed.pop() if removed else -1
    mask = filters.absent(np.array(list(rows), np.int32), np.array(removed, np.int32), also)
    assert mask.tolist() == [row not in removed and row != also for row in rows]


def test_seen_and_hidden() -> None:
    query = make_query(make_items(6), seen=[0, 2], hidden=[1], seed_row=5)
    assert kept(Seen(), query) == [1, 3, 4]
    assert kept(Hidden(), query) == [0, 2, 3, 4, 5]
    asked = replace(query, rank_only=np.arange(6, dtype=np.int32))
    assert kept(Seen(), asked) == kept(Hidden(), asked) == list(range(6))


@given(pictures())
def test_policy_holds_for_given_items_too(items: Items) -> None:
    query = make_query(items, rank_only=np.arange(items.count))
    assert kept(Listed(), query) == np.flatnonzero(items.listed).tolist()
    adult = items.flags["adult"]
    assert kept(Age(AgeSettings(), schema()), query) == [
        row for row in range(items.count) if adult[row] != 1 and items.status[row] != UNKNOWN
    ]


@pytest.mark.parametrize(
    ("user", "context", "allowed"),
    [
        ({}, {}, False),
        ({"adult": True}, {}, True),
        ({"adult": False}, {}, False),
        ({}, {"adult": True}, True),
        ({"adult": True}, {"adult": False}, False),
        ({"adult": False}, {"adult": True}, False),
        ({"adult": None}, {}, False),
        ({"adult": "yes"}, {}, False),
        ({"adult": 1}, {}, False),
    ],
)
def test_age_by_flag(user: Mapping[str, AttributeValue], context: Mapping[str, AttributeValue], allowed: bool) -> None:
    items = make_items(3, flags={"adult": [1, 0, -1]})
    query = make_query(items, user=make_user(attributes=user), context=context)
    assert kept(Age(AgeSettings(), schema()), query) == ([0, 1, 2] if allowed else [1, 2])


@pytest.mark.parametrize(
    ("user", "context", "expected"),
    [
        ({}, {}, [3]),
        ({"adult": 15}, {}, [0, 1, 3]),
        ({"adult": 18.0}, {}, [0, 1, 2, 3]),
        ({}, {"adult": 12}, [0, 3]),
        ({"adult": 18}, {"adult": 12}, [0, 3]),
        ({"adult": 18}, {"adult": "old"}, [3]),
        ({"adult": float("nan")}, {}, [3]),
        ({"adult": float("inf")}, {}, [3]),
    ],
)
def test_age_by_number(
    user: Mapping[str, AttributeValue], context: Mapping[str, AttributeValue], expected: list[int]
) -> None:
    items = make_items(
        5, numbers={"adult": [12, 15, 18, np.nan, np.nan]}, status=[LISTED, LISTED, LISTED, LISTED, UNKNOWN]
    )
    query = make_query(items, user=make_user(attributes=user), context=context)
    assert kept(Age(AgeSettings(), schema("number", "number")), query) == expected


@pytest.mark.parametrize(
    ("age", "declared", "message"),
    [
        (AgeSettings(item="adlt"), schema(), "filters.age.item: 'adlt' is not declared"),
        (AgeSettings(item="genres"), schema(), "filters.age.item: 'genres' is a tags"),
        (AgeSettings(), schema("flag", "number"), "filters.age.user: 'adult' is a number.*declare it as flag"),
    ],
)
def test_age_needs_declared_attributes(age: AgeSettings, declared: Schema, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Age(age, declared)


def test_rules() -> None:
    items = make_items(4, tags={"genres": [["war"], ["war"], [], ["news"]]}, numbers={"price": [40, 10, 10, 40]})
    settings = Settings(surfaces={"home": Surface(sources=[], allow={"genres": ["war"]}, deny={"price": {"gt": 30}})})
    rules = make_filter("rules", settings, "home", schema())
    assert kept(rules, make_query(items)) == [1]
    assert kept(rules, make_query(make_items(1, tags={"genres": [["war"]]}, numbers={"price": [1]}))) == [0]


def test_rules_name_their_place() -> None:
    with pytest.raises(SettingsError, match=r"surfaces.home.deny.prize: .*did you mean 'price'"):
        Rules({}, {"prize": 3}, schema(), "surfaces.home")


def test_every_filter_can_be_made_by_name() -> None:
    settings = Settings(surfaces={"home": Surface(sources=[])})
    assert {name: make_filter(name, settings, "home", schema()).name for name in FILTERS} == {n: n for n in FILTERS}
    assert set(FILTERS) > STATIC
