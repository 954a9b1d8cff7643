"""Rows of a factor matrix stepped towards the least of their loss, a block of coordinates at a time: iALS++."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.least_squares import SOLVED, add_history, dot, factorise, substitute


@kernel
def step_rows(
    rows: NDArray[np.float32],
    others: NDArray[np.float32],
    gram: NDArray[np.float32],
    unobserved: float,
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    regs: NDArray[np.float32],
    block: int,
    begin: int,
    end: int,
) -> int:
    """Lower the loss of the rows `[begin, end)` of `rows` in place, by one Newton step for each `block` of coordinates.

    The loss is that of `least_squares.solve_rows` with `xᵀ·gram·x` for what is not observed: `gram` is
    `othersᵀ·others`, float32[d, d], of columns that need not be orthogonal. A step begins at what the row is (Rendle et
    al. 2021, iALS++). For long histories and many dimensions, where to solve exactly costs too much. Returns `SOLVED`,
    or the first row with a matrix that is not positive definite by rounding.
    """
    dim = rows.shape[1]
    width = min(block, dim)
    matrix = np.empty((width, width), np.float32)
    step = np.empty(width, np.float32)
    longest = 0
    for row in range(begin, end):
        longest = max(longest, offsets[row + 1] - offsets[row])
    told = np.zeros(longest, np.float32)
    share = np.float32(unobserved)
    for row in range(begin, end):
        first, past = offsets[row], offsets[row + 1]
        x = rows[row]
        if first == past:
            x[:] = 0
            continue
        for at in range(first, past):
            told[at - first] = dot(x, others[columns[at]], dim)
        for low in range(0, dim, width):
            high = min(low + width, dim)
            size = high - low
            _begin(matrix, gram, share, regs[row], low, size)
            step[:size] = 0
            _pull(step, x, gram, share, regs[row], low, size)
            add_history(matrix, step, others, columns, weights, told, first, past, low, size)
            if not factorise(matrix, size):
                return row
            substitute(matrix, step, size)
            for at in range(size):
                x[low + at] += step[at]
            if high < dim:
                for at in range(first, past):
                    told[at - first] += dot(step, others[columns[at], low:high], size)
    return SOLVED


@kernel
def _begin(
    matrix: NDArray[np.float32], gram: NDArray[np.float32], share: np.float32, reg: np.float32, low: int, size: int
) -> None:
    """The lower triangle of `share·gram + reg·I` of one block."""
    for at in range(size):
        out, told = matrix[at], gram[low + at, low : low + size]
        for to in range(at + 1):
            out[to] = share * told[to]
        out[at] += reg


@kernel
def _pull(
    step: NDArray[np.float32],
    x: NDArray[np.float32],
    gram: NDArray[np.float32],
    share: np.float32,
    reg: np.float32,
    low: int,
    size: int,
) -> None:
    """Against the gradient of what is not observed and of the regularisation."""
    for at in range(len(x)):
        told = gram[at, low : low + size]
        pull = share * x[at]
        for to in range(size):
            step[to] -= pull * told[to]
    own = x[low : low + size]
    for to in range(size):
        step[to] -= reg * own[to]
