"""What was shown to whom, and what was clicked: rows, and the impressions that they stand in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Items that were shown, one row each."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    """int64[n] in ms."""
    clicked: NDArray[np.bool_]
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Rows:
        """These rows, over the same users and items."""
        return Rows(
            self.users[rows], self.items[rows], self.times[rows], self.clicked[rows], self.n_users, self.n_items
        )

    def blind(self) -> Rows:
        """The same without what was clicked, as a model may see them."""
        return Rows(self.users, self.items, self.times, np.zeros(len(self), bool), self.n_users, self.n_items)


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Rows in impressions: impression `g` is the rows `offsets[g]` to `offsets[g + 1]`, all of one user.

    Impressions are in the order of their first row's time, and so are the rows of each.
    """

    name: str
    rows: Rows
    offsets: NDArray[np.int64]
    by: str
    """What one impression is, in words."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def begun(self) -> NDArray[np.int64]:
        """int64[impressions]: the time of the first row of each, not falling."""
        return self.rows.times[self.offsets[:-1]]

    @classmethod
    def of(cls, name: str, rows: Rows, keys: NDArray[np.int64], by: str) -> Impressions:
        """Rows of the same key are one impression."""
        _, group = np.unique(keys, return_inverse=True)
        first = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, group, rows.times)
        order = np.lexsort((np.arange(len(rows)), rows.times, group, first[group]))
        ends = np.flatnonzero(np.diff(group[order], append=-1)) + 1
        return cls(name, rows.take(order), np.concatenate([[0], ends]).astype(np.int64), by)
