"""Pieces of an index: what views share, and what one change makes anew of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.vectors.codes import BLOCK, Codes, encode, lift, padded

WIDTH = 16 * BLOCK
"""Places of a piece; the last one may have fewer. To change anything of a piece copies at most this many."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Vectors at `count` places. What is below `count` never changes; behind it the writer fills in place."""

    codes: Codes
    scales: NDArray[np.float32]
    """NaN where no item stands any more."""
    ids: NDArray[np.int64]
    count: int

    @classmethod
    def empty(cls, dimensions: int, room: int) -> Segment:
        """No vectors, and memory for `room` of them, rounded up to whole blocks."""
        blocks = -(-room // BLOCK)
        codes = np.zeros((blocks, padded(dimensions), BLOCK), np.int8)
        return cls(codes, np.full(blocks * BLOCK, np.nan, np.float32), np.full(blocks * BLOCK, -1, np.int64), 0)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.codes.nbytes + self.scales.nbytes + self.ids.nbytes

    @property
    def room(self) -> int:
        """How many can be written behind `count`."""
        return len(self.ids) - self.count

    def taken(self) -> NDArray[np.int64]:
        """Places where an item stands, ascending."""
        return np.flatnonzero(~np.isnan(self.scales[: self.count]))

    def holes(self) -> NDArray[np.int64]:
        """Places below `count` where none does."""
        return np.flatnonzero(np.isnan(self.scales[: self.count]))

    def with_more(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Segment:
        """The next places filled, for which there must be room: in place, as no view looks there yet."""
        end = self.count + len(ids)
        encode(vectors, self.codes, self.scales, self.count)
        self.ids[self.count : end] = ids
        return replace(self, count=end)

    def with_room(self, room: int) -> Segment:
        """As many vectors, in arrays of their own with room for so many places."""
        grown = Segment.empty(self.codes.shape[1], room)
        blocks, kept = min(len(self.codes), len(grown.codes)), min(len(self.ids), len(grown.ids))
        grown.codes[:blocks] = self.codes[:blocks]
        grown.scales[: min(kept, self.count)] = self.scales[: min(kept, self.count)]
        grown.ids[: min(kept, self.count)] = self.ids[: min(kept, self.count)]
        return replace(grown, count=min(self.count, len(grown.ids)))

    def without(self, places: NDArray[np.int64]) -> Segment:
        """Holes at these places. Their bytes stay until they are filled."""
        scales = self.scales.copy()
        scales[places] = np.nan
        return replace(self, scales=scales)

    def filled(self, other: Segment, places: NDArray[np.int64], at: NDArray[np.int64]) -> Segment:
        """The vectors that stand at `places` of another piece also here, in the holes `at`."""
        made = Segment(self.codes.copy(), self.scales.copy(), self.ids.copy(), self.count)
        lift(other.codes, places, made.codes, at)
        made.scales[at] = other.scales[places]
        made.ids[at] = other.ids[places]
        return made

    def cut(self, count: int) -> Segment:
        """The first `count` places, in arrays of their own and no larger than needed."""
        return replace(self, count=count).with_room(count)

    def squeezed(self, places: NDArray[np.int64]) -> Segment:
        """The vectors at these places side by side."""
        made = Segment.empty(self.codes.shape[1], len(places))
        lift(self.codes, places, made.codes, np.arange(len(places)))
        made.scales[: len(places)] = self.scales[places]
        made.ids[: len(places)] = self.ids[places]
        return replace(made, count=len(places))
