"""The best rows of a score column: one bounded heap, one order for every source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel

NOTHING = Retrieved(np.empty(0, np.int32), np.empty(0, np.float32))
"""No proposals. Shared, so never to be written."""
NOTHING.rows.flags.writeable = NOTHING.scores.flags.writeable = False


def best_first(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices by score, the largest first and equal ones as they stand; none may be NaN.

    Score and index are packed into one integer, since to sort integers by value costs a fraction of a stable argsort.
    """
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # plus zero: -0.0 becomes 0.0
    ascending = bits ^ ((bits >> 63) & 0x7FFFFFFF)
    return np.sort(-ascending * (1 << 32) + np.arange(len(scores))) & 0xFFFFFFFF


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


_SAMPLE = 1_024


@kernel
def _floor(scores: NDArray[np.float32], above: float, room: int) -> float:
    """A score that about twice `room` of many scores reach, guessed from some of them; `above` where it does not pay.

    Whoever finds fewer than `room` at or above it must look again without it. Nearly all scores then fail one
    comparison, always the same way, which a processor foresees; in a heap by itself they come as they like.
    """
    stride = len(scores) // _SAMPLE
    if stride < 4 or len(scores) < 8 * room:
        return above
    wanted = 2 * room // stride + 8
    rows = np.empty(wanted, np.int32)
    best = np.empty(wanted, np.float32)
    size = 0
    for row in range(0, len(scores), stride):
        if scores[row] > above and np.isfinite(scores[row]):
            size = _offer(best, rows, size, scores[row], row)
    return np.float64(best[0]) if size == wanted else above


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
    least = _floor(scores, above, room)
    while True:
        for row in range(len(scores)):
            score = scores[row]
            # A full heap turns nearly every row away here; rows ascend, so an equal score never enters.
            if not score >= least or not score > above or (size == room and not score > best[0]):
                continue
            if mask[row] and row != without and np.isfinite(score):
                size = _offer(best, rows, size, score, row)
        if size == room or least == above:
            break
        least, size = above, 0
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
    least = _floor(scores, above, room)
    while True:
        for index in range(len(scores)):
            score = scores[index]
            # A full heap turns nearly all away here; rows come in any order, so an equal score may still enter.
            if not score >= least or not score > above or (size == room and score < best[0]):
                continue
            row = to_row[index]
            if row >= 0 and mask[row] and row != without and np.isfinite(score):
                size = _offer(best, rows, size, score, row)
        if size == room or least == above:
            break
        least, size = above, 0
    _unheap(best, rows, size)
    return rows[:size].copy(), best[:size].copy()
