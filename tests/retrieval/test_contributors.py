"""Which item of the history weighed most, against the terms of each score written out one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from numpy.typing import NDArray

from penchant.core.hashing import hash_id
from penchant.core.query import Query
from penchant.core.stages import Contributing
from penchant.retrieval.content import Content, ContentTable
from penchant.retrieval.covisit import Covisit, CovisitTable
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.known import KnownItems
from penchant.retrieval.linear import Ease, fit_ease
from penchant.retrieval.popular import Popular
from penchant.testing.strategies import generators, make_items, make_query

ITEMS = 30
WORDS = [f"w{n}" for n in range(12)]
f32 = np.float32
Terms = Callable[[Query, int], list[float]]
"""Per item of the history its term in the score of a row, newest first."""


def ease(rng: np.random.Generator, dense_limit: int) -> tuple[Ease, Terms]:
    seen = (rng.random((60, ITEMS - 3)) < 0.2).astype(np.float32)
    ids = np.array([hash_id(f"i{row}") for row in range(ITEMS - 3)], np.int64)  # three that the model does not know
    source = Ease("one", fit_ease(sp.csr_matrix(seen), ids, 5.0, dense_limit=dense_limit, keep=9), depth=6)

    def terms(query: Query, row: int) -> list[float]:
        table = query.items.tables["one"]
        assert isinstance(table, KnownItems)
        model = source.model
        assert model is not None
        weights = model.weights
        if model.offsets is not None:
            weights = sp.csr_matrix((model.weights, model.columns, model.offsets), shape=(ITEMS - 3, ITEMS - 3))
            weights = weights.toarray()
        known = [int(past) for past in past_of(query) if table.of_row[past] >= 0][:6]
        told = dict.fromkeys(past_of(query), 0.0)
        if table.of_row[row] >= 0:
            for k, past in enumerate(known):
                told[past] = f32(decayed(0.9, k)) * weights[table.of_row[past], table.of_row[row]]
        return list(told.values())

    return source, terms


def covisit(rng: np.random.Generator, _: int) -> tuple[Covisit, Terms]:
    del rng
    source = Covisit("one", seeds=6)

    def terms(query: Query, row: int) -> list[float]:
        table = query.items.tables["one"]
        assert isinstance(table, CovisitTable)
        counts = table.neighbours
        assert counts is not None
        told = []
        for k, past in enumerate(past_of(query)):
            begin, end = counts.offsets[past], counts.offsets[past + 1]
            common = dict(zip(counts.keys[begin:end].tolist(), counts.values[begin:end].tolist(), strict=True))
            share = f32(decayed(0.8, k) * table.scale[past])
            told.append(share * f32(common.get(row, 0)) * table.scale[row] if k < 6 else 0.0)
        return told

    return source, terms


def content(rng: np.random.Generator, _: int) -> tuple[Content, Terms]:
    del rng
    source = Content("one", depth=6, terms=8)

    def terms(query: Query, row: int) -> list[float]:
        table = query.items.tables["one"]
        assert isinstance(table, ContentTable)
        profile = source._profile(table, query)
        assert profile is not None

        def vector(of: int) -> NDArray[np.float32]:
            full = np.zeros(len(profile), np.float32)
            rows = slice(table.offsets[of], table.offsets[of + 1])
            full[table.terms[rows]] = table.values[rows]
            return np.where(profile != 0, full, 0)

        told = []
        for k, past in enumerate(past_of(query)):
            total = f32(0)
            for one, other in zip(vector(past), vector(row), strict=True):
                total += f32(decayed(0.8, k)) * one * other
            told.append(total if k < 6 else 0.0)
        return told

    return source, terms


def decayed(decay: float, k: int) -> float:
    weight = 1.0
    for _ in range(k):
        weight *= decay
    return weight


def past_of(query: Query) -> list[int]:
    return [query.seed_row] if query.seed_row >= 0 else query.history.tolist()


@pytest.mark.parametrize("make", [ease, covisit, content])
@pytest.mark.parametrize("dense_limit", [1, 99])
@settings(deadline=None, max_examples=25)
@given(rng=generators())
def test_the_largest_term_is_named(
    make: Callable[[np.random.Generator, int], tuple[Contributing, Terms]], dense_limit: int, rng: np.random.Generator
) -> None:
    source, terms = make(rng, dense_limit)
    common = [
        {int(j): int(rng.integers(1, 9)) for j in rng.choice(ITEMS, 6, replace=False) if j != i} for i in range(ITEMS)
    ]
    items = make_items(
        ITEMS,
        neighbours=common,
        tags={"words": [sorted(rng.choice(WORDS, rng.integers(0, 5), replace=False)) for _ in range(ITEMS)]},
        sources=[source],  # type: ignore[list-item]
    )
    history = rng.choice(ITEMS, rng.integers(0, 9), replace=False)
    query = make_query(items, history=history, hidden=[int(rng.integers(ITEMS))])
    if rng.random() < 0.2:
        query = dataclasses.replace(query, seed_row=int(rng.integers(ITEMS)))
    rows = rng.permutation(ITEMS).astype(np.int32)[:12]
    found = source.contributor(query, rows)
    assert found.dtype == np.int32
    assert (found == source.contributor(query, rows)).all()
    assert (found[5:6] == source.contributor(query, rows[5:6])).all()  # whoever else is asked about
    for row, named in zip(rows.tolist(), found.tolist(), strict=True):
        told = terms(query, row) if past_of(query) else []
        best = int(np.argmax(told)) if told else -1  # the first of equals: the newest
        assert named == (past_of(query)[best] if best >= 0 and told[best] > 0 else -1)


def test_sources_that_know_no_history_name_none() -> None:
    assert not isinstance(Popular("popular"), Contributing)
    assert not isinstance(Fresh("fresh", 1), Contributing)
    rows = np.array([1, 2], np.int32)
    source = Ease("one")
    assert source.contributor(make_query(make_items(3, sources=[source]), history=[0]), rows).tolist() == [-1, -1]
