from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.candidates import Candidates
from penchant.core.errors import ContractError, SettingsError
from penchant.core.query import Query
from penchant.core.schema import Attribute, Schema
from penchant.rerank.selector import SlateSelector, best_first
from penchant.settings import Cap, Explore, New, Select
from penchant.testing.contracts.stage import SelectorContract, random_candidates
from penchant.testing.oracles import rerank as oracle
from penchant.testing.strategies import generators, make_items, make_query, random_items, random_query

DAY = 86_400_000
SCHEMA = Schema(
    actions={},
    item={
        "category": Attribute("category", "category"),
        "genres": Attribute("genres", "tags"),
        "title": Attribute("title", "text"),
        "price": Attribute("price", "number"),
    },
)


def caps() -> st.SearchStrategy[Cap]:
    return st.builds(
        Cap, by=st.sampled_from(["category", "genres"]), max=st.none() | st.integers(1, 3), adjacent=st.booleans()
    )


def selects() -> st.SearchStrategy[Select]:
    return st.builds(
        Select,
        diversity=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
        by=st.sampled_from([None, ["genres"], ["category", "genres"], []]),
        caps=st.lists(caps(), max_size=3),
        explore=st.builds(Explore, policy=st.sampled_from(["none", "epsilon"]), share=st.sampled_from([0.0, 0.3, 1.0])),
        pool=st.sampled_from([1, 4, 100]),
        new=st.builds(New, slots=st.sampled_from([0, 0, 1, 3, 50]), below=st.sampled_from([1, 3])),
    )


def world(rng: np.random.Generator) -> tuple[Query, Candidates]:
    items = random_items(rng, int(rng.integers(0, 30)))
    shown = rng.choice([0, 2, 9, np.nan], (items.count, 1)).astype(np.float32)
    items = replace(
        items,
        feature_names=(*items.feature_names, "total_impression"),
        features=np.concatenate([items.features, shown], axis=1),
        listed_at=items.time - DAY * rng.choice([1, 29, 30, 400], items.count),
    )
    query = random_query(rng, items)
    candidates = random_candidates(rng, query)
    rank_only = candidates.rows if rng.random() < 0.2 else None
    return replace(query, size=int(rng.integers(0, 15)), rank_only=rank_only), candidates


@settings(max_examples=200, deadline=None)
@given(selects(), generators())
def test_the_slate_is_that_of_the_definition(select: Select, rng: np.random.Generator) -> None:
    query, candidates = world(rng)
    slate = SlateSelector(select, SCHEMA).select(query, candidates)
    expected = oracle.select(select, SCHEMA, query, candidates)
    assert slate.index.tolist() == [placed.at for placed in expected]
    assert slate.propensities.tolist() == [np.float32(placed.propensity) for placed in expected]
    assert [reason.kind == "explore" for reason in slate.reasons] == [placed.explored for placed in expected]


class TestPlain(SelectorContract):
    def make(self) -> SlateSelector:
        return SlateSelector(Select(), SCHEMA)


class TestDiverse(SelectorContract):
    def make(self) -> SlateSelector:
        return SlateSelector(Select(diversity=0.5), SCHEMA, sources=["ease", "trending", "fresh"])


class TestExploring(SelectorContract):
    by_value_first = False

    def make(self) -> SlateSelector:
        return SlateSelector(Select(explore=Explore(policy="epsilon", share=0.5)), SCHEMA)


class TestCapped(SelectorContract):
    fills = False
    by_value_first = False  # a finite value may be held back until its neighbour differs

    def make(self) -> SlateSelector:
        return SlateSelector(Select(caps=[Cap(by="genres", max=2, adjacent=False)], pool=5), SCHEMA)


def candidates_of(values: list[float]) -> Candidates:
    n = len(values)
    return Candidates(np.arange(n, dtype=np.int32), np.ones(n, np.uint32), {"value": np.array(values, np.float32)})


def test_caps_are_filled_from_beyond_the_pool() -> None:
    items = make_items(5, categories={"category": ["a", "a", "a", "b", None]})
    select = Select(caps=[Cap(by="category", max=1)], pool=3)
    slate = SlateSelector(select, SCHEMA).select(make_query(items, size=3), candidates_of([5, 4, 3, 2, 1]))
    assert slate.rows.tolist() == [0, 3, 4]


def test_equal_items_make_room_for_others() -> None:
    items = make_items(3, tags={"genres": [["a"], ["a"], ["b"]]})
    select = Select(diversity=0.5, by=["genres"])
    slate = SlateSelector(select, SCHEMA).select(make_query(items, size=3), candidates_of([3, 2.9, 2]))
    assert slate.rows.tolist() == [0, 2, 1]


def test_ranking_given_items_loses_none_to_caps() -> None:
    items = make_items(4, categories={"category": ["a", "a", "a", "b"]})
    select = Select(caps=[Cap(by="category", max=1, adjacent=False)])
    query = make_query(items, size=4, rank_only=[0, 1, 2, 3])
    slate = SlateSelector(select, SCHEMA).select(query, candidates_of([4, 3, 2, 1]))
    assert slate.rows.tolist() == [0, 3, 1, 2]


def test_draws_depend_on_the_request_alone() -> None:
    items = make_items(50)
    selector = SlateSelector(Select(explore=Explore(policy="epsilon", share=1.0)), SCHEMA)
    candidates = candidates_of(list(range(50)))
    first, second, other = (
        selector.select(make_query(items, request_id=request, size=10), candidates) for request in ("a", "a", "b")
    )
    assert first.rows.tolist() == second.rows.tolist() != other.rows.tolist()


def test_propensities_are_the_shares_of_many_requests() -> None:
    """Every slate of two slots: how often it comes is the product of its propensities (chi-square)."""
    items = make_items(5, categories={"category": ["a", "a", "b", "b", None]}, tags={"genres": [["x"]] * 5})
    select = Select(
        diversity=0.3, caps=[Cap(by="category", max=1)], explore=Explore(policy="epsilon", share=0.4), pool=3
    )
    selector, candidates = SlateSelector(select, SCHEMA), candidates_of([5, 4, 3, 2, 1])
    base = make_query(items, size=2)

    expected: dict[tuple[int, ...], float] = {}
    first = oracle.next_slot(select, SCHEMA, base, candidates, [])
    assert first is not None
    for top, chance in oracle.distribution(first, 0.4):
        second = oracle.next_slot(select, SCHEMA, base, candidates, [top])
        assert second is not None
        for below, then in oracle.distribution(second, 0.4):
            expected[top, below] = chance * then
    assert sum(expected.values()) == pytest.approx(1)

    n, found = 20_000, Counter[tuple[int, ...]]()
    for request in range(n):
        slate = selector.select(replace(base, request_id=f"request-{request}"), candidates)
        shown = tuple(slate.rows.tolist())
        found[shown] += 1
        assert float(slate.propensities.prod()) == pytest.approx(expected[shown])
    statistic = sum((found[slate] - n * p) ** 2 / (n * p) for slate, p in expected.items())
    degrees = len(expected) - 1
    assert statistic < degrees + 4 * np.sqrt(2 * degrees)


def test_without_exploration_nothing_is_left_to_chance() -> None:
    slate = SlateSelector(Select(), SCHEMA).select(make_query(make_items(3), size=2), candidates_of([1, 3, 2]))
    assert slate.rows.tolist() == [1, 2]
    assert slate.propensities.tolist() == [1.0, 1.0]


@given(st.lists(st.sampled_from([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45]), max_size=20))
def test_order_by_value_then_row(values: list[float]) -> None:
    rows = np.random.default_rng(1).permutation(len(values)).astype(np.int32)
    expected = sorted(
        range(len(values)),
        key=lambda i: (not np.isfinite(values[i]), -values[i] if np.isfinite(values[i]) else 0, rows[i]),
    )
    assert best_first(np.array(values, np.float32), rows).tolist() == expected


def test_a_slate_needs_values() -> None:
    candidates = Candidates(np.zeros(1, np.int32), np.zeros(1, np.uint32))
    with pytest.raises(ContractError, match="value"):
        SlateSelector(Select(), SCHEMA).select(make_query(make_items(1)), candidates)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (Select(caps=[Cap(by="price")]), "select.caps: 'price' is a number"),
        (Select(caps=[Cap(by="pirce")]), "select.caps: 'pirce' is not declared"),
        (Select(diversity=0.1, by=["title"]), "select.by: 'title' is a text.*use one of: category, genres"),
    ],
)
def test_only_sets_are_compared(select: Select, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SlateSelector(select, SCHEMA)


def test_what_is_new_goes_before_what_is_old_and_seldom_shown() -> None:
    shown, time = [500] * 20 + [0] * 10, 1_700_000_000_000
    listed_at = [time - 31 * DAY] * 26 + [time - DAY] + [time - 31 * DAY] * 3
    items = make_items(30, time=time, listed_at=listed_at, features={"total_impression": shown})
    query = make_query(items, size=10)
    rows = np.arange(30, dtype=np.int32)
    candidates = Candidates(rows, np.zeros(30, np.uint32), {"value": np.linspace(1, 0, 30, dtype=np.float32)})
    selector = SlateSelector(Select(new=New(slots=1, below=400)), SCHEMA)
    assert selector.select(query, candidates).rows.tolist() == [0, 1, 2, 3, 26, 4, 5, 6, 7, 8]
    old = replace(items, listed_at=np.full(30, time - 31 * DAY, np.int64))
    assert selector.select(make_query(old, size=10), candidates).rows.tolist() == [0, 1, 2, 3, 20, 4, 5, 6, 7, 8]


def test_slots_are_kept_for_new_items() -> None:
    items = make_items(30, features={"total_impression": [500] * 20 + [0, 10, 999] + [1_000] * 7})
    query = make_query(items, size=12)
    rows = np.arange(30, dtype=np.int32)
    candidates = Candidates(rows, np.zeros(30, np.uint32), {"value": np.linspace(1, 0, 30, dtype=np.float32)})
    kept = SlateSelector(Select(new=New(slots=2, below=400)), SCHEMA).select(query, candidates)
    assert kept.rows.tolist() == [0, 1, 2, 3, 20, 4, 5, 6, 21, 7, 8, 9]
    assert kept.propensities.tolist() == [1] * 12
    short = SlateSelector(Select(new=New(slots=2, below=400)), SCHEMA).select(replace(query, size=4), candidates)
    assert short.rows.tolist() == [0, 1, 2, 3]
    given = replace(query, size=30, rank_only=rows)
    assert SlateSelector(Select(new=New(slots=2, below=400)), SCHEMA).select(given, candidates).rows.tolist() == [*rows]
