"""The iALS source: the contract, the live history, and which item of it weighed most."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings

from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.stages import Contributing, RowScorer, Source
from penchant.retrieval.factors import FactorModel, fit_ials
from penchant.retrieval.ials import Ials
from penchant.testing.contracts.source import SourceContract
from penchant.testing.oracles.ials import half_epoch
from penchant.testing.strategies import generators, make_items, make_query

ITEMS = 40
LOSS = (0.01, 0.9, 0.1)


def fitted(ids: np.ndarray, seed: int = 0) -> FactorModel:
    rng = np.random.default_rng(seed)
    clicks = sp.csr_matrix((rng.random((60, len(ids))) < 0.2).astype(np.float32))
    reg, reg_exp, unobserved = LOSS
    return fit_ials(clicks, ids, dim=8, epochs=3, reg=reg, reg_exp=reg_exp, unobserved_weight=unobserved)


def names(count: int) -> np.ndarray:
    return np.array([hash_id(f"i{row}") for row in range(count)], np.int64)


class TestIals(SourceContract):
    def make(self, items: Items) -> Source:
        """With a model of three quarters of the items, and of two that the picture does not have."""
        known = np.array([item for item, row in items.rows.items() if row % 4], np.int64)
        known = np.append(np.random.default_rng(items.count).permutation(known), [7, 8])
        return Ials("ials", fitted(known))


class TestIalsWithoutModel(SourceContract):
    def make(self, items: Items) -> Source:
        return Ials("ials")


def test_live_history_is_folded_in() -> None:
    source = Ials("ials", fitted(names(ITEMS)), decay=0.5, depth=3)
    picture = make_items(ITEMS + 2, sources=[source])
    query = make_query(picture, history=[3, ITEMS + 1, 17, 5, 9])  # one that the model does not know, one too many
    past = np.zeros((1, ITEMS))
    past[0, [3, 17, 5]] = [1.0, 0.5, 0.25]
    assert source.model is not None
    factors = source.model.factors.astype(np.float64)
    expected = factors @ half_epoch(past, factors, *LOSS)[0]

    scores = source.score_rows(query, np.arange(ITEMS + 2, dtype=np.int32))
    np.testing.assert_allclose(scores[:ITEMS], expected, atol=5e-5)
    assert np.isnan(scores[ITEMS:]).all()
    rows, _ = source.retrieve(query, 100)
    assert set(rows) == set(np.flatnonzero(scores > 0))


def test_a_seed_takes_the_place_of_history() -> None:
    source = Ials("ials", fitted(names(ITEMS)))
    picture = make_items(ITEMS, sources=[source])
    seeded = source.retrieve(make_query(picture, history=[1, 2], seed_row=9), 10).rows.tolist()
    plain = source.retrieve(make_query(picture, history=[9]), 11).rows.tolist()
    assert seeded == [row for row in plain if row != 9][:10]


def test_new_items_enter_the_mapping() -> None:
    source = Ials("ials", fitted(names(ITEMS)))
    small, large = make_items(10), make_items(ITEMS)
    assert source.prepare(small).of_row.shape == (10,)
    assert (source.prepare(large).of_row == np.arange(ITEMS)).all()
    assert source.prepare(large) is source.prepare(large)


def test_it_scores_rows_and_names_contributors() -> None:
    assert isinstance(Ials("ials"), RowScorer)
    assert isinstance(Ials("ials"), Contributing)
    source = Ials("ials")
    rows = np.array([1, 2], np.int32)
    assert source.contributor(make_query(make_items(3, sources=[source]), history=[0]), rows).tolist() == [-1, -1]


@settings(deadline=None, max_examples=25)
@given(rng=generators())
def test_the_largest_term_is_named(rng: np.random.Generator) -> None:
    known = ITEMS - 3
    source = Ials("ials", fitted(names(known)), decay=0.8, depth=6)
    items = make_items(ITEMS, sources=[source])
    query = make_query(items, history=rng.choice(ITEMS, rng.integers(0, 9), replace=False))
    if rng.random() < 0.2:
        query = dataclasses.replace(query, seed_row=int(rng.integers(ITEMS)))
    rows = rng.permutation(ITEMS).astype(np.int32)[:12]
    found = source.contributor(query, rows)
    assert found.dtype == np.int32
    assert (found[5:6] == source.contributor(query, rows[5:6])).all()  # whoever else is asked about

    assert source.model is not None
    factors = source.model.factors.astype(np.float64)
    past = [query.seed_row] if query.seed_row >= 0 else query.history.tolist()
    past = [row for row in past if row < known][:6]
    weights = 0.8 ** np.arange(len(past))
    reg, reg_exp, unobserved = LOSS
    matrix = factors[past].T @ np.diag(weights) @ factors[past] + unobserved * factors.T @ factors
    matrix += reg * (weights.sum() + unobserved * known) ** reg_exp * np.eye(8)
    for row, named in zip(rows.tolist(), found.tolist(), strict=True):
        terms = factors[row] @ np.linalg.solve(matrix, factors[past].T * weights) if row < known else np.empty(0)
        if len(terms) == 0 or terms.max() <= 0:
            assert named == -1 or terms[past.index(named)] > -1e-6
        else:
            assert named >= 0 or terms.max() < 1e-6
            assert named < 0 or terms[past.index(named)] > terms.max() - 1e-6
