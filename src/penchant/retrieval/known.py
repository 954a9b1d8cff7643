"""Where the items of a model and the rows of the picture meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.mapped import rows_of
from penchant.core.items import Items


@dataclass(frozen=True, slots=True, eq=False)
class KnownItems:
    """How rows of the picture and indices of the model meet; -1 where the other does not know the item."""

    of_row: NDArray[np.int32]
    to_row: NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Meeting:
    """Makes `KnownItems`, and gives the last again while no item was added."""

    _rows: object = None
    _known: KnownItems | None = None

    def of(self, items: Items, known: NDArray[np.int64]) -> KnownItems:
        """For the picture, and the model's items by `hash_id`, int64[m]: always the same ones."""
        last = self._known
        if last is not None and self._rows is items.rows and len(last.of_row) == items.count:
            return last
        rows = rows_of(items, known)
        of_row = np.full(items.count, -1, np.int32)
        inside = np.flatnonzero(rows >= 0)
        of_row[rows[inside]] = inside
        self._rows, self._known = items.rows, KnownItems(of_row, rows)
        return self._known
