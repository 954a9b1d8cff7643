"""EASE for many items: each item is told from its nearest ones alone, in memory bounded by how many they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.graph_filter import strongest
from penchant.retrieval.least_squares import factorise, substitute
from penchant.retrieval.linear import EaseModel

_ITEMS = 64
"""How many items a thread takes at a time."""
_SOLVED = -1


def fit_sparse_ease(
    interactions: Any,
    items: NDArray[np.int64],
    reg: float,
    *,
    neighbours: int = 100,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EaseModel:
    """Fit EASE of which each column has weights for the `neighbours` nearest items alone; density `neighbours / m`.

    `interactions` is a scipy CSR matrix, users × items, of weights above zero; `items` names its columns by `hash_id`.
    Nearest are those of highest `both / √((d_i + reg)·(d_j + reg))`, the correlation in the regularised matrix of
    co-occurrences (ties: lower item). The weights of a column are the ridge regression of the item on these: what the
    inverse of their block gives, hence EASE itself under this pattern of zeros, and exactly EASE where `neighbours`
    is `m - 1` and all pairs occur. It is the approximation of Steck (NeurIPS 2019) by Markov random fields with `r` 0.

    Needs some 12 bytes for each weight and for each interaction, never `m²`; time is `neighbours³ / 3` and the pairs
    that people have among the neighbours, for each item. The same bits on any number of `threads` (all processors).
    `progress` hears of items done and in all. Raises `ValueError` where `reg` is too small for float32.
    """
    from scipy import sparse

    if neighbours < 1 or reg <= 0:
        raise ValueError("neighbours and reg must be above zero")
    matrix = interactions.tocsr().astype(np.float32)
    m = matrix.shape[1]
    squares = np.asarray(matrix.multiply(matrix).sum(axis=0), np.float64).ravel()
    scale = ((squares + reg) ** -0.5).astype(np.float32)
    offsets, near, _ = strongest(matrix, matrix, scale, scale, 1.0, neighbours)
    weights = np.zeros(len(near), np.float32)
    by_item = matrix.tocsc()
    taken = (by_item.indptr.astype(np.int64), by_item.indices.astype(np.int32), by_item.data)

    def part(begin: int) -> int:
        return _solve_columns(offsets, near, weights, *taken, matrix.shape[0], reg, begin, min(begin + _ITEMS, m))

    begins = range(0, m, _ITEMS)
    threads = max(1, min(threads or os.cpu_count() or 1, len(begins)))
    with ThreadPoolExecutor(threads) as pool:
        for done, told in enumerate(pool.map(part, begins)):
            if told != _SOLVED:
                raise ValueError(f"the block of item {told} is not positive definite in float32; raise reg (is {reg})")
            if progress is not None:
                progress(min((done + 1) * _ITEMS, m), m)
    # By columns so far; a model has what one visit adds, which are rows.
    rows = sparse.csc_matrix((weights, near, offsets), shape=(m, m)).tocsr()
    rows.sort_indices()
    return EaseModel(items, rows.data.astype(np.float32), rows.indptr.astype(np.int64), rows.indices.astype(np.int32))


@kernel
def _solve_columns(
    offsets: NDArray[np.int64],
    near: NDArray[np.int32],
    weights: NDArray[np.float32],
    first: NDArray[np.int64],
    people: NDArray[np.int32],
    values: NDArray[np.float32],
    count: int,
    reg: float,
    begin: int,
    end: int,
) -> int:
    """Write the weights of the columns `[begin, end)`: `(G_NN + reg·I)⁻¹·G_Nj` over the neighbours `N` of item `j`.

    Item `i` was taken by `people[first[i]:first[i + 1]]`, of `count`. Returns `_SOLVED` or the first column with a
    block that is not positive definite by rounding.
    """
    most = 0
    for item in range(begin, end):
        most = max(most, offsets[item + 1] - offsets[item])
    matrix = np.empty((most, most), np.float32)
    step = np.empty(most, np.float32)
    own = np.zeros(count, np.float32)
    lengths = np.zeros(count, np.int64)
    at_person = np.zeros(count, np.int64)
    for item in range(begin, end):
        low = offsets[item]
        size = offsets[item + 1] - low
        if size == 0:
            continue
        taken = 0
        for place in range(size):
            other = near[low + place]
            for at in range(first[other], first[other + 1]):
                lengths[people[at]] += 1
            taken += first[other + 1] - first[other]
        for at in range(first[item], first[item + 1]):
            own[people[at]] = values[at]
        # What each person has among the neighbours, by place: lists that lie one after the other.
        places = np.empty(taken, np.int32)
        shares = np.empty(taken, np.float32)
        seen = 0
        for place in range(size):
            other = near[low + place]
            for at in range(first[other], first[other + 1]):
                person = people[at]
                if lengths[person] > 0:
                    at_person[person] = seen
                    seen += lengths[person]
                    lengths[person] = 0
        step[:size] = 0
        matrix[:size, :size] = 0
        # Places come in order, so that only the lower triangle is met: an earlier place is a lower column.
        for place in range(size):
            other = near[low + place]
            row = matrix[place]
            for at in range(first[other], first[other + 1]):
                person, value = people[at], values[at]
                start = at_person[person]
                stop = start + lengths[person]
                for to in range(start, stop):
                    row[places[to]] += value * shares[to]
                row[place] += value * value
                places[stop] = place
                shares[stop] = value
                lengths[person] += 1
                step[place] += value * own[person]
            row[place] += np.float32(reg)
        for place in range(size):
            other = near[low + place]
            for at in range(first[other], first[other + 1]):
                lengths[people[at]] = 0
        for at in range(first[item], first[item + 1]):
            own[people[at]] = 0
        if not factorise(matrix, size):
            return item
        substitute(matrix, step, size)
        weights[low : low + size] = step[:size]
    return _SOLVED
