"""EASE against double precision, and as an artifact."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.sparse as sp

from penchant.core.errors import ArtifactError
from penchant.core.hashing import hash_id
from penchant.retrieval.linear import Ease, EaseModel, fit_ease
from penchant.testing.oracles.retrieval import ease_weights
from penchant.testing.strategies import make_items, make_query

ITEMS = 40


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    dense = (rng.random((200, ITEMS)) < np.linspace(0.02, 0.4, ITEMS)).astype(np.float64)
    return dense, np.array([hash_id(f"i{row}") for row in range(ITEMS)], np.int64)


@pytest.mark.parametrize("reg", [1.0, 50.0])
def test_weights_equal_the_oracle(reg: float) -> None:
    dense, items = data()
    model = fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, reg)
    np.testing.assert_allclose(model.weights, ease_weights(dense, reg), atol=2e-5)
    assert model.weights.flags.c_contiguous


def test_pruned_rows_keep_the_strongest() -> None:
    dense, items = data()
    model = fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0, dense_limit=5, keep=7)
    full = ease_weights(dense, 10.0)
    assert model.offsets is not None
    assert model.columns is not None
    for row in range(ITEMS):
        columns = model.columns[model.offsets[row] : model.offsets[row + 1]]
        assert set(columns) == set(np.argsort(-np.abs(full[row]))[:7])
        assert (np.diff(columns) > 0).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_live_history_is_folded_in(sparse: bool) -> None:
    dense, items = data(1)
    keep = ITEMS - 1 if sparse else ITEMS  # as good as everything
    model = fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0, dense_limit=1 if sparse else 99, keep=keep)
    source = Ease("ease", model, decay=0.5)
    picture = make_items(ITEMS + 2, sources=[source])
    history = [3, ITEMS + 1, 17, 5]  # one that the model does not know
    query = make_query(picture, history=history)
    past = np.zeros(ITEMS)
    past[[3, 17, 5]] = [1.0, 0.5, 0.25]
    expected = past @ ease_weights(dense, 10.0)

    scores = source.score_rows(query, np.arange(ITEMS + 2, dtype=np.int32))
    np.testing.assert_allclose(scores[:ITEMS], expected, atol=5e-5)
    assert np.isnan(scores[ITEMS:]).all()
    rows, _ = source.retrieve(query, 100)
    assert set(rows) == set(np.flatnonzero(expected > 0))


def test_a_seed_takes_the_place_of_history() -> None:
    dense, items = data(2)
    source = Ease("ease", fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0))
    picture = make_items(ITEMS, sources=[source])
    seeded = source.retrieve(make_query(picture, history=[1, 2], seed_row=9), 10)
    assert seeded.rows.tolist() == source.retrieve(make_query(picture, history=[9]), 11).rows.tolist()[:10]


def test_new_items_enter_the_mapping() -> None:
    dense, items = data(3)
    source = Ease("ease", fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0))
    small, large = make_items(10), make_items(ITEMS)
    assert source.prepare(small).of_row.shape == (10,)
    assert (source.prepare(large).of_row == np.arange(ITEMS)).all()
    assert source.prepare(large) is source.prepare(large)


@pytest.mark.parametrize("dense_limit", [5, 99])
def test_parts_survive_a_file(dense_limit: int) -> None:
    dense, items = data()
    model = fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0, dense_limit=dense_limit, keep=6)
    file = io.BytesIO()
    np.savez(file, **model.parts())
    file.seek(0)
    with np.load(file, allow_pickle=False) as parts:
        back = EaseModel.from_parts(parts)
    assert back.parts().keys() == model.parts().keys()
    for name, array in model.parts().items():
        assert back.parts()[name].tobytes() == array.tobytes()


def test_damaged_parts_are_refused() -> None:
    dense, items = data()
    full = fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0).parts()
    pruned = fit_ease(sp.csr_matrix(dense.astype(np.float32)), items, 10.0, dense_limit=1, keep=6).parts()
    spoilt = [
        {"items": full["items"]},
        {**full, "weights": full["weights"][:-1]},
        {**full, "weights": full["weights"].astype(np.float64)},
        {**full, "weights": full["weights"] * np.nan},
        {**full, "items": np.zeros_like(full["items"])},
        {**full, "offsets": pruned["offsets"]},
        {**pruned, "columns": pruned["columns"] + 1_000},
        {**pruned, "columns": pruned["columns"][:-1]},
        {**pruned, "offsets": pruned["offsets"][::-1].copy()},
    ]
    for parts in spoilt:
        with pytest.raises(ArtifactError):
            EaseModel.from_parts(parts)


def test_no_items_is_a_model_too() -> None:
    model = fit_ease(sp.csr_matrix((5, 0), dtype=np.float32), np.empty(0, np.int64), 1.0)
    assert len(EaseModel.from_parts(model.parts()).items) == 0
