"""Rows by the hash of the item's id, in bulk: what dictionaries do one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

Ints = NDArray[np.int64]

_NONE, _ONE = np.uint64(0), np.uint64(1)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Times a power of two it has another number in its upper six bits for each."""
_PLACES = np.zeros(64, np.int64)
for _place in range(64):
    _PLACES[((int(_DE_BRUIJN) << _place) & (2**64 - 1)) >> 58] = _place


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

    def find(self, hashes: Sequence[int]) -> Ints:
        """The rows of hashes, -1 for those that are not known."""
        return find_all(np.array(hashes, np.int64), self._hashes, self._rows).astype(np.int64)

    def resolve(self, words: Ints, sizes: Ints) -> tuple[Ints, Ints, Ints]:
        """Rows and counts from runs of `size` hashes followed by `size` counts: int64 offsets, rows, counts.

        Within a run rows ascend; hashes that are not known are left out.
        """
        return _resolve(words, sizes, self._hashes, self._rows, self._count)


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
def _resolve(words: Ints, sizes: Ints, held: Ints, rows: NDArray[np.int32], count: int) -> tuple[Ints, Ints, Ints]:
    last = len(rows) - 1
    offsets = np.zeros(len(sizes) + 1, np.int64)
    kept = np.empty(len(words) // 2, np.int64)
    counts = np.empty(len(words) // 2, np.int64)
    # The rows of a run as bits, from which they are read in order: a run is short, to sort it would cost far more.
    bits = np.zeros((count >> 6) + 1, np.uint64)
    place = np.empty(count, np.int32)
    start = 0
    end = 0
    for run in range(len(sizes)):
        size = sizes[run]
        first, beyond = len(bits), 0
        for k in range(size):
            wanted = words[start + k]
            at = wanted & last
            while rows[at] >= 0 and held[at] != wanted:
                at = (at + 1) & last
            row = rows[at]
            if row >= 0:
                word = row >> 6
                bits[word] |= _ONE << np.uint64(row & 63)
                place[row] = k
                first, beyond = min(first, word), max(beyond, word + 1)
        for word in range(first, beyond):
            left = bits[word]
            while left != _NONE:
                lowest = left & (~left + _ONE)
                row = (word << 6) | _PLACES[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                kept[end] = row
                counts[end] = words[start + size + place[row]]
                end += 1
                left ^= lowest
            bits[word] = _NONE
        offsets[run + 1] = end
        start += 2 * size
    return offsets, kept[:end], counts[:end]
