"""The best rows of a score column: one bounded heap, one order for every source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel

NOTHING = Retrieved(np.empty(0, np.int32), np.empty(0, np.float32))
"""No proposals. Shared, so never to be written."""
NOTHING.rows.flags.writeable = NOTHING.scores.flags.writeable = False


@kernel
def _settle(scores: NDArray[np.float32], rows: NDArray[np.int32], size: int, score: float, row: int) -> None:
    """Put an entry at the root and let it sink; the root is the worst (lowest score, then highest row)."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            scores[other] < scores[child] or (scores[other] == scores[child] and rows[other] > rows[child])
        ):
            child = other
        if scores[child] < score or (scores[child] == score and rows[child] > row):
            scores[at] = scores[child]
            rows[at] = rows[child]
            at = child
        else:
            break
    scores[at] = score
    rows[at] = row


@kernel
def _offer(scores: NDArray[np.float32], rows: NDArray[np.int32], size: int, score: float, row: int) -> int:
    """Let an entry into the heap if there is room or it beats the worst; returns the new size."""
    if size < len(rows):
        at = size
        while at > 0:
            parent = (at - 1) >> 1
            if score < scores[parent] or (score == scores[parent] and row > rows[parent]):
                scores[at] = scores[parent]
                rows[at] = rows[parent]
                at = parent
            else:
                break
        scores[at] = score
        rows[at] = row
        return size + 1
    if score > scores[0] or (score == scores[0] and row < rows[0]):
        _settle(scores, rows, size, score, row)
    return size


@kernel
def _unheap(scores: NDArray[np.float32], rows: NDArray[np.int32], size: int) -> None:
    """Order the heap in place, best first: the worst goes to the end of what is left."""
    while size > 1:
        size -= 1
        score, row = scores[size], rows[size]
        scores[size], rows[size] = scores[0], rows[0]
        _settle(scores, rows, size, score, row)


@kernel
def top_rows(
    scores: NDArray[np.float32], mask: NDArray[np.bool_], limit: int, above: float, without: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best `limit` rows under `mask` whose finite score is greater than `above`.

    `scores`: float32[rows]; order: score descending, then row ascending. Row `without` is left out (-1: none).
    """
    room = max(0, min(limit, len(scores)))
    rows = np.empty(room, np.int32)
    best = np.empty(room, np.float32)
    if room == 0:
        return rows, best
    size = 0
    for row in range(len(scores)):
        score = scores[row]
        # A full heap turns nearly every row away here; rows come in ascending order, so an equal score never enters.
        if not score > above or (size == room and not score > best[0]):
            continue
        if mask[row] and row != without and np.isfinite(score):
            size = _offer(best, rows, size, score, row)
    _unheap(best, rows, size)
    return rows[:size].copy(), best[:size].copy()


@kernel
def top_listed(
    listed: NDArray[np.int32],
    scores: NDArray[np.float32],
    mask: NDArray[np.bool_],
    limit: int,
    above: float,
    without: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """As `top_rows`, looking only at the rows in `listed` (each once, any order); `scores` is by row."""
    room = max(0, min(limit, len(listed)))
    rows = np.empty(room, np.int32)
    best = np.empty(room, np.float32)
    if room == 0:
        return rows, best
    size = 0
    for index in range(len(listed)):
        row = listed[index]
        score = scores[row]
        if score > above and mask[row] and row != without and np.isfinite(score):
            size = _offer(best, rows, size, score, row)
    _unheap(best, rows, size)
    return rows[:size].copy(), best[:size].copy()


@kernel
def walk(
    order: NDArray[np.int32], scores: NDArray[np.float32], mask: NDArray[np.bool_], limit: int, without: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first `limit` rows of an order made before that the mask lets through; `scores` is by row."""
    room = max(0, min(limit, len(order)))
    rows = np.empty(room, np.int32)
    best = np.empty(room, np.float32)
    size = 0
    for index in range(len(order)):
        if size == room:
            break
        row = order[index]
        if mask[row] and row != without:
            rows[size] = row
            best[size] = scores[row]
            size += 1
    return rows[:size].copy(), best[:size].copy()


@kernel
def top_mapped(
    scores: NDArray[np.float32],
    to_row: NDArray[np.int32],
    mask: NDArray[np.bool_],
    limit: int,
    above: float,
    without: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """As `top_rows`, with `scores` by an index of which `to_row` gives the row, -1 for none; each row once."""
    room = max(0, min(limit, len(scores)))
    rows = np.empty(room, np.int32)
    best = np.empty(room, np.float32)
    if room == 0:
        return rows, best
    size = 0
    for index in range(len(scores)):
        score = scores[index]
        # A full heap turns nearly all away here; rows come in any order, so an equal score may still enter.
        if not score > above or (size == room and score < best[0]):
            continue
        row = to_row[index]
        if row >= 0 and mask[row] and row != without and np.isfinite(score):
            size = _offer(best, rows, size, score, row)
    _unheap(best, rows, size)
    return rows[:size].copy(), best[:size].copy()
