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

    def __init__(self, columns: tuple[Column, ...]) -> None:
        divided = [index for index, column in enumerate(columns) if column.bottom >= 0]
        self._top = np.array([column.top for column in columns], np.intp)
        self._divisor = np.array([column.divisor for column in columns], np.float64)
        self._divided = np.array(divided, np.intp)
        self._bottom = np.array([columns[index].bottom for index in divided], np.intp)
        self._prior = np.array([columns[index].prior for index in divided], np.float64)
        self._below = np.array([columns[index].below for index in divided], np.float64)
        self._distinct = [(index, column.top, column.k) for index, column in enumerate(columns) if column.k]

    def finish(self, ints: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[n, columns] of int64[n, slots]; NaN where a denominator is 0."""
        real = ints.astype(np.float64)
        values = real[:, self._top]
        values /= self._divisor
        if len(self._divided):
            above = values[:, self._divided] + self._prior
            values[:, self._divided] = _divide(above, real[:, self._bottom] + self._below)
        for index, slot, k in self._distinct:
            values[:, index] = estimate_distinct(ints[:, slot], ints[:, slot + 1], k)
        return values.astype(np.float32)


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def estimate_distinct(count: NDArray[np.int64], kth: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Bottom-k: the count itself below k, else `(k - 1) / (h_k / 2^63)` of the k-th smallest hash.

    Bar-Yossef et al. (2002); Beyer et al. (2007) for the unbiased form.
    """
    full = count >= k
    return np.divide(k - 1, kth / _HASH_SPACE, out=count.astype(np.float64), where=full & (kth > 0))


def finish_cross(cross: Cross, above: NDArray[np.int64], below: NDArray[np.int64] | int = 0) -> NDArray[np.float32]:
    """float32[n] from integer sums over keys, int64[n]; `below` only for mean and rate. NaN for a denominator of 0."""
    top = above.astype(np.float64) / cross.divisor
    if cross.per < 0:
        return top.astype(np.float32)
    bottom = np.broadcast_to(np.asarray(below, np.int64).astype(np.float64) + cross.below, top.shape)
    return _divide(top + cross.prior, bottom).astype(np.float32)
