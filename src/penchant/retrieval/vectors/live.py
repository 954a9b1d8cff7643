"""An index that follows the pictures of the catalogue: only rows that changed are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.vectors.exact import ExactIndex
from penchant.retrieval.vectors.index import VectorIndex, VectorView
from penchant.retrieval.vectors.ivf import FaissIndex

MANY = 200_000
"""From so many items on the index has clusters, if FAISS is installed; all are scanned up to there."""
_AT_ONCE = 16_384
"""Vectors written at a time: what a change needs beside the index."""


class VectorTable:
    """Listed items with a vector as they are in one picture, ready to be searched; equal to another that says the same.

    `view` has the unit vectors, whose ids are rows; `to_row` int32[places], `of_row` int32[rows] (-1: not in it);
    `vectors` float32[rows, size] are those of the picture itself, and `directed` bool[rows] which have a direction.
    """

    __slots__ = ("directed", "of_row", "to_row", "vectors", "view")

    def __init__(self, view: VectorView, vectors: NDArray[np.float32], directed: NDArray[np.bool_]) -> None:
        self.view, self.vectors, self.directed = view, vectors, directed
        self.to_row = view.ids.astype(np.int32)
        self.of_row = np.full(len(vectors), -1, np.int32)
        there = np.flatnonzero(self.to_row >= 0)
        self.of_row[self.to_row[there]] = there

    def units(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """The vectors of rows that have a direction, at length 1."""
        return _units(self.vectors[rows])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VectorTable) and all(
            np.array_equal(left, right)
            for left, right in (
                (self.of_row >= 0, other.of_row >= 0),
                (self.directed, other.directed),
                (self.vectors[self.directed], other.vectors[other.directed]),
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, _: object) -> VectorTable:
        return self  # nothing of it is ever written


class LiveVectors:
    """Keeps one index over all pictures. For one thread at a time; tables may be searched from any.

    Rows that came, changed or were unlisted are told by comparing the column with the one before. New clusters are made
    by a thread of their own, and taken over when the next picture comes after they are done.
    """

    def __init__(self, many: int = MANY) -> None:
        self._many = many
        self._index: VectorIndex = ExactIndex(1)
        self._vectors: NDArray[np.float32] = np.empty((0, 1), np.float32)
        self._listed: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._directed: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._member: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._table = VectorTable(self._index.view(), self._vectors, self._directed)
        self._thread: threading.Thread | None = None
        self._made: Callable[[], None] | None = None
        self.seconds = 0.0
        """What the last change of the index took."""

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes of the index."""
        return self._index.nbytes

    def follow(self, vectors: NDArray[np.float32], listed: NDArray[np.bool_]) -> VectorTable:
        """The table of a picture with these vectors, float32[rows, size], and this life cycle, bool[rows]."""
        self._take_over()
        if vectors is not self._vectors or listed is not self._listed:
            began = time.perf_counter()
            self._change(vectors, listed)
            self._table = VectorTable(self._index.view(), vectors, self._directed)
            self.seconds = time.perf_counter() - began
        elif self._index.view().version != self._table.view.version:
            self._table = VectorTable(self._index.view(), vectors, self._directed)
        return self._table

    def _change(self, vectors: NDArray[np.float32], listed: NDArray[np.bool_]) -> None:
        count, size = vectors.shape
        if size != self._index.dimensions:
            self._start_anew(size)
        old = self._vectors
        shared = 0  # rows that are the same memory are the same
        if old.size and vectors.size and old.__array_interface__["data"] == vectors.__array_interface__["data"]:
            shared = min(len(old), count)
        directed, changed = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        _compare(old, self._directed, vectors, shared, directed, changed)
        member = directed & listed
        were = np.zeros(max(count, len(self._member)), np.bool_)
        were[: len(self._member)] = self._member
        gone = were.copy()
        gone[:count] &= ~member
        came = np.flatnonzero(member & (changed | ~were[:count]))
        self._index.remove(np.flatnonzero(gone))
        if int(np.count_nonzero(member)) >= self._many and isinstance(self._index, ExactIndex) and find_spec("faiss"):
            self._index, came = FaissIndex(size, least=self._many), np.flatnonzero(member)
        for begin in range(0, len(came), _AT_ONCE):
            rows = came[begin : begin + _AT_ONCE]
            self._index.put(rows, _units(vectors[rows]))
        self._vectors, self._listed, self._directed, self._member = vectors, listed, directed, member
        self._tidy()

    def _tidy(self) -> None:
        index = self._index
        if isinstance(index, FaissIndex) and index.is_stale():
            if self._thread is None:
                make = index.begin()
                self._thread = threading.Thread(target=self._make, args=(make,), name="clusters", daemon=True)
                self._thread.start()
            return
        while index.tidy():
            pass

    def _make(self, make: Callable[[], Callable[[], None]]) -> None:
        self._made = make()

    def _take_over(self) -> None:
        if self._thread is None or self._thread.is_alive():
            return
        made, self._thread, self._made = self._made, None, None
        if made is not None:
            made()
            self._tidy()

    def _start_anew(self, size: int) -> None:
        self._index = ExactIndex(size)
        self._vectors = np.empty((0, size), np.float32)
        self._directed = self._member = np.empty(0, np.bool_)
        self._thread = self._made = None


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = vectors.astype(np.float64)
    wide /= np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return wide.astype(np.float32)


@kernel
def _compare(
    old: NDArray[np.float32],
    old_directed: NDArray[np.bool_],
    new: NDArray[np.float32],
    shared: int,
    directed: NDArray[np.bool_],
    changed: NDArray[np.bool_],
) -> None:
    """Which rows have a direction (finite, and not all zero), and which are not as they were."""
    for row in range(len(new)):
        if row < shared:
            directed[row] = old_directed[row]
            continue
        differs = row >= len(old)
        if not differs:
            for d in range(new.shape[1]):
                if new[row, d] != old[row, d]:  # missing ones always differ, and have no direction
                    differs = True
                    break
        if differs:
            changed[row] = True
            finite, zero = True, True
            for d in range(new.shape[1]):
                finite = finite and np.isfinite(new[row, d])
                zero = zero and new[row, d] == np.float32(0.0)
            directed[row] = finite and not zero
        else:
            directed[row] = old_directed[row]
