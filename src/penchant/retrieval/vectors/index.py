"""What an index of item vectors is: one writer changes it, any number of readers search views of it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved

Allowed = NDArray[np.bool_] | NDArray[np.int32] | None
"""Which places may be found: bool[places], an array of places in any order (repeats count once), or all of them."""


class VectorView(Protocol):
    """An index as it was at one moment; it never changes, so it is searched from any thread, without a lock.

    Each vector stands at a place, int32 from 0. Places are of this view: in another an item may stand elsewhere.
    """

    @property
    def version(self) -> int:
        """Grows with every change of the index."""
        ...

    @property
    def ids(self) -> NDArray[np.int64]:
        """`hash_id` of the item at each place, int64[places]; -1 where none stands."""
        ...

    def search(self, query: NDArray[np.float32], limit: int, allowed: Allowed = None) -> Retrieved:
        """The places of the `limit` largest inner products and these, best first (ties: lower place first).

        `query`: float32[dimensions], finite, else `ValueError`. Scores that are not finite are not found.
        """
        ...

    def search_rows(
        self,
        query: NDArray[np.float32],
        limit: int,
        to_row: NDArray[np.int32],
        eligible: NDArray[np.bool_],
        without: int = -1,
    ) -> Retrieved:
        """As `search`, by rows of a picture: `to_row` int32[places] has the row of each place (-1: none, no row twice).

        Found are rows under `eligible`, bool[rows], but not `without`; ties: lower row first.
        """
        ...

    def scores(self, query: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
        """The score of each place as `search` would give it; NaN where no item stands."""
        ...


class VectorIndex(Protocol):
    """Vectors by item id, searched by inner product. One thread at a time may write; readers take a view and go on."""

    dimensions: int

    def __len__(self) -> int:
        """How many items it has."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds for its newest view, all counted."""
        ...

    def view(self) -> VectorView:
        """The index as it is now."""
        ...

    def put(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add items, or replace their vectors; all at once for whoever takes a view after. Of repeats the last counts.

        `ids`: int64[n] `hash_id`s; `vectors`: float32[n, dimensions], finite, else `ValueError` and nothing changes.
        """
        ...

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Let items go, all at once; returns how many were there."""
        ...

    def tidy(self) -> bool:
        """One bounded step of giving back the memory of what is gone; whether there is more to do."""
        ...
