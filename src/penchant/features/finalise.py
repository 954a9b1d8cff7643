"""The one place where integers become float32: online, offline and oracle all finish here, so they agree bit for bit.

Only additions, divisions and casts of float64, which IEEE 754 rounds alike everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.features.plan import Column, Cross

_HASH_SPACE = float(1 << 63)


class Finaliser:
    """Finishes the scalar columns of one side."""

    def __init__(self, columns: tuple[Column, ...], slots: int) -> None:
        # One more slot, always zero, stands in for the denominators that plain sums lack.
        self._slots = slots
        self._top = np.array([column.top for column in columns], np.intp)
        self._bottom = np.array([slots if column.bottom < 0 else column.bottom for column in columns], np.intp)
        self._divisor = np.array([column.divisor for column in columns], np.float64)
        self._prior = np.array([column.prior for column in columns], np.float64)
        self._below = np.array([column.below for column in columns], np.float64)
        self._distinct = [(index, column.top, column.k) for index, column in enumerate(columns) if column.k]

    def finish(self, ints: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[n, columns] of int64[n, slots + 1]; the last slot must be 0. NaN where a denominator is 0."""
        real = ints.astype(np.float64)
        below = real[:, self._bottom] + self._below
        values = real[:, self._top] / self._divisor + self._prior
        if below.all():
            values /= below
        else:
            values = np.divide(values, below, out=np.full_like(values, np.nan), where=below != 0)
        for index, slot, k in self._distinct:
            values[:, index] = estimate_distinct(ints[:, slot], ints[:, slot + 1], k)
        return values.astype(np.float32)


def estimate_distinct(count: NDArray[np.int64], kth: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Bottom-k: the count itself below k, else `(k - 1) / (h_k / 2^63)` of the k-th smallest hash.

    Bar-Yossef et al. (2002); Beyer et al. (2007) for the unbiased form.
    """
    full = count >= k
    return np.divide(k - 1, kth / _HASH_SPACE, out=count.astype(np.float64), where=full & (kth > 0))


def finish_cross(cross: Cross, above: NDArray[np.int64], below: NDArray[np.int64] | int = 0) -> NDArray[np.float32]:
    """float32[n] from integer sums over keys, int64[n]; `below` only for mean and rate. NaN for a denominator of 0."""
    top = above.astype(np.float64) / cross.divisor + cross.prior
    bottom = np.broadcast_to(np.asarray(below, np.int64).astype(np.float64) + cross.below, top.shape)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0).astype(np.float32)
