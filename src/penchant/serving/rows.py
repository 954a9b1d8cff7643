"""The rows of many item hashes at once: what a user saw, as rows of the picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.lookup import hash_table
from penchant.catalog.mapped import MappedRows
from penchant.core.compile import kernel
from penchant.core.items import Items

TABLE = "rows"
"""Where the index of a picture is kept in `Items.tables`."""


@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """Open addressing by hash: `rows[s]` is the row of `hashes[s]`, -1 in a free slot."""

    hashes: NDArray[np.int64]
    rows: NDArray[np.int32]


@dataclass(slots=True, eq=False)
class RowIndex:
    """Makes `RowTable`s, and makes none while no item was added. One thread at a time."""

    _of: object = None
    _count: int = -1
    _table: RowTable = field(default_factory=lambda: RowTable(np.zeros(2, np.int64), np.full(2, -1, np.int32)))

    def prepare(self, items: Items) -> RowTable:
        """The index of a picture."""
        if self._of is not items.rows or self._count != items.count:
            if isinstance(items.rows, MappedRows):
                self._table = RowTable(items.rows.hashes, items.rows.rows)
            else:  # in order of row, and later items may have come to the dictionary since
                hashes = np.fromiter(items.rows, np.int64, items.count)
                self._table = RowTable(*hash_table(hashes))
            self._of, self._count = items.rows, items.count
        return self._table


def distinct_rows(hashes: NDArray[np.int64], items: Items) -> NDArray[np.int32]:
    """The rows of item hashes, in their order, each once; those the picture does not have are left out."""
    return first_visits(hashes, items)[0]


def first_visits(hashes: NDArray[np.int64], items: Items) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`distinct_rows`, and the place in `hashes` where each comes first."""
    table = items.tables[TABLE]
    assert isinstance(table, RowTable)
    return _distinct(hashes, table.hashes, table.rows)


@kernel
def _distinct(
    hashes: NDArray[np.int64], held: NDArray[np.int64], rows: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    found, places = np.empty(len(hashes), np.int32), np.empty(len(hashes), np.int64)
    slots = 2
    while slots < 2 * len(hashes):
        slots *= 2
    taken = np.full(slots, -1, np.int32)
    n = 0
    for k in range(len(hashes)):
        at = hashes[k] & (len(held) - 1)
        while rows[at] >= 0 and held[at] != hashes[k]:
            at = (at + 1) & (len(held) - 1)
        row = rows[at]
        if row < 0:
            continue
        at = hashes[k] & (slots - 1)
        while taken[at] >= 0 and taken[at] != row:
            at = (at + 1) & (slots - 1)
        if taken[at] < 0:
            taken[at] = row
            found[n], places[n] = row, k
            n += 1
    return found[:n].copy(), places[:n].copy()
