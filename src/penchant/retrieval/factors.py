"""iALS: vectors of items such that a person's vector is a least-squares solution of their history."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ArtifactError
from penchant.retrieval.blocks import step_rows
from penchant.retrieval.least_squares import SOLVED, solve_rows, solve_shares

_ROWS = 512
"""How many rows a thread takes at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class FactorModel:
    """Item factors, and all that is needed to solve the factors of a person from the items of their history.

    A person with history `h`, of weights `c`, has the vector `x` of least
    `Σ c·(x·h - 1)² + unobserved_weight·Σ spectrum·x² + λ·|x|²`, `λ = reg·(Σ c + unobserved_weight·m)^reg_exp`.
    """

    items: NDArray[np.int64]
    """`hash_id` of each item, int64[m]."""
    factors: NDArray[np.float32]
    """float32[m, d]; turned so that columns are orthogonal. Zero for an item that nobody took."""
    spectrum: NDArray[np.float32]
    """The squared lengths of the columns, float32[d]: the diagonal of `factorsᵀ·factors`, which is zero elsewhere."""
    reg: float
    reg_exp: float
    unobserved_weight: float

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays of the model, to be kept in one NPZ file."""
        loss = np.array([self.reg, self.reg_exp, self.unobserved_weight], np.float64)
        return {"items": self.items, "factors": self.factors, "spectrum": self.spectrum, "loss": loss}

    @classmethod
    def from_parts(cls, parts: Mapping[str, NDArray[Any]]) -> FactorModel:
        """The model that `parts` gave; raises `ArtifactError` where the arrays do not fit together."""
        try:
            items, factors, spectrum, loss = (parts[name] for name in ("items", "factors", "spectrum", "loss"))
        except KeyError as error:
            raise ArtifactError(f"the iALS model lacks the array {error}") from None
        m = len(items)
        sound = items.ndim == 1 and items.dtype == np.int64 and len(np.unique(items)) == m
        sound = sound and factors.dtype == spectrum.dtype == np.float32 and factors.ndim == 2 and len(factors) == m
        sound = sound and spectrum.shape == (factors.shape[1],) and len(spectrum) > 0
        sound = sound and loss.shape == (3,) and loss.dtype == np.float64 and bool(np.isfinite(loss).all())
        sound = sound and loss[0] > 0 and loss[2] >= 0
        sound = sound and bool(np.isfinite(factors).all()) and bool(np.isfinite(spectrum).all())
        sound = sound and bool((np.abs(factors.T @ factors - np.diag(spectrum)) <= 1e-3 * spectrum.max()).all())
        if not sound:
            raise ArtifactError("the arrays of the iALS model do not fit together; train it again")
        reg, reg_exp, unobserved_weight = loss.tolist()
        return cls(
            np.ascontiguousarray(items),
            np.ascontiguousarray(factors),
            np.ascontiguousarray(spectrum),
            reg,
            reg_exp,
            unobserved_weight,
        )


def fold_in(
    model: FactorModel, indices: NDArray[np.int32], weights: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The vector of a person who took the items at `indices`, float32[d]; `weights` (all 1) say how surely."""
    offsets = np.array([0, len(indices)], np.int64)
    found: NDArray[np.float32] = fold_in_all(model, indices, offsets, weights, threads=1)[0]
    return found


def fold_in_all(
    model: FactorModel,
    indices: NDArray[np.int32],
    offsets: NDArray[np.int64],
    weights: NDArray[np.float32] | None = None,
    *,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """As `fold_in`, for many at once: person `u` took `indices[offsets[u]:offsets[u + 1]]`; float32[people, d].

    The same bits on any number of `threads` (all processors). Who took nothing is at zero.
    """
    if weights is None:
        weights = np.ones(len(indices), np.float32)
    rows = np.zeros((len(offsets) - 1, model.factors.shape[1]), np.float32)
    regs = _regs(model.reg, model.reg_exp, _mass(weights, offsets), model.unobserved_weight * len(model.items))

    def part(begin: int, end: int) -> int:
        # A row that rounding has spoilt stays at zero: no proposals, rather than a failed request.
        return solve_rows(
            rows,
            model.factors,
            model.spectrum,
            model.unobserved_weight,
            offsets,
            indices,
            weights,
            regs,
            begin,
            end,
        )

    _shared(part, len(rows), threads)
    return rows


def shares(
    model: FactorModel, indices: NDArray[np.int32], weights: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """What each item of a history gives to the vector of `fold_in`, float32[items, d]: they add up to it."""
    if weights is None:
        weights = np.ones(len(indices), np.float32)
    mass = _mass(weights, np.array([0, len(indices)], np.int64))
    reg = _regs(model.reg, model.reg_exp, mass, model.unobserved_weight * len(model.items))[0]
    return solve_shares(model.factors, model.spectrum, model.unobserved_weight, indices, weights, reg)


def fit_ials(
    interactions: Any,
    items: NDArray[np.int64],
    *,
    dim: int = 64,
    reg: float = 0.003,
    reg_exp: float = 1.0,
    unobserved_weight: float = 0.1,
    epochs: int = 16,
    seed: int = 0,
    stddev: float = 0.1,
    block: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FactorModel:
    """Fit implicit alternating least squares (Hu et al. 2008) as revisited by Rendle et al. (2022).

    `interactions` is a scipy CSR matrix, users × items, of weights above zero (1: it happened); `items` names its
    columns by `hash_id`. `reg` is scaled by how often a row occurs to the power of `reg_exp`. Factors start at a normal
    distribution of `stddev / √dim`, drawn by `seed`; an epoch solves all users, then all items: exactly, or in one pass
    over `block` coordinates at a time (iALS++). The same bits on any number of `threads` (all processors). `progress`
    hears of epochs done and in all. Raises `ValueError` where `reg` is too small for float32.
    """
    if min(dim, reg, epochs, block or 1) <= 0 or block == 0 or unobserved_weight < 0:
        raise ValueError("dim, reg, epochs and block must be above zero, and unobserved_weight not below it")
    by_user = _side(interactions.tocsr())
    by_item = _side(interactions.T.tocsr())
    n, m = interactions.shape
    rng = np.random.default_rng(seed)
    users = (rng.standard_normal((n, dim), np.float32) * np.float32(stddev / np.sqrt(dim))).astype(np.float32)
    factors = (rng.standard_normal((m, dim), np.float32) * np.float32(stddev / np.sqrt(dim))).astype(np.float32)
    user_regs = _regs(reg, reg_exp, _mass(by_user[2], by_user[0]), unobserved_weight * m)
    item_regs = _regs(reg, reg_exp, _mass(by_item[2], by_item[0]), unobserved_weight * n)
    for epoch in range(epochs):
        for rows, others, side, regs in (
            (users, factors, by_user, user_regs),
            (factors, users, by_item, item_regs),
        ):
            if not _half(rows, others, unobserved_weight, side, regs, block, threads):
                raise ValueError(f"the normal equations are not positive definite in float32; raise reg (is {reg})")
        if progress is not None:
            progress(epoch + 1, epochs)
    return FactorModel(items, factors, _turn(factors), reg, reg_exp, unobserved_weight)


_Side = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Offsets, columns and weights of the rows of one side."""


def _side(matrix: Any) -> _Side:
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32)


def _mass(weights: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of the weights of each row, float64[rows]."""
    sums = np.concatenate(([0.0], np.cumsum(weights, dtype=np.float64)))
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]], np.float64)


def _regs(reg: float, reg_exp: float, mass: NDArray[np.float64], unobserved: float) -> NDArray[np.float32]:
    """The regularisation of each row, scaled by what it holds: float32[rows]."""
    return np.asarray(reg * (mass + unobserved) ** reg_exp, np.float32)


def _turn(factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a side in place, so that its columns are orthogonal; gives their squared lengths, float32[d].

    No product with a side that is solved against it afterwards changes: that side comes out turned likewise.
    """
    _, basis = np.linalg.eigh((factors.T @ factors).astype(np.float64))
    factors[:] = factors @ basis.astype(np.float32)
    return np.asarray(np.einsum("ij,ij->j", factors, factors, dtype=np.float64), np.float32)


def _half(
    rows: NDArray[np.float32],
    others: NDArray[np.float32],
    unobserved: float,
    side: _Side,
    regs: NDArray[np.float32],
    block: int | None,
    threads: int | None,
) -> bool:
    """One pass over all rows of a side; False when a row could not be solved."""
    if block is None:
        spectrum = _turn(others)
        return _shared(
            lambda begin, end: solve_rows(rows, others, spectrum, unobserved, *side, regs, begin, end),
            len(rows),
            threads,
        )
    gram = others.T @ others
    return _shared(
        lambda begin, end: step_rows(rows, others, gram, unobserved, *side, regs, block, begin, end),
        len(rows),
        threads,
    )


def _shared(part: Callable[[int, int], int], rows: int, threads: int | None) -> bool:
    """Do a part of the rows after the other, shared among threads; False when one could not be solved."""
    begins = range(0, rows, _ROWS)
    threads = min(threads or os.cpu_count() or 1, len(begins))
    if threads <= 1:
        return all([part(begin, min(begin + _ROWS, rows)) == SOLVED for begin in begins])
    with ThreadPoolExecutor(threads) as pool:
        return all([told == SOLVED for told in pool.map(lambda begin: part(begin, min(begin + _ROWS, rows)), begins)])
