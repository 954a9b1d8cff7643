"""Rows by the hash of the item's id, in bulk: what dictionaries do one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

Ints = NDArray[np.int64]


class Lookup:
    """Open addressing over hashes that are added in order of row. Not for several threads at once."""

    def __init__(self) -> None:
        self._hashes: Ints = np.zeros(16, np.int64)
        self._rows: NDArray[np.int32] = np.full(16, -1, np.int32)
        self._count = 0

    def extend(self, hashes: Ints) -> None:
        """Add the next rows, whose hashes are new."""
        if 2 * (self._count + len(hashes)) > len(self._rows):
            slots = len(self._rows)
            while slots < 4 * (self._count + len(hashes)):
                slots *= 2
            known = self._rows >= 0
            order = np.argsort(self._rows[known])
            hashes = np.concatenate([self._hashes[known][order], hashes])
            self._hashes, self._rows, self._count = np.zeros(slots, np.int64), np.full(slots, -1, np.int32), 0
        _add(hashes, self._count, self._hashes, self._rows)
        self._count += len(hashes)

    def resolve(self, words: Ints, sizes: Ints) -> tuple[Ints, Ints, Ints]:
        """Rows and counts from runs of `size` hashes followed by `size` counts: int64 offsets, rows, counts.

        Within a run rows ascend; hashes that are not known are left out.
        """
        return _resolve(words, sizes, self._hashes, self._rows)


@kernel
def hash_table(hashes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Open addressing: in slot `s` is the hash `held[s]` of row `rows[s]`, -1 in a free slot; slots are a power of two.

    A hash is found from slot `hash & (slots - 1)` on, before the first free one.
    """
    slots = 2
    while slots < 2 * len(hashes):
        slots *= 2
    held = np.zeros(slots, np.int64)
    rows = np.full(slots, -1, np.int32)
    for row in range(len(hashes)):
        at = hashes[row] & (slots - 1)
        while rows[at] >= 0:
            at = (at + 1) & (slots - 1)
        held[at] = hashes[row]
        rows[at] = row
    return held, rows


@kernel
def find_all(wanted: Ints, held: Ints, rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """The row of each wanted hash in a `hash_table`, -1 where it has none."""
    found = np.empty(len(wanted), np.int32)
    for k in range(len(wanted)):
        at = wanted[k] & (len(held) - 1)
        while rows[at] >= 0 and held[at] != wanted[k]:
            at = (at + 1) & (len(held) - 1)
        found[k] = rows[at]
    return found


@kernel
def _add(hashes: Ints, first: int, held: Ints, rows: NDArray[np.int32]) -> None:
    last = len(rows) - 1
    for k in range(len(hashes)):
        at = hashes[k] & last
        while rows[at] >= 0:
            at = (at + 1) & last
        held[at] = hashes[k]
        rows[at] = first + k


@kernel
def _resolve(words: Ints, sizes: Ints, held: Ints, rows: NDArray[np.int32]) -> tuple[Ints, Ints, Ints]:
    last = len(rows) - 1
    offsets = np.zeros(len(sizes) + 1, np.int64)
    largest = 0
    for run in range(len(sizes)):
        largest = max(largest, sizes[run])
    kept = np.empty(len(words) // 2, np.int64)
    counts = np.empty(len(words) // 2, np.int64)
    packed = np.empty(largest, np.int64)
    start = 0
    end = 0
    for run in range(len(sizes)):
        size = sizes[run]
        n = 0
        for k in range(size):
            wanted = words[start + k]
            at = wanted & last
            while rows[at] >= 0 and held[at] != wanted:
                at = (at + 1) & last
            if rows[at] >= 0:
                packed[n] = (np.int64(rows[at]) << 31) | k  # one integer to sort by: the row, then the place
                n += 1
        ordered = np.sort(packed[:n])
        for k in range(n):
            kept[end] = ordered[k] >> 31
            counts[end] = words[start + size + (ordered[k] & 0x7FFFFFFF)]
            end += 1
        offsets[run + 1] = end
        start += 2 * size
    return offsets, kept[:end].copy(), counts[:end].copy()
