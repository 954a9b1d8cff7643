"""Columns that grow while a log is read: amortised doubling, no list of Python numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Growing:
    """An array that is appended to; `width` 0 for a vector, else rows of that width."""

    def __init__(self, dtype: type[np.generic], width: int = 0) -> None:
        self._data: NDArray[Any] = np.empty((1_024, width) if width else 1_024, dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, value: float) -> None:
        """Add one value."""
        self._reserve(1)
        self._data[self._size] = value
        self._size += 1

    def extend(self, values: NDArray[Any]) -> None:
        """Add values or rows."""
        self._reserve(len(values))
        self._data[self._size : self._size + len(values)] = values
        self._size += len(values)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop what the mask does not hold, and the space for it."""
        self._data = self._data[: self._size][mask]
        self._size = len(self._data)

    def view(self) -> NDArray[Any]:
        """What was appended; valid until the next change."""
        return self._data[: self._size]

    def _reserve(self, more: int) -> None:
        if self._size + more > len(self._data):
            shape = (max(2 * len(self._data), self._size + more), *self._data.shape[1:])
            grown = np.empty(shape, self._data.dtype)
            grown[: self._size] = self.view()
            self._data = grown


def before(limits: Mapping[int, int], keys: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a row's position is not past the limit of its key; False for keys without one.

    >>> before({7: 10}, np.array([7, 7, 8]), np.array([10, 11, 1])).tolist()
    [True, False, False]
    """
    if not limits:
        return np.zeros(len(keys), np.bool_)
    known = np.array(sorted(limits), np.int64)
    last = np.array([limits[key] for key in known.tolist()], np.int64)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    below: NDArray[np.bool_] = (known[place] == keys) & (positions <= last[place])
    return below
