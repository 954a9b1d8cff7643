"""Rows of a factor matrix solved exactly against the other side's, in whichever form is the smaller.

Every inner loop starts at zero and runs along one row of a lower triangle: only then does the compiler know that no
index is below zero, and works on whole vectors, at four times the speed. Hence the Cholesky factor from the last pivot
to the first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

SOLVED = -1
"""What a solver gives when every row could be solved."""


@kernel
def solve_rows(
    rows: NDArray[np.float32],
    others: NDArray[np.float32],
    spectrum: NDArray[np.float32],
    unobserved: float,
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    regs: NDArray[np.float32],
    begin: int,
    end: int,
) -> int:
    """Set each of the rows `[begin, end)` of `rows` to the least of its loss, in place.

    Row `u`, with `h` the rows of `others` at its columns `columns[offsets[u]:offsets[u + 1]]` and `c` their `weights`,
    has the loss `Σ c·(x·h - 1)² + unobserved·Σ spectrum·x² + regs[u]·|x|²`. The columns of `others` are orthogonal and
    `spectrum` has their squared lengths, so that the second term is that of all of `others`. `rows`, `others`:
    float32[., d]; `regs` above zero where a row has entries; without any it becomes zero.

    With `D` the diagonal of what is not observed and `H` the weighted entries, `n` of them, the matrix is `D + Hᵀ·H`.
    Where `n < d` the identity of Woodbury leaves `I + H·D⁻¹·Hᵀ` to be solved, n × n: most histories are short.
    Returns `SOLVED`, or the first row whose matrix is not positive definite by rounding; it is left as it was.
    """
    dim = rows.shape[1]
    # Cut to size for each row: rows a power of two apart would share few lines of the cache.
    whole_matrix = np.empty(dim * dim, np.float32)
    whole_scaled = np.empty(dim * dim, np.float32)
    right = np.empty(dim, np.float32)
    scale = np.empty(dim, np.float32)
    none = np.zeros(0, np.float32)
    for row in range(begin, end):
        first, past = offsets[row], offsets[row + 1]
        x = rows[row]
        if first == past:
            x[:] = 0
        elif past - first < dim:
            for at in range(dim):
                scale[at] = np.float32(1) / np.sqrt(np.float32(unobserved) * spectrum[at] + regs[row])
            size = past - first
            matrix = whole_matrix[: size * size].reshape(size, size)
            scaled = whole_scaled[: dim * size].reshape(dim, size)
            for place in range(size):
                right[place] = np.sqrt(weights[first + place])
                other = others[columns[first + place]]
                for at in range(dim):
                    scaled[at, place] = right[place] * scale[at] * other[at]
            if not _solve_short(matrix, scaled, right, size):
                return row
            for at in range(dim):
                x[at] = scale[at] * dot(scaled[at], right, size)
        else:
            matrix = whole_matrix.reshape(dim, dim)
            _begin(matrix, spectrum, np.float32(unobserved), regs[row])
            right[:] = 0
            add_history(matrix, right, others, columns, weights, none, first, past, 0, dim)
            if not factorise(matrix, dim):
                return row
            substitute(matrix, right, dim)
            x[:] = right
    return SOLVED


@kernel
def solve_shares(
    others: NDArray[np.float32],
    spectrum: NDArray[np.float32],
    unobserved: float,
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    reg: float,
) -> NDArray[np.float32]:
    """What each entry of a history gives to the row that `solve_rows` makes of it, float32[history, d].

    They add up to the row; all zero where the matrix is not positive definite.
    """
    dim = others.shape[1]
    shares = np.zeros((len(columns), dim), np.float32)
    matrix = np.empty((dim, dim), np.float32)
    none = np.zeros(0, np.float32)
    _begin(matrix, spectrum, np.float32(unobserved), np.float32(reg))
    add_history(matrix, np.zeros(dim, np.float32), others, columns, weights, none, 0, len(columns), 0, dim)
    if factorise(matrix, dim):
        for at in range(len(columns)):
            share, other = shares[at], others[columns[at]]
            for to in range(dim):
                share[to] = weights[at] * other[to]
            substitute(matrix, share, dim)
    return shares


@kernel
def _begin(matrix: NDArray[np.float32], spectrum: NDArray[np.float32], share: np.float32, reg: np.float32) -> None:
    """What is not observed, and the regularisation."""
    for at in range(len(spectrum)):
        matrix[at, : at + 1] = 0
        matrix[at, at] = share * spectrum[at] + reg


@kernel
def _solve_short(
    matrix: NDArray[np.float32], scaled: NDArray[np.float32], right: NDArray[np.float32], size: int
) -> bool:
    """Solve `(I + scaledᵀ·scaled)·x = right` in place; `scaled` has the entries in its first `size` columns."""
    for at in range(size):
        matrix[at, : at + 1] = 0
        matrix[at, at] = 1
    one, nought = np.float32(1), np.float32(0)
    dim = len(scaled)
    for at in range(0, dim, 4):
        left = dim - at
        a = scaled[at]
        b = scaled[at + 1] if left > 1 else a
        c = scaled[at + 2] if left > 2 else a
        d = scaled[at + 3] if left > 3 else a
        v, w, z = one if left > 1 else nought, one if left > 2 else nought, one if left > 3 else nought
        _add_outer(matrix, a, b, c, d, one, v, w, z, size)
    if not factorise(matrix, size):
        return False
    substitute(matrix, right, size)
    return True


@kernel
def _add_outer(
    matrix: NDArray[np.float32],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    c: NDArray[np.float32],
    d: NDArray[np.float32],
    u: np.float32,
    v: np.float32,
    w: np.float32,
    z: np.float32,
    size: int,
) -> None:
    """Add `u·a·aᵀ + v·b·bᵀ + …` to a lower triangle: to load and store it costs more than to multiply."""
    for row in range(size):
        out = matrix[row]
        p, q, r, s = u * a[row], v * b[row], w * c[row], z * d[row]
        for to in range(row + 1):
            out[to] += (p * a[to] + q * b[to]) + (r * c[to] + s * d[to])


@kernel
def add_history(
    matrix: NDArray[np.float32],
    right: NDArray[np.float32],
    others: NDArray[np.float32],
    columns: NDArray[np.int32],
    weights: NDArray[np.float32],
    told: NDArray[np.float32],
    first: int,
    past: int,
    low: int,
    size: int,
) -> None:
    """Add the entries `[first, past)` to matrix and right side, for the coordinates from `low` on.

    `told` has what is told of each entry already (the right side gets what is missing to 1), or is empty.
    """
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
        _add_outer(matrix, a, b, c, d, u, v, w, z, size)
        if len(told) > 0:
            place = at - first
            u *= one - told[place]
            v *= one - told[place + 1] if left > 1 else nought
            w *= one - told[place + 2] if left > 2 else nought
            z *= one - told[place + 3] if left > 3 else nought
        for to in range(size):
            right[to] += (u * a[to] + v * b[to]) + (w * c[to] + z * d[to])


@kernel
def dot(one: NDArray[np.float32], other: NDArray[np.float32], size: int) -> np.float32:
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
def factorise(matrix: NDArray[np.float32], size: int) -> bool:
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
def substitute(lower: NDArray[np.float32], step: NDArray[np.float32], size: int) -> None:
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
        step[at] = (step[at] - dot(row, step, at)) / row[at]
