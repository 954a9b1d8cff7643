"""Graph filters: what people share says which items lie near each other, without any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.errors import ArtifactError
from penchant.retrieval.history import FromHistory, Visits
from penchant.retrieval.topk import top_mapped

_CELLS = 8_000_000
"""How many pairs of items are held at a time, about: 64 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class GraphFilterModel:
    """A filter over items: a visit to item `i` adds `W[i, j] + low_i · factors_i·factors_j / low_j` to item `j`.

    Row `i` of the sparse `W` is `weights[offsets[i]:offsets[i + 1]]` at `columns[...]`, ascending, without `i` itself.
    """

    items: NDArray[np.int64]
    """`hash_id` of each item, int64[m]."""
    offsets: NDArray[np.int64]
    """int64[m + 1]."""
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]
    """float32, one for each of `columns`, none below zero."""
    factors: NDArray[np.float32]
    """float32[m, k]: the slowest waves of the graph; `k` is 0 for a filter without them."""
    low: NDArray[np.float32]
    """float32[m], above zero: by how much a visit to an item moves the slowest waves, and an item itself the less."""

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays of the model, to be kept in one NPZ file."""
        return {name: getattr(self, name) for name in _PARTS}

    @classmethod
    def from_parts(cls, parts: Mapping[str, NDArray[Any]]) -> GraphFilterModel:
        """The model that `parts` gave; raises `ArtifactError` where the arrays do not fit together."""
        try:
            items, offsets, columns, weights, factors, low = found = [parts[name] for name in _PARTS]
        except KeyError as error:
            raise ArtifactError(f"the graph filter lacks the array {error}") from None
        m = len(items)
        sound = [one.dtype for one in found] == [np.int64, np.int64, np.int32, np.float32, np.float32, np.float32]
        sound = sound and items.ndim == 1 and len(np.unique(items)) == m
        sound = sound and offsets.shape == (m + 1,) and columns.shape == weights.shape == (int(offsets[-1]),)
        sound = sound and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
        sound = sound and bool(((columns >= 0) & (columns < m)).all())
        sound = sound and factors.ndim == 2 and len(factors) == m and low.shape == (m,)
        sound = sound and all(bool(np.isfinite(one).all()) for one in (weights, factors, low))
        sound = sound and bool((weights >= 0).all()) and bool((low > 0).all())
        if not sound:
            raise ArtifactError("the arrays of the graph filter do not fit together; train it again")
        return cls(*(np.ascontiguousarray(one) for one in found))


_PARTS = ("items", "offsets", "columns", "weights", "factors", "low")


def fit_graph_filter(
    interactions: Any,
    items: NDArray[np.int64],
    *,
    person: float = 1.0,
    asked: float = 0.5,
    answered: float = 0.5,
    power: float = 1.0,
    keep: int = 500,
    rank: int = 64,
    low_weight: float = 0.3,
    low_exp: float = 0.5,
    rounds: int = 4,
    seed: int = 0,
) -> GraphFilterModel:
    """Fit low-pass filters over the graph of people and items, in closed form.

    `interactions` is a scipy CSR matrix `x`, users × items, of weights above zero; `items` names its columns by
    `hash_id`. With `n` and `d` the sums of its rows and columns, `W[i, j] = (Σ_u x_ui·x_uj / (n_u^person · d_i^asked ·
    d_j^answered))^power` (Park et al., SIGIR 2024, Turbo-CF), of which the `keep` largest of each row stay (ties: lower
    column). `rank` right singular vectors of `x_ui / √(n_u^person · d_i)` are the ideal low-pass filter (Shen et al.,
    CIKM 2021, GF-CF): `low_weight · v_i·v_j · (d_j/d_i)^low_exp` is added; `person` 1, the others 0.5 and `power` 1 are
    the paper. They are found by `rounds` of subspace iteration from a draw by `seed`.

    Needs 8 bytes for each weight that stays and 12 for each of `m·rank` factors, and time by the pairs that people
    share.
    """
    from scipy import sparse

    if keep < 1 or rank < 0 or rounds < 1 or power <= 0 or low_weight < 0:
        raise ValueError("keep, rounds and power must be above zero, and rank and low_weight not below it")
    matrix = interactions.tocsr().astype(np.float32)
    mass = np.maximum(np.asarray(matrix.sum(axis=1), np.float64).ravel(), 1e-12)
    degree = np.maximum(np.asarray(matrix.sum(axis=0), np.float64).ravel(), 1e-12)
    by_person = sparse.diags_array(mass**-person).astype(np.float32)
    shared = sparse.csr_matrix(by_person @ matrix)
    scales = ((degree**-asked).astype(np.float32), (degree**-answered).astype(np.float32))
    offsets, columns, weights = strongest(matrix, shared, *scales, power, keep)
    rank = min(rank, *matrix.shape) if low_weight > 0 else 0
    root = sparse.diags_array(mass ** (-person / 2)) @ matrix @ sparse.diags_array(degree**-0.5)
    factors = slow_waves(sparse.csr_matrix(root, dtype=np.float32), rank, rounds=rounds, seed=seed)
    factors *= np.float32(np.sqrt(low_weight))
    factors[degree < 1e-6] = 0  # rounding apart they are; any scale above zero does for them
    low = np.where(degree >= 1e-6, degree**-low_exp, 1.0).astype(np.float32)
    return GraphFilterModel(items, offsets, columns, weights, factors, low)


def slow_waves(matrix: Any, rank: int, *, rounds: int, seed: int) -> NDArray[np.float32]:
    """The first `rank` right singular vectors of a sparse float32 matrix, float32[columns, rank], largest first.

    By subspace iteration from a random start (Halko et al. 2011): those that stand apart come out to single precision,
    the last ones as well as `rounds` allows.
    """
    m = matrix.shape[1]
    if rank == 0:
        return np.empty((m, 0), np.float32)
    width = min(m, rank + max(16, rank // 8))
    basis = np.random.default_rng(seed).standard_normal((m, width), np.float32)
    across = matrix.T.tocsr()
    for _ in range(rounds):
        basis, _ = np.linalg.qr(across @ (matrix @ basis))
    seen = matrix @ basis
    _, turn = np.linalg.eigh((seen.T @ seen).astype(np.float64))
    return np.ascontiguousarray(basis @ turn[:, ::-1][:, :rank].astype(np.float32))


def strongest(
    matrix: Any,
    shared: Any,
    asked: NDArray[np.float32],
    answered: NDArray[np.float32],
    power: float,
    keep: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` largest of `(Σ_u matrix_ui·shared_uj · asked_i·answered_j)^power` over `j`, for each `i` (not itself).

    Offsets int64[m + 1], columns int32 (ascending) and weights; ties go to the lower column. Made a block of items at a
    time, so that memory is bounded by what is kept.
    """
    m = matrix.shape[1]
    across = matrix.T.tocsr()
    # How many pairs a row may have at most: what those who have the item have in all.
    ends = np.cumsum(np.minimum(across @ np.diff(matrix.indptr), m))
    offsets = np.zeros(m + 1, np.int64)
    columns: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    start = 0
    while start < m:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CELLS)))
        both = across[start:stop] @ shared
        sizes, near, strong = _keep_rows(both.indptr, both.indices, both.data, start, asked, answered, power, keep)
        offsets[start + 1 : stop + 1] = sizes
        columns.append(near)
        weights.append(strong)
        start = stop
    none = (np.empty(0, np.int32), np.empty(0, np.float32))
    return np.cumsum(offsets), np.concatenate([none[0], *columns]), np.concatenate([none[1], *weights])


@kernel
def _keep_rows(
    offsets: NDArray[np.int32],
    others: NDArray[np.int32],
    both: NDArray[np.float32],
    start: int,
    asked: NDArray[np.float32],
    answered: NDArray[np.float32],
    power: float,
    keep: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """The `keep` strongest of each row of shared people, by ascending column: how many there are, columns, weights."""
    rows = len(offsets) - 1
    sizes = np.zeros(rows, np.int64)
    most = 0
    for row in range(rows):
        most += min(keep, offsets[row + 1] - offsets[row])
    columns = np.empty(most, np.int32)
    weights = np.empty(most, np.float32)
    anything = np.ones(len(asked), np.bool_)
    size = 0
    for row in range(rows):
        item = start + row
        begin, end = offsets[row], offsets[row + 1]
        values = np.empty(end - begin, np.float32)
        for at in range(begin, end):
            values[at - begin] = (both[at] * asked[item] * answered[others[at]]) ** power
        near, strong = top_mapped(values, others[begin:end], anything, keep, 0.0, item)
        order = np.argsort(near)
        sizes[row] = len(near)
        for at in range(len(near)):
            columns[size + at] = near[order[at]]
            weights[size + at] = strong[order[at]]
        size += len(near)
    return sizes, columns[:size].copy(), weights[:size].copy()


@dataclass(frozen=True, slots=True)
class GraphFilter(FromHistory[GraphFilterModel]):
    """Scores by a graph filter from the live history: `score = Σ_k decay^k · filter[i_k]`."""

    def _score(self, model: GraphFilterModel, past: Visits) -> NDArray[np.float32]:
        share = np.power(self.decay, np.arange(len(past.items))).astype(np.float32)
        scores = np.zeros(len(model.items), np.float32)
        if model.factors.shape[1]:
            person = (share * model.low[past.items]) @ model.factors[past.items]
            scores += (model.factors @ person) / model.low
        _add_rows(model.offsets, model.columns, model.weights, past.items, share, scores)
        return scores

    def _largest(self, model: GraphFilterModel, past: Visits, wanted: NDArray[np.int32]) -> NDArray[np.int32]:
        share = np.power(self.decay, np.arange(len(past.items))).astype(np.float32)
        known = np.maximum(wanted, 0) if len(model.items) else wanted[:0]
        waves = (model.factors[past.items] * model.low[past.items][:, None]) @ (
            model.factors[known] / model.low[known][:, None]
        ).T
        return _largest(model.offsets, model.columns, model.weights, waves, past.items, share, wanted)


@kernel
def _add_rows(
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    past: NDArray[np.int32],
    share: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> None:
    for place in range(len(past)):
        each = share[place]
        for at in range(offsets[past[place]], offsets[past[place] + 1]):
            scores[np.uintp(columns[at])] += each * weights[at]  # unsigned: no check for counting from the end


@kernel
def _largest(
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    waves: NDArray[np.float32],
    past: NDArray[np.int32],
    share: NDArray[np.float32],
    wanted: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Per wanted index the place in `past` of the largest term above zero, -1 for none; ties go to the newest."""
    found = np.full(len(wanted), -1, np.int32)
    best = np.zeros(len(wanted), np.float32)
    for place in range(len(past)):
        begin, end = offsets[past[place]], offsets[past[place] + 1]
        for at in range(len(wanted)):
            if wanted[at] < 0:
                continue
            term = waves[place, at]
            to = begin + np.searchsorted(columns[begin:end], wanted[at])
            if to < end and columns[to] == wanted[at]:
                term += weights[to]
            term *= share[place]
            if term > best[at]:
                best[at] = term
                found[at] = place
    return found
