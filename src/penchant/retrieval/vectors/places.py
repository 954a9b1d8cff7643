"""Where the vector of an item stands: a table of places alone, whose ids are read where the vectors are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

_FREE, _LEFT = -1, -2
_SPREAD = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: times an id it has upper bits that differ, also for ids that follow one another."""


class Places:
    """Open addressing from ids (`hash_id`) to places, four bytes a slot. For the one writer of an index."""

    def __init__(self) -> None:
        self._slots: NDArray[np.int32] = np.full(16, _FREE, np.int32)
        self._used = 0
        self.count = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._slots.nbytes

    def find(self, ids: NDArray[np.int64], columns: Sequence[NDArray[np.int64]], width: int) -> NDArray[np.int64]:
        """The place of each id, -1 for those that have none; place `p` has the id `columns[p // width][p % width]`."""
        if self.count == 0:
            return np.full(len(ids), -1, np.int64)
        slots, last = self._slots.data, len(self._slots) - 1
        shift = 64 - last.bit_length()
        held = [column.data for column in columns]
        found = []
        for wanted in ids.tolist():
            at = (wanted * _SPREAD & 0xFFFFFFFFFFFFFFFF) >> shift
            while (place := slots[at]) != _FREE:
                if place >= 0 and held[place // width][place % width] == wanted:
                    break
                at = (at + 1) & last
            found.append(place)
        return np.array(found, np.int64)

    def has_room(self, more: int) -> bool:
        """Whether so many can be added before the table is made anew."""
        return 4 * (self._used + more) <= 3 * len(self._slots)

    def is_wide(self) -> bool:
        """Whether a table half as large would do."""
        return len(self._slots) > _size(self.count)

    def renew(self, more: int, every: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
        """Make the table anew from all ids and their places, with room for so many more."""
        slots = np.full(_size(self.count + more), _FREE, np.int32)
        for ids, places in every:
            _add(slots, ids, places)
        self._slots, self._used = slots, self.count

    def add(self, ids: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Ids that are not in it, each once; there must be room."""
        _add(self._slots, ids, places)
        self._used += len(ids)
        self.count += len(ids)

    def drop(self, ids: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Ids that are in it, at these places."""
        _set(self._slots, ids, places, np.full(len(ids), _LEFT, np.int64))
        self.count -= len(ids)

    def move(self, ids: NDArray[np.int64], places: NDArray[np.int64], to: NDArray[np.int64]) -> None:
        """Ids that are in it, from these places to others, in this order: none may go where one to come still is."""
        _set(self._slots, ids, places, to)


def _size(count: int) -> int:
    """Slots, a power of two of which at most five eighths are taken."""
    size = 16
    while 8 * count > 5 * size:
        size *= 2
    return size


@kernel
def _first(item: np.int64, slots: int) -> np.int64:
    """Where to begin to look: as many upper bits of the product as number the slots."""
    product = np.uint64(item) * np.uint64(_SPREAD)
    return np.int64((product >> np.uint64(32)) * np.uint64(slots) >> np.uint64(32))


@kernel
def _add(slots: NDArray[np.int32], ids: NDArray[np.int64], places: NDArray[np.int64]) -> None:
    last = len(slots) - 1
    for k in range(len(ids)):
        at = _first(ids[k], len(slots))
        while slots[at] != _FREE:
            at = (at + 1) & last
        slots[at] = places[k]


@kernel
def _set(
    slots: NDArray[np.int32], ids: NDArray[np.int64], places: NDArray[np.int64], values: NDArray[np.int64]
) -> None:
    last = len(slots) - 1
    for k in range(len(ids)):
        at = _first(ids[k], len(slots))
        while slots[at] != places[k]:
            at = (at + 1) & last
        slots[at] = values[k]
