"""The best of many scores: most fail one comparison, and the few that are left are sorted as integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel

_SAMPLE = 1_024
_EVERYTHING = np.empty(0, np.bool_)
_THE_SAME = np.empty(0, np.int32)


def best(
    scores: NDArray[np.float32],
    limit: int,
    mask: NDArray[np.bool_] | None = None,
    to_row: NDArray[np.int32] | None = None,
    without: int = -1,
) -> Retrieved:
    """The rows of the `limit` best finite scores, in the order and with the rules of `topk.top_mapped`.

    Without `to_row` a score's row is its place, without `mask` all rows may be found. It differs from the bounded heap
    in time alone: for hundreds of many scores a heap costs as much as scanning ten thousand vectors.
    """
    room = max(0, min(limit, len(scores)))
    if room == 0:
        return Retrieved(np.empty(0, np.int32), np.empty(0, np.float32))
    rows = _THE_SAME if to_row is None else to_row
    allowed = _EVERYTHING if mask is None else mask
    all_, same = mask is None, to_row is None
    least = _least(scores, allowed, all_, rows, same, room)
    keys = _keys(scores, allowed, all_, rows, same, least, without)
    if len(keys) < room and least > -np.inf:  # the sample misled
        keys = _keys(scores, allowed, all_, rows, same, np.float32(-np.inf), without)
    if len(keys) > room:
        keys = np.partition(keys, room - 1)[:room]
    keys = np.sort(keys)
    ascending = -(keys >> 32)
    bits = (ascending ^ ((ascending >> 63) & 0x7FFFFFFF)).astype(np.int32)
    return Retrieved((keys & 0x7FFFFFFF).astype(np.int32), bits.view(np.float32))


def _least(
    scores: NDArray[np.float32],
    mask: NDArray[np.bool_],
    all_: bool,
    to_row: NDArray[np.int32],
    same: bool,
    room: int,
) -> np.float32:
    """A score that about twice `room` reach, guessed from some; minus infinity where that does not pay."""
    stride = len(scores) // _SAMPLE
    if stride < 2:
        return np.float32(-np.inf)
    sample = _sample(scores, mask, all_, to_row, same, stride)
    wanted = 2 * room // stride + 8
    if len(sample) <= wanted:
        return np.float32(-np.inf)
    return np.float32(np.partition(sample, len(sample) - wanted)[len(sample) - wanted])


@kernel
def _sample(
    scores: NDArray[np.float32],
    mask: NDArray[np.bool_],
    all_: bool,
    to_row: NDArray[np.int32],
    same: bool,
    stride: int,
) -> NDArray[np.float32]:
    """Every so many-th score, of those that are finite and under the mask."""
    found = np.empty(len(scores) // stride + 1, np.float32)
    size = 0
    for place in range(0, len(scores), stride):
        if np.isfinite(scores[place]):
            row = place if same else to_row[place]
            if row >= 0 and (all_ or mask[row]):
                found[size] = scores[place]
                size += 1
    return found[:size]


@kernel
def _keys(
    scores: NDArray[np.float32],
    mask: NDArray[np.bool_],
    all_: bool,
    to_row: NDArray[np.int32],
    same: bool,
    least: np.float32,
    without: int,
) -> NDArray[np.int64]:
    """Score and row in one integer, the best the lowest, of those that reach `least`."""
    keys = np.empty(len(scores), np.int64)  # pages that nothing is written to cost nothing
    as_bits = scores.view(np.int32)
    size = 0
    for place in range(len(scores)):
        if scores[place] >= least:
            row = place if same else to_row[place]
            if row >= 0 and row != without and (all_ or mask[row]) and np.isfinite(scores[place]):
                bits = np.int64(as_bits[place])
                keys[size] = -(bits ^ ((bits >> 63) & 0x7FFFFFFF)) * (1 << 32) + row
                size += 1
    return keys[:size].copy()
