"""Graph filters: plain loops beside them, the contract, the live history, and as an artifact."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from numpy.typing import NDArray

from penchant.core.errors import ArtifactError
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.stages import Contributing, RowScorer, Source
from penchant.retrieval import graph_filter
from penchant.retrieval.graph_filter import GraphFilter, GraphFilterModel, fit_graph_filter
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import generators, make_items, make_query

ITEMS = 40


def clicks(seed: int = 0, people: int = 90, items: int = ITEMS) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return (rng.random((people, items)) < np.linspace(0.02, 0.4, items)).astype(np.float64)


def names(count: int = ITEMS) -> NDArray[np.int64]:
    return np.array([hash_id(f"i{row}") for row in range(count)], np.int64)


def fitted(dense: NDArray[np.float64], **given: float) -> GraphFilterModel:
    options = {"keep": 100, "rank": 6, "rounds": 30} | given
    return fit_graph_filter(sp.csr_matrix(dense.astype(np.float32)), names(dense.shape[1]), **options)  # type: ignore[arg-type]


def sparse_part(model: GraphFilterModel) -> NDArray[np.float64]:
    m = len(model.items)
    return sp.csr_matrix((model.weights, model.columns, model.offsets), shape=(m, m)).toarray().astype(np.float64)


def whole(model: GraphFilterModel) -> NDArray[np.float64]:
    factors, low = model.factors.astype(np.float64), model.low.astype(np.float64)
    return sparse_part(model) + low[:, None] * (factors @ factors.T) / low[None, :]


def neighbours(
    dense: NDArray[np.float64], person: float, asked: float, answered: float, power: float
) -> NDArray[np.float64]:
    """The sparse part, pair after pair."""
    n, d = dense.sum(axis=1), dense.sum(axis=0)
    found = np.zeros((dense.shape[1],) * 2)
    for i in range(len(found)):
        for j in range(len(found)):
            both = sum(x[i] * x[j] / n[u] ** person for u, x in enumerate(dense) if x[i] * x[j])
            if i != j and both:
                found[i, j] = (both / (d[i] ** asked * d[j] ** answered)) ** power
    return found


@pytest.mark.parametrize(("person", "asked", "answered", "power"), [(1, 0.5, 0.5, 1), (0.6, 0.3, 0.7, 0.5)])
@pytest.mark.parametrize("cells", [1, 300, 8_000_000])
def test_weights_are_a_power_of_a_sum_over_people(
    person: float, asked: float, answered: float, power: float, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_filter, "_CELLS", cells)
    dense = clicks()
    model = fitted(dense, person=person, asked=asked, answered=answered, power=power)
    np.testing.assert_allclose(sparse_part(model), neighbours(dense, person, asked, answered, power), rtol=1e-5)
    cut = fitted(dense, person=person, asked=asked, answered=answered, power=power, keep=7)
    assert np.diff(cut.offsets).max() == 7
    for row, (few, all_) in enumerate(zip(sparse_part(cut), sparse_part(model), strict=True)):
        assert set(np.flatnonzero(few)) <= set(np.argsort(-all_, kind="stable")[:7])
        columns = cut.columns[cut.offsets[row] : cut.offsets[row + 1]]
        assert (np.diff(columns) > 0).all()


@pytest.mark.parametrize("low_exp", [0.0, 0.5])
def test_the_ideal_part_is_the_first_singular_vectors(low_exp: float) -> None:
    dense = clicks(1)
    model = fitted(dense, person=1.0, low_weight=0.3, low_exp=low_exp)
    d = dense.sum(axis=0)
    _, _, right = np.linalg.svd(dense / np.sqrt(np.maximum(dense.sum(axis=1), 1))[:, None] / np.sqrt(d))
    expected = 0.3 * (right[:6].T @ right[:6]) * d[:, None] ** -low_exp * d[None, :] ** low_exp
    np.testing.assert_allclose(whole(model) - sparse_part(model), expected, atol=2e-4)
    assert fitted(dense, low_weight=0.0).factors.shape == (ITEMS, 0)
    assert fitted(dense, rank=10_000).factors.shape == (ITEMS, ITEMS)


def test_people_and_items_with_nothing_do_no_harm() -> None:
    dense = clicks(2)
    dense[:, 5] = 0
    dense[3] = 0
    model = fitted(dense)
    assert not whole(model)[5].any()
    assert not whole(model)[:, 5].any()
    assert GraphFilterModel.from_parts(model.parts()).items.tobytes() == model.items.tobytes()
    empty = fit_graph_filter(sp.csr_matrix((4, 0), dtype=np.float32), np.empty(0, np.int64))
    assert len(GraphFilterModel.from_parts(empty.parts()).items) == 0


def test_the_same_bits_twice() -> None:
    first, again = fitted(clicks(3)), fitted(clicks(3))
    assert all(first.parts()[name].tobytes() == array.tobytes() for name, array in again.parts().items())


@pytest.mark.parametrize("bad", [{"keep": 0}, {"rank": -1}, {"power": 0.0}, {"low_weight": -1.0}, {"rounds": 0}])
def test_parameters_without_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above zero"):
        fitted(clicks(), **bad)


def model_of(items: Items, **given: float) -> GraphFilterModel:
    """A model of three quarters of the items, and of two that the picture does not have."""
    known = np.array([item for item, row in items.rows.items() if row % 4], np.int64)
    known = np.append(np.random.default_rng(items.count).permutation(known), [7, 8])
    dense = clicks(items.count, items=len(known))
    return dataclasses.replace(fitted(dense, **given), items=known)


class TestGraphFilter(SourceContract):
    def make(self, items: Items) -> Source:
        return GraphFilter("graph", model_of(items))


class TestGraphFilterOfNeighboursAlone(SourceContract):
    def make(self, items: Items) -> Source:
        return GraphFilter("graph", model_of(items, rank=0, keep=5), decay=1.0)


class TestGraphFilterWithoutModel(SourceContract):
    def make(self, items: Items) -> Source:
        return GraphFilter("graph")


def test_live_history_is_folded_in() -> None:
    source = GraphFilter("graph", fitted(clicks(4)), decay=0.5, depth=3)
    assert source.model is not None
    picture = make_items(ITEMS + 2, sources=[source])
    query = make_query(picture, history=[3, ITEMS + 1, 17, 5, 9])  # one that the model does not know, one too many
    expected = np.array([1.0, 0.5, 0.25]) @ whole(source.model)[[3, 17, 5]]
    scores = source.score_rows(query, np.arange(ITEMS + 2, dtype=np.int32))
    np.testing.assert_allclose(scores[:ITEMS], expected, atol=5e-5)
    assert np.isnan(scores[ITEMS:]).all()
    rows, _ = source.retrieve(query, 100)
    assert set(np.flatnonzero(expected > 1e-4)) <= set(rows)
    assert set(rows) <= set(np.flatnonzero(expected > -1e-4))


@given(generators())
@settings(max_examples=25, deadline=None)
def test_who_contributed_most_is_the_largest_term(rng: np.random.Generator) -> None:
    source = GraphFilter("graph", fitted(clicks(5)), decay=0.7)
    assert isinstance(source, Contributing)
    assert isinstance(source, RowScorer)
    assert source.model is not None
    picture = make_items(ITEMS + 1, sources=[source])
    history = rng.permutation(ITEMS + 1)[: rng.integers(1, 9)]
    query = make_query(picture, history=history.tolist())
    past = [row for row in history if row < ITEMS]
    terms = np.power(0.7, np.arange(len(past)))[:, None] * whole(source.model)[past]
    rows = np.arange(ITEMS + 1, dtype=np.int32)
    found = source.contributor(query, rows)
    assert found[ITEMS] == -1
    for row in range(ITEMS):
        best = terms[:, row].max(initial=0.0)
        if found[row] < 0:
            assert best < 1e-5
        else:
            assert terms[past.index(found[row]), row] > best - 1e-5


@pytest.mark.parametrize("rank", [0, 6])
def test_parts_survive_a_file(rank: int) -> None:
    model = fitted(clicks(), rank=rank)
    file = io.BytesIO()
    np.savez(file, **model.parts())  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as parts:
        back = GraphFilterModel.from_parts(parts)
    for name, array in model.parts().items():
        assert back.parts()[name].tobytes() == array.tobytes()


def test_damaged_parts_are_refused() -> None:
    full = fitted(clicks()).parts()
    spoilt = [
        {"items": full["items"]},
        {**full, "items": np.zeros_like(full["items"])},
        {**full, "weights": full["weights"][:-1]},
        {**full, "weights": -full["weights"]},
        {**full, "weights": full["weights"] * np.nan},
        {**full, "columns": full["columns"] + 1_000},
        {**full, "columns": full["columns"].astype(np.int64)},
        {**full, "offsets": full["offsets"][::-1].copy()},
        {**full, "offsets": full["offsets"][:-1]},
        {**full, "factors": full["factors"][:-1]},
        {**full, "low": full["low"] * 0},
        {**full, "low": full["low"][:-1]},
    ]
    for parts in spoilt:
        with pytest.raises(ArtifactError):
            GraphFilterModel.from_parts(parts)
