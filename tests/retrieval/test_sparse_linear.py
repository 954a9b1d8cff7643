"""EASE over the nearest items: ridge regressions beside it, EASE itself where all are near, and the source."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.stages import Source
from penchant.evaluation.offline import Cases, Log
from penchant.evaluation.recommenders.ease_sparse import EaseSparse
from penchant.retrieval.linear import Ease, EaseModel
from penchant.retrieval.sparse_linear import fit_sparse_ease
from penchant.testing.contracts.source import SourceContract
from penchant.testing.oracles.retrieval import ease_weights

ITEMS = 40


def clicks(seed: int = 0, people: int = 200, items: int = ITEMS, least: float = 0.02) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return (rng.random((people, items)) < np.linspace(least, 0.4, items)).astype(np.float64)


def fitted(dense: NDArray[np.float64], reg: float, neighbours: int, **given: int) -> EaseModel:
    ids = np.array([hash_id(f"i{row}") for row in range(dense.shape[1])], np.int64)
    return fit_sparse_ease(sp.csr_matrix(dense.astype(np.float32)), ids, reg, neighbours=neighbours, **given)  # type: ignore[arg-type]


def whole(model: EaseModel) -> NDArray[np.float64]:
    m = len(model.items)
    return sp.csr_matrix((model.weights, model.columns, model.offsets), shape=(m, m)).toarray().astype(np.float64)


@pytest.mark.parametrize("reg", [1.0, 50.0])
@pytest.mark.parametrize("neighbours", [1, 6])
@pytest.mark.parametrize("weighed", [False, True])
def test_a_column_is_a_ridge_regression_on_the_nearest(reg: float, neighbours: int, weighed: bool) -> None:
    dense = clicks()
    if weighed:
        dense *= np.random.default_rng(1).integers(1, 4, dense.shape)
    gram = dense.T @ dense
    near = gram / np.sqrt(np.outer(np.diag(gram) + reg, np.diag(gram) + reg))
    np.fill_diagonal(near, 0)
    found = whole(fitted(dense, reg, neighbours))
    for item in range(ITEMS):
        chosen = np.flatnonzero(found[:, item])
        assert len(chosen) == neighbours
        assert near[chosen, item].min() >= np.sort(near[:, item])[-neighbours] - 1e-6
        block = gram[np.ix_(chosen, chosen)] + reg * np.eye(neighbours)
        np.testing.assert_allclose(found[chosen, item], np.linalg.solve(block, gram[chosen, item]), atol=1e-4)


def test_it_is_ease_where_every_item_is_near() -> None:
    dense = clicks(2, people=900, least=0.15)
    assert (dense.T @ dense > 0).all()
    np.testing.assert_allclose(whole(fitted(dense, 20.0, ITEMS - 1)), ease_weights(dense, 20.0), atol=1e-4)


def test_it_comes_nearer_to_ease_with_every_neighbour() -> None:
    dense = clicks(3, people=900, least=0.15)
    full = ease_weights(dense, 20.0)
    asked = dense[:50]
    apart = [np.abs(asked @ (whole(fitted(dense, 20.0, k)) - full)).mean() for k in (2, 8, 20, 39)]
    assert apart == sorted(apart, reverse=True)


def test_the_same_bits_on_any_number_of_threads_and_progress() -> None:
    dense = clicks(4, items=150)
    told: list[tuple[int, int]] = []
    first = fitted(dense, 5.0, 10, threads=1, progress=lambda done, of: told.append((done, of)))  # type: ignore[arg-type]
    again = fitted(dense, 5.0, 10, threads=3)
    assert all(first.parts()[name].tobytes() == array.tobytes() for name, array in again.parts().items())
    assert told == [(64, 150), (128, 150), (150, 150)]


def test_what_nobody_has_and_no_items_at_all() -> None:
    dense = clicks(5)
    dense[:, 3] = 0
    found = whole(fitted(dense, 5.0, 100))
    assert not found[3].any()
    assert not found[:, 3].any()
    empty = fit_sparse_ease(sp.csr_matrix((5, 0), dtype=np.float32), np.empty(0, np.int64), 1.0)
    assert len(EaseModel.from_parts(empty.parts()).items) == 0


@pytest.mark.parametrize(("reg", "neighbours"), [(0.0, 5), (1.0, 0)])
def test_parameters_without_sense_are_refused(reg: float, neighbours: int) -> None:
    with pytest.raises(ValueError, match="above zero"):
        fitted(clicks(), reg, neighbours)


class TestSparseEase(SourceContract):
    def make(self, items: Items) -> Source:
        """The source of EASE takes it as it is."""
        known = np.array([item for item, row in items.rows.items() if row % 4], np.int64)
        known = np.append(np.random.default_rng(items.count).permutation(known), [7, 8])
        dense = clicks(items.count, people=60, items=len(known)).astype(np.float32)
        model = fit_sparse_ease(sp.csr_matrix(dense), known, 5.0, neighbours=8)
        return Ease("ease", EaseModel.from_parts(model.parts()))


def test_the_offline_model_sums_rows() -> None:
    who, what = np.nonzero(clicks(6))
    log = Log(who.astype(np.int32), what.astype(np.int32), 200, ITEMS)
    model = EaseSparse(reg=5.0, neighbours=8)
    model.fit(log)
    offsets = np.array([0, 3, 3], np.int64)
    found = model.scores(Cases(np.array([-1, -1], np.int32), np.array([1, 2, 2], np.int32), offsets))
    weights = whole(fit_sparse_ease(log.matrix(), np.arange(ITEMS), 5.0, neighbours=8))
    expected = weights[1] + weights[2]
    np.testing.assert_allclose(found[0][expected != 0], expected[expected != 0], atol=1e-6)
    assert (found[0][expected == 0] == -np.inf).all()
    assert (found[1] == -np.inf).all()
