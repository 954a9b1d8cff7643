"""Rows of a factor matrix solved against the other side's: the block coordinate solver of iALS++.

Every inner loop starts at zero and runs along one row of a lower triangle: only then does the compiler know that no
index is below zero, and works on whole vectors, at four times the speed. Hence the Cholesky factor from the last pivot
to the first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

SOLVED = -1
"""What `solve_rows` gives when every row could be solved."""


@kernel
def solve_rows(
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
    """Lower the loss of the rows `[begin, end)` of `rows` in place; each depends on itself and `others` alone.

    Row `u`, with `h` the rows of `others` at its columns `columns[offsets[u]:offsets[u + 1]]` and `c` their `weights`,
    has the loss `Σ c·(x·h - 1)² + unobserved·xᵀ·gram·x + regs[u]·|x|²`, where `gram` is `othersᵀ·others`. One Newton
    step is taken for each `block` of coordinates in turn (Rendle et al. 2021, iALS++). A block that holds all of them
    makes the row exactly the least; what the row was is then of no account. A row without entries becomes zero, the
    least of its loss. `rows`, `others`: float32[., d].
    Returns `SOLVED`, or the first row whose matrix is not positive definite; it is left as it was.
    """
    dim = rows.shape[1]
    width = min(block, dim)
    exact = width == dim
    hessian = np.empty((width, width), np.float32)
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
        if not exact:
            for at in range(first, past):
                told[at - first] = _dot(x, others[columns[at]], dim)
        for low in range(0, dim, width):
            high = min(low + width, dim)
            size = high - low
            _begin(hessian, gram, share, regs[row], low, size)
            step[:size] = 0
            if not exact:
                _pull(step, x, gram, share, regs[row], low, size)
            _add_history(hessian, step, others, columns, weights, told, first, past, low, size)
            if not _factorise(hessian, size):
                return row
            _substitute(hessian, step, size)
            if exact:
                for at in range(size):
                    x[at] = step[at]
            else:
                for at in range(size):
                    x[low + at] += step[at]
                if high < dim:
                    for at in range(first, past):
                        told[at - first] += _dot(step, others[columns[at], low:high], size)
    return SOLVED


@kernel
def solve_shares(
    others: NDArray[np.float32],
    gram: NDArray[np.float32],
    unobserved: float,
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    reg: float,
) -> NDArray[np.float32]:
    """What each entry of a history gives to the row that `solve_rows` makes of it exactly, float32[history, d].

    They add up to the row; all zero where the matrix is not positive definite.
    """
    dim = others.shape[1]
    shares = np.zeros((len(columns), dim), np.float32)
    hessian = np.empty((dim, dim), np.float32)
    nought = np.zeros(len(columns), np.float32)
    _begin(hessian, gram, np.float32(unobserved), np.float32(reg), 0, dim)
    _add_history(hessian, np.zeros(dim, np.float32), others, columns, weights, nought, 0, len(columns), 0, dim)
    if _factorise(hessian, dim):
        for at in range(len(columns)):
            share, other = shares[at], others[columns[at]]
            for to in range(dim):
                share[to] = weights[at] * other[to]
            _substitute(hessian, share, dim)
    return shares


@kernel
def _dot(one: NDArray[np.float32], other: NDArray[np.float32], size: int) -> np.float32:
    """The product of the first `size` entries of two vectors; in four sums, which do not wait for each other."""
    a = b = c = d = np.float32(0)
    whole = size // 4
    for at in range(whole):
        a += one[4 * at] * other[4 * at]
        b += one[4 * at + 1] * other[4 * at + 1]
        c += one[4 * at + 2] * other[4 * at + 2]
        d += one[4 * at + 3] * other[4 * at + 3]
    for at in range(4 * whole, size):
        a += one[at] * other[at]
    return (a + b) + (c + d)


@kernel
def _begin(
    hessian: NDArray[np.float32], gram: NDArray[np.float32], share: np.float32, reg: np.float32, low: int, size: int
) -> None:
    """The lower triangle of `share·gram + reg·I` of one block."""
    for at in range(size):
        out, told = hessian[at], gram[low + at, low : low + size]
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


@kernel
def _add_history(
    hessian: NDArray[np.float32],
    step: NDArray[np.float32],
    others: NDArray[np.float32],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    told: NDArray[np.float32],
    first: int,
    past: int,
    low: int,
    size: int,
) -> None:
    """Add what is observed: four at a time, since to load and store the matrix costs more than to multiply."""
    nought, one = np.float32(0), np.float32(1)
    for at in range(first, past, 4):
        left = past - at
        a = others[columns[at], low : low + size]
        b = others[columns[at + 1], low : low + size] if left > 1 else a
        c = others[columns[at + 2], low : low + size] if left > 2 else a
        d = others[columns[at + 3], low : low + size] if left > 3 else a
        u = weights[at]
        v = weights[at + 1] if left > 1 else nought
        w = weights[at + 2] if left > 2 else nought
        z = weights[at + 3] if left > 3 else nought
        for row in range(size):
            out = hessian[row]
            p, q, r, s = u * a[row], v * b[row], w * c[row], z * d[row]
            for to in range(row + 1):
                out[to] += (p * a[to] + q * b[to]) + (r * c[to] + s * d[to])
        place = at - first
        u *= one - told[place]
        v *= one - told[place + 1] if left > 1 else nought
        w *= one - told[place + 2] if left > 2 else nought
        z *= one - told[place + 3] if left > 3 else nought
        for to in range(size):
            step[to] += (u * a[to] + v * b[to]) + (w * c[to] + z * d[to])


@kernel
def _factorise(matrix: NDArray[np.float32], size: int) -> bool:
    """`matrix = Rᵀ·R` in the lower triangle, four pivots at a time; False if it is not positive definite."""
    for top in range(size, 0, -4):
        bottom = max(top - 4, 0)
        for pivot in range(top - 1, bottom - 1, -1):
            own = matrix[pivot]
            for before in range(top - 1, pivot, -1):
                other = matrix[before]
                factor = other[pivot]
                for to in range(pivot + 1):
                    own[to] -= factor * other[to]
            if not own[pivot] > 0:
                return False
            scale = np.float32(1) / np.sqrt(own[pivot])
            for to in range(pivot + 1):
                own[to] *= scale
        if bottom == 0:
            break
        a, b, c, d = matrix[top - 1], matrix[top - 2], matrix[top - 3], matrix[top - 4]
        for row in range(bottom):
            out = matrix[row]
            p, q, r, s = a[row], b[row], c[row], d[row]
            for to in range(row + 1):
                out[to] -= (p * a[to] + q * b[to]) + (r * c[to] + s * d[to])
    return True


@kernel
def _substitute(lower: NDArray[np.float32], step: NDArray[np.float32], size: int) -> None:
    """Solve `Rᵀ·R·x = step` in place."""
    for back in range(size):
        at = size - 1 - back
        row = lower[at]
        step[at] /= row[at]
        told = step[at]
        for to in range(at):
            step[to] -= told * row[to]
    for at in range(size):
        row = lower[at]
        step[at] = (step[at] - _dot(row, step, at)) / row[at]
