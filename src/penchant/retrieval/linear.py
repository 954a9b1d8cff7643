"""EASE: a linear model between items, fitted in closed form and applied to the live history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.errors import ArtifactError
from penchant.retrieval.history import FromHistory, Visits


@dataclass(frozen=True, slots=True, eq=False)
class EaseModel:
    """Weights from item to item: row `i` is what one visit to item `i` adds to every item's score.

    Dense: `weights` is float32[m, m] and `offsets` is None. Sparse: row `i` holds `weights[offsets[i]:offsets[i + 1]]`
    at the columns `columns[...]`, ascending.
    """

    items: NDArray[np.int64]
    """`hash_id` of each item, int64[m]."""
    weights: NDArray[np.float32]
    offsets: NDArray[np.int64] | None = None
    columns: NDArray[np.int32] | None = None

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays of the model, to be kept in one NPZ file."""
        parts: dict[str, NDArray[Any]] = {"items": self.items, "weights": self.weights}
        if self.offsets is not None and self.columns is not None:
            parts |= {"offsets": self.offsets, "columns": self.columns}
        return parts

    @classmethod
    def from_parts(cls, parts: Mapping[str, NDArray[Any]]) -> EaseModel:
        """The model that `parts` gave; raises `ArtifactError` where the arrays do not fit together."""
        try:
            items, weights = parts["items"], parts["weights"]
        except KeyError as error:
            raise ArtifactError(f"the EASE model lacks the array {error}") from None
        offsets = parts.get("offsets")
        columns = parts.get("columns")
        m = len(items)
        sound = items.ndim == 1 and items.dtype == np.int64 and weights.dtype == np.float32
        sound = sound and bool(np.isfinite(weights).all()) and len(np.unique(items)) == m
        if offsets is None or columns is None:
            sound = sound and offsets is None and columns is None and weights.shape == (m, m)
        else:
            sound = sound and offsets.dtype == np.int64 and columns.dtype == np.int32
            sound = sound and offsets.shape == (m + 1,) and columns.shape == weights.shape == (int(offsets[-1]),)
            sound = sound and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
            sound = sound and bool(((columns >= 0) & (columns < m)).all())
        if not sound:
            raise ArtifactError("the arrays of the EASE model do not fit together; train it again")
        return cls(
            np.ascontiguousarray(items),
            np.ascontiguousarray(weights),
            None if offsets is None else np.ascontiguousarray(offsets),
            None if columns is None else np.ascontiguousarray(columns),
        )


def fit_ease(
    interactions: Any, items: NDArray[np.int64], reg: float, *, dense_limit: int = 5_000, keep: int = 256
) -> EaseModel:
    """Fit EASE (Steck 2019): `B = I - P / diag(P)` with `P = (XᵀX + reg·I)⁻¹`, by a float32 Cholesky inverse.

    `interactions` is a scipy CSR matrix, users × items; `items` names its columns by `hash_id`. Above `dense_limit`
    items only the `keep` weights of largest magnitude of each row stay (ties: lower column). Needs `8·m²` bytes.
    """
    from scipy.linalg import lapack  # a server never fits: it need not wait for this at its start

    gram = np.asfortranarray((interactions.T @ interactions).toarray(), np.float32)
    m = len(gram)
    if m == 0:
        return EaseModel(items, np.empty((0, 0), np.float32))
    gram[np.diag_indices(m)] += np.float32(reg)
    factor, failed = lapack.spotrf(gram, lower=1, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(f"the matrix of co-occurrences is not positive definite; raise reg (is {reg})")
    _mirror(inverse)
    weights = inverse.T  # symmetric, and now row-major
    scale = -1.0 / np.diag(weights)
    weights *= scale[None, :]
    weights[np.diag_indices(m)] = 0.0
    if m <= dense_limit or m <= keep:
        return EaseModel(items, weights)
    columns = np.empty((m, keep), np.int32)
    for row in range(m):
        columns[row] = np.sort(np.argsort(-np.abs(weights[row]), kind="stable")[:keep])
    kept = np.take_along_axis(weights, columns.astype(np.int64), axis=1)
    return EaseModel(items, kept.ravel(), keep * np.arange(m + 1, dtype=np.int64), columns.ravel())


@kernel
def _mirror(matrix: NDArray[np.float32]) -> None:
    """Copy the lower triangle to the upper one."""
    for column in range(len(matrix)):
        for row in range(column + 1, len(matrix)):
            matrix[column, row] = matrix[row, column]


@dataclass(frozen=True, slots=True)
class Ease(FromHistory[EaseModel]):
    """Scores by EASE from the live history: `score = Σ_k decay^k · B[i_k]` over the newest `depth` items."""

    def _score(self, model: EaseModel, past: Visits) -> NDArray[np.float32]:
        if model.offsets is None or model.columns is None:
            return _fold_in_dense(model.weights, past.items, self.decay)
        return _fold_in_sparse(model.offsets, model.columns, model.weights, past.items, self.decay)

    def _largest(self, model: EaseModel, past: Visits, wanted: NDArray[np.int32]) -> NDArray[np.int32]:
        if model.offsets is None or model.columns is None:
            return _largest_dense(model.weights, past.items, self.decay, wanted)
        return _largest_sparse(model.offsets, model.columns, model.weights, past.items, self.decay, wanted)


@kernel
def _fold_in_dense(weights: NDArray[np.float32], past: NDArray[np.int32], decay: float) -> NDArray[np.float32]:
    scores = np.zeros(weights.shape[1], np.float32)
    weight = 1.0
    for index in past:
        share = np.float32(weight)
        row = weights[index]
        for at in range(len(scores)):
            scores[at] += share * row[at]
        weight *= decay
    return scores


@kernel
def _fold_in_sparse(
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    past: NDArray[np.int32],
    decay: float,
) -> NDArray[np.float32]:
    scores = np.zeros(len(offsets) - 1, np.float32)
    weight = 1.0
    for index in past:
        share = np.float32(weight)
        for at in range(offsets[index], offsets[index + 1]):
            scores[columns[at]] += share * weights[at]
        weight *= decay
    return scores


@kernel
def _largest_dense(
    weights: NDArray[np.float32], past: NDArray[np.int32], decay: float, wanted: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Per wanted index the place in `past` of the largest term above zero, -1 for none; ties go to the newest."""
    found = np.full(len(wanted), -1, np.int32)
    best = np.zeros(len(wanted), np.float32)
    weight = 1.0
    for place in range(len(past)):
        share = np.float32(weight)
        row = weights[past[place]]
        for at in range(len(wanted)):
            if wanted[at] >= 0:
                term = share * row[wanted[at]]
                if term > best[at]:
                    best[at] = term
                    found[at] = place
        weight *= decay
    return found


@kernel
def _largest_sparse(
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    past: NDArray[np.int32],
    decay: float,
    wanted: NDArray[np.int32],
) -> NDArray[np.int32]:
    found = np.full(len(wanted), -1, np.int32)
    best = np.zeros(len(wanted), np.float32)
    weight = 1.0
    for place in range(len(past)):
        share = np.float32(weight)
        begin, end = offsets[past[place]], offsets[past[place] + 1]
        for at in range(len(wanted)):
            if wanted[at] >= 0:
                to = begin + np.searchsorted(columns[begin:end], wanted[at])
                if to < end and columns[to] == wanted[at]:
                    term = share * weights[to]
                    if term > best[at]:
                        best[at] = term
                        found[at] = place
        weight *= decay
    return found
