"""The one sort of the kernels: rows by their first two columns, in place.

Written out because it compiles in a fraction of the time that numba's own sorts take, which every first start pays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

_SMALL = 24


@kernel
def sort_rows(rows: NDArray[np.int64], n: int) -> None:
    """Sort the first `n` rows of int64[., width >= 2] by (column 0, column 1); not stable.

    Insertion sort for few or nearly sorted rows, else heapsort: no input is slow.
    """
    width = rows.shape[1]
    if n > _SMALL:
        for start in range(n // 2 - 1, -1, -1):
            _sift(rows, start, n, width)
        for end in range(n - 1, 0, -1):
            for c in range(width):
                rows[0, c], rows[end, c] = rows[end, c], rows[0, c]
            _sift(rows, 0, end, width)
        return
    for i in range(1, n):
        j = i
        while j > 0 and (rows[j - 1, 0] > rows[j, 0] or (rows[j - 1, 0] == rows[j, 0] and rows[j - 1, 1] > rows[j, 1])):
            for c in range(width):
                rows[j - 1, c], rows[j, c] = rows[j, c], rows[j - 1, c]
            j -= 1


@kernel
def _sift(rows: NDArray[np.int64], root: int, end: int, width: int) -> None:
    """Let the row at `root` sink to its place in the heap below `end`."""
    while True:
        child = 2 * root + 1
        if child >= end:
            return
        if child + 1 < end and (
            rows[child, 0] < rows[child + 1, 0]
            or (rows[child, 0] == rows[child + 1, 0] and rows[child, 1] < rows[child + 1, 1])
        ):
            child += 1
        if rows[root, 0] > rows[child, 0] or (rows[root, 0] == rows[child, 0] and rows[root, 1] >= rows[child, 1]):
            return
        for c in range(width):
            rows[root, c], rows[child, c] = rows[child, c], rows[root, c]
        root = child
