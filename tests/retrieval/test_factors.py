"""iALS against dense normal equations in double precision, and as an artifact."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.errors import ArtifactError
from penchant.core.hashing import hash_id
from penchant.retrieval.blocks import step_rows
from penchant.retrieval.factors import FactorModel, fit_ials, fold_in, fold_in_all, shares
from penchant.retrieval.least_squares import SOLVED, solve_rows
from penchant.testing.oracles.ials import half_epoch, loss
from penchant.testing.strategies import generators

USERS, ITEMS = 120, 40
LOSS = {"reg": 0.02, "reg_exp": 0.8, "unobserved_weight": 0.15}


def data(seed: int = 0, *, weighted: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    dense = (rng.random((USERS, ITEMS)) < np.linspace(0.02, 0.4, ITEMS)).astype(np.float64)
    dense[:, 5] = 0  # an item that nobody took
    if weighted:
        dense *= rng.integers(1, 5, dense.shape) / 2
    return dense, np.array([hash_id(f"i{row}") for row in range(ITEMS)], np.int64)


def fitted(seed: int = 0, **told: Any) -> FactorModel:
    dense, items = data(seed)
    return fit_ials(sp.csr_matrix(dense.astype(np.float32)), items, **{"dim": 10, "epochs": 3, **LOSS, **told})


def side(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = sp.csr_matrix(dense.astype(np.float32))
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data


def turned(others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A side with orthogonal columns, and their squared lengths."""
    _, basis = np.linalg.eigh(others.T @ others)
    wide = others @ basis
    return wide.astype(np.float32), (wide**2).sum(axis=0).astype(np.float32)


@settings(deadline=None, max_examples=50)
@given(rng=generators(), dim=st.integers(1, 21), count=st.integers(0, 9), unobserved=st.sampled_from([0.0, 0.1, 2.0]))
def test_half_an_epoch_equals_the_oracle(rng: np.random.Generator, dim: int, count: int, unobserved: float) -> None:
    m = int(rng.integers(1, 30))
    dense = (rng.random((count, m)) < rng.random((count, 1))) * rng.integers(1, 4, (count, m)) / 2
    others, spectrum = turned(rng.standard_normal((m, dim)))
    rows = rng.standard_normal((count, dim)).astype(np.float32)  # of no account
    regs = (0.3 * (dense.sum(axis=1) + unobserved * m) ** 0.7 + 0.01).astype(np.float32)
    assert solve_rows(rows, others, spectrum, unobserved, *side(dense), regs, 0, count) == SOLVED
    exact = others.astype(np.float64)
    for row in range(count):
        expected = half_epoch(dense[row : row + 1], exact, float(regs[row]), 0.0, unobserved)[0]
        np.testing.assert_allclose(rows[row], expected, atol=1e-4, rtol=1e-3)


@settings(deadline=None, max_examples=50)
@given(rng=generators(), dim=st.integers(1, 21), block=st.integers(1, 25))
def test_a_block_step_is_newtons(rng: np.random.Generator, dim: int, block: int) -> None:
    m, unobserved = 15, 0.2
    own = (rng.random(m) < 0.4) * rng.integers(1, 4, m) / 2
    others = rng.standard_normal((m, dim)).astype(np.float32)
    start = rng.standard_normal((1, dim)).astype(np.float32)
    rows = start.copy()
    regs = np.array([0.5], np.float32)
    step_rows(rows, others, others.T @ others, unobserved, *side(own[None]), regs, block, 0, 1)

    wide = others.astype(np.float64)
    hessian = wide.T @ np.diag(own + unobserved) @ wide + 0.5 * np.eye(dim)
    x = start[0].astype(np.float64)
    if not own.any():
        x[:] = 0
    for low in range(0, dim, block):
        part = slice(low, low + block)
        x[part] -= np.linalg.solve(hessian[part, part], (hessian @ x - wide.T @ own)[part])
    np.testing.assert_allclose(rows[0], x, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_an_epoch_equals_the_oracle(weighted: bool) -> None:
    dense, items = data(1, weighted=weighted)
    matrix = sp.csr_matrix(dense.astype(np.float32))
    model = fit_ials(matrix, items, dim=10, epochs=1, **LOSS)
    rng = np.random.default_rng(0)
    rng.standard_normal((USERS, 10), np.float32)
    drawn = rng.standard_normal((ITEMS, 10), np.float32) * np.float32(0.1 / np.sqrt(10))
    args = (LOSS["reg"], LOSS["reg_exp"], LOSS["unobserved_weight"])
    users = half_epoch(dense, drawn.astype(np.float64), *args)
    expected = half_epoch(dense.T, users, *args)
    # Turned, so that only products can be compared.
    np.testing.assert_allclose(model.factors @ model.factors.T, expected @ expected.T, atol=1e-4)
    assert (model.factors[5] == 0).all()
    gram = model.factors.T @ model.factors
    np.testing.assert_allclose(gram, np.diag(model.spectrum), atol=1e-5 * model.spectrum.max())


def test_every_epoch_lowers_the_loss_and_blocks_come_to_the_same() -> None:
    dense, _ = data()
    args = (LOSS["reg"], LOSS["reg_exp"], LOSS["unobserved_weight"])
    reached = []
    for block in (3, 10, None):
        told = []
        for epochs in (1, 2, 4, 8, 60):
            factors = fitted(epochs=epochs, block=block).factors.astype(np.float64)
            told.append(loss(dense, half_epoch(dense, factors, *args), factors, *args))
        assert told == sorted(told, reverse=True)
        reached.append(told[-1])
    assert reached == pytest.approx([reached[-1]] * 3, rel=0.01)


def test_the_same_bits_by_seed_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    matrix = sp.random(1_500, 700, 0.01, "csr", np.float32, rng)
    names = np.arange(700, dtype=np.int64)
    for block in (None, 4):
        one = fit_ials(matrix, names, dim=9, epochs=2, block=block, threads=1)
        many = fit_ials(matrix, names, dim=9, epochs=2, block=block, threads=3)
        assert one.factors.tobytes() == many.factors.tobytes()
        other = fit_ials(matrix, names, dim=9, epochs=2, block=block, seed=1)
        assert one.factors.tobytes() != other.factors.tobytes()
    offsets, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    people = fold_in_all(one, columns, offsets, threads=3)
    assert people.tobytes() == fold_in_all(one, columns, offsets, threads=1).tobytes()
    assert people[7].tobytes() == fold_in(one, columns[offsets[7] : offsets[8]]).tobytes()


@settings(deadline=None, max_examples=25)
@given(rng=generators(), length=st.integers(0, 30), weighted=st.booleans())
def test_a_person_is_folded_in(rng: np.random.Generator, length: int, weighted: bool) -> None:
    model = fitted()
    past = rng.choice(ITEMS, length, replace=False).astype(np.int32)
    weights = (rng.random(length) + 0.1).astype(np.float32) if weighted else None
    own = np.zeros(ITEMS)
    own[past] = 1.0 if weights is None else weights
    args = (LOSS["reg"], LOSS["reg_exp"], LOSS["unobserved_weight"])
    expected = half_epoch(own[None], model.factors.astype(np.float64), *args)[0]
    found = fold_in(model, past, weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    given_by = shares(model, past, weights)
    assert given_by.shape == (length, 10)
    np.testing.assert_allclose(given_by.sum(axis=0), expected, atol=1e-4)


def test_who_took_nothing_is_at_zero() -> None:
    assert (fold_in(fitted(), np.empty(0, np.int32)) == 0).all()
    people = fold_in_all(fitted(), np.empty(0, np.int32), np.zeros(4, np.int64))
    assert people.shape == (3, 10)
    assert (people == 0).all()


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    fitted(epochs=2, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("told", [{"dim": 0}, {"reg": 0.0}, {"unobserved_weight": -1.0}, {"block": 0}, {"epochs": 0}])
def test_what_makes_no_sense_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be above zero"):
        fitted(**told)


def test_a_matrix_that_rounding_spoils_is_an_error_in_training_and_nothing_in_a_request() -> None:
    dense = np.ones((30, 30), np.float32)
    names = np.arange(30, dtype=np.int64)
    for block in (None, 6):
        with pytest.raises(ValueError, match="raise reg"):
            fit_ials(sp.csr_matrix(dense), names, dim=12, reg=1e-30, unobserved_weight=0.0, block=block)
    flat = np.ones((9, 8), np.float32)
    spoilt = FactorModel(np.arange(9), flat, np.zeros(8, np.float32), 1e-30, 1.0, 0.0)
    past = np.arange(9, dtype=np.int32)
    assert (fold_in(spoilt, past) == 0).all()
    assert (shares(spoilt, past) == 0).all()


def test_parts_survive_a_file() -> None:
    model = fitted()
    file = io.BytesIO()
    np.savez(file, **model.parts())
    file.seek(0)
    with np.load(file, allow_pickle=False) as parts:
        back = FactorModel.from_parts(parts)
    assert back.parts().keys() == model.parts().keys()
    for name, array in model.parts().items():
        assert back.parts()[name].tobytes() == array.tobytes()
    assert (back.reg, back.reg_exp, back.unobserved_weight) == (0.02, 0.8, 0.15)


def test_damaged_parts_are_refused() -> None:
    full = fitted().parts()
    spoilt = [
        {"items": full["items"]},
        {**full, "factors": full["factors"][:-1]},
        {**full, "factors": full["factors"].astype(np.float64)},
        {**full, "factors": full["factors"] * np.nan},
        {**full, "factors": full["factors"][:, :0], "spectrum": full["spectrum"][:0]},
        {**full, "items": np.zeros_like(full["items"])},
        {**full, "spectrum": full["spectrum"][:-1]},
        {**full, "spectrum": full["spectrum"] * np.nan},
        {**full, "spectrum": full["spectrum"] * np.float32(2)},
        {**full, "loss": full["loss"][:2]},
        {**full, "loss": full["loss"] * np.nan},
        {**full, "loss": -full["loss"]},
    ]
    for parts in spoilt:
        with pytest.raises(ArtifactError):
            FactorModel.from_parts(parts)


def test_no_items_and_no_users_are_models_too() -> None:
    for shape in ((5, 0), (0, 5)):
        model = fit_ials(sp.csr_matrix(shape, dtype=np.float32), np.arange(shape[1], dtype=np.int64), dim=4)
        assert (FactorModel.from_parts(model.parts()).factors == 0).all()
