"""Conditions on attributes, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.world import SCHEMA, values
from penchant.catalog import compile_where
from penchant.core.errors import InvalidRequest
from penchant.testing.oracles.catalog import attribute_of, naive_match
from penchant.testing.strategies import generators, make_items, random_items

single = {
    "category": st.sampled_from(["a", "b", "nowhere"]),
    "genres": st.sampled_from(["drama", "war", "nothing"]),
    "price": st.sampled_from([0, 7, 7.0, 20.5, -1]) | st.integers(0, 50),
    "released_at": st.sampled_from([0, -1, 1_699_000_000_000, "2023-11-01T00:00:00Z"]),
    "adult": st.booleans(),
}


def conditions(name):
    one = single[name]
    many = st.lists(one, min_size=1, max_size=4)
    operators = {"eq": one, "ne": one, "in": many, "not_in": many}
    if name in {"price", "released_at"}:
        operators |= {op: one for op in ("lt", "lte", "gt", "gte")}
    table = st.fixed_dictionaries({}, optional=operators).filter(len)
    return st.one_of(one, many, table)


wheres = st.fixed_dictionaries({}, optional={name: conditions(name) for name in single})


@settings(deadline=None)
@given(wheres, generators(), st.integers(0, 40))
def test_equals_plain_python(where, rng, count):
    items = random_items(rng, count)
    mask = compile_where(where, SCHEMA)(items)
    rows = [{n: attribute_of(items, row, SCHEMA.item[n]) for n in single} for row in range(count)]
    assert mask.dtype == np.bool_
    assert mask.tolist() == [naive_match(where, row, SCHEMA) for row in rows]


def test_missing_satisfies_nothing_positive():
    items = make_items(
        1,
        categories={"category": [None]},
        tags={"genres": [[]]},
        numbers={"price": [np.nan]},
        timestamps={"released_at": [-1]},
        flags={"adult": [-1]},
    )
    for name, value in {"category": "a", "genres": "war", "price": 1, "released_at": -1, "adult": False}.items():
        for condition in (value, [value], {"eq": value}, {"in": [value]}):
            assert not compile_where({name: condition}, SCHEMA)(items)[0], (name, condition)
        for condition in ({"ne": value}, {"not_in": [value]}):
            assert compile_where({name: condition}, SCHEMA)(items)[0], (name, condition)
    for name in ("price", "released_at"):
        for op in ("lt", "lte", "gt", "gte"):
            assert not compile_where({name: {op: 0}}, SCHEMA)(items)[0], (name, op)


@pytest.mark.parametrize(
    ("where", "field", "reason", "message"),
    [
        ({"genre": "war"}, "where.genre", "unknown_attribute", "did you mean 'genres'"),
        ({"xyz": 1}, "where.xyz", "unknown_attribute", "adult, category"),
        ({5: 1}, "where.a number", "unknown_attribute", "there are"),
        ({"title": "Heat"}, "where.title", "not_filterable", "text"),
        ({"price": "cheap"}, "where.price", "wrong_type", "expected a number, not text"),
        ({"price": True}, "where.price", "wrong_type", "a flag"),
        ({"price": float("nan")}, "where.price", "out_of_range", "finite"),
        ({"price": 10**400}, "where.price", "out_of_range", "finite"),
        ({"price": None}, "where.price", "wrong_type", "null"),
        ({"price": {"lte": [1]}}, "where.price.lte", "wrong_type", "a list"),
        ({"price": {"le": 1}}, "where.price.le", "unknown_operator", "did you mean 'lte'"),
        ({"price": {}}, "where.price", "empty", "operator"),
        ({"price": []}, "where.price", "empty", "empty list"),
        ({"price": {"in": []}}, "where.price.in", "empty", "empty list"),
        ({"price": {"in": 3}}, "where.price.in", "wrong_type", "a list of values"),
        ({"price": [1, [2]]}, "where.price.1", "wrong_type", "a list"),
        ({"price": {"eq": {"eq": 1}}}, "where.price.eq", "wrong_type", "an object"),
        ({"price": list(range(101))}, "where.price", "out_of_range", "100 values, not 101"),
        ({"category": 3}, "where.category", "wrong_type", "a string"),
        ({"category": {"lt": "m"}}, "where.category.lt", "wrong_operator", "numbers and timestamps"),
        ({"adult": 1}, "where.adult", "wrong_type", "true or false"),
        ({"released_at": "yesterday"}, "where.released_at", "invalid_time", "RFC 3339"),
        ({"released_at": True}, "where.released_at", "invalid_time", "flag"),
        ([], "where", "wrong_type", "a list"),
        ({f"a{n}": 1 for n in range(33)}, "where", "out_of_range", "32 attributes"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_place_and_fix(where, field, reason, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        compile_where(where, SCHEMA)
    assert (caught.value.field, caught.value.reason) == (field, reason)


def test_the_prefix_names_the_settings_that_asked():
    with pytest.raises(InvalidRequest) as caught:
        compile_where({"x": 1}, SCHEMA, prefix="surfaces.home.deny")
    assert caught.value.field == "surfaces.home.deny.x"


def test_the_strategies_of_values_cover_every_kind():
    assert values.keys() == SCHEMA.item.keys()
