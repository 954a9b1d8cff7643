"""Histories cut into windows and put together by length, so that few shapes are compiled and little is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def bounds(length: int) -> tuple[int, ...]:
    """Lengths of the buckets, ascending; the last is `length`."""
    return tuple(sorted({-(-length // 4), -(-length // 2), -(-3 * length // 4), length}))


def cut(
    offsets: NDArray[np.int64], length: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows `[start, end)` of at most `length` places that together cover every history, each place once.

    A history longer than that is cut at a place that is drawn anew with every call.
    """
    starts: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []
    sizes = np.diff(offsets)
    short = (sizes <= length) & (sizes > 0)
    starts.append(offsets[:-1][short])
    ends.append(offsets[1:][short])
    for history in np.flatnonzero(sizes > length):
        start, end = offsets[history], offsets[history + 1]
        last = end - rng.integers(0, length)
        points = np.concatenate([[start], np.arange(last, start, -length)[::-1], [end]])
        points = points[np.concatenate([[True], np.diff(points) > 0])]
        starts.append(points[:-1])
        ends.append(points[1:])
    return np.concatenate(starts), np.concatenate(ends)


def batches(
    starts: NDArray[np.int64], ends: NDArray[np.int64], length: int, places: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Groups of `places // L` windows of the bucket of length L, in drawn order.

    What is left over in a bucket goes to the next longer one; -1 fills up the last group of the longest there is.
    """
    sizes = ends - starts
    left = np.empty(0, np.int64)
    found: list[tuple[NDArray[np.int64], int]] = []
    shorter = 0
    longest = int(sizes.max(initial=0))
    fit = sum(bound < longest for bound in bounds(length)) + 1
    for bound in bounds(length)[:fit]:
        rows = max(1, places // bound)
        fitting = np.concatenate([left, rng.permutation(np.flatnonzero((sizes > shorter) & (sizes <= bound)))])
        whole = len(fitting) // rows * rows
        found += [(group, bound) for group in fitting[:whole].reshape(-1, rows)]
        left, shorter = fitting[whole:], bound
    if len(left):
        found.append((np.concatenate([left, np.full(rows - len(left), -1)]), bound))
    for at in rng.permutation(len(found)):
        yield found[at]


def place(
    values: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64], group: NDArray[np.int64], width: int
) -> NDArray[np.int32]:
    """The values of each window of the group, int32[len(group), width]: newest on the right, -1 on the left of them."""
    placed = np.full((len(group), width), -1, np.int32)
    for row, window in enumerate(group):
        if window >= 0:
            start, end = starts[window], ends[window]
            placed[row, width - (end - start) :] = values[start:end]
    return placed
