"""Columns that are renewed by copying: the next version differs in a few rows, the earlier one is never written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.items import Keyed

IntArray = NDArray[np.int64]


def patched(old: NDArray[Any], count: int, missing: Any, rows: IntArray, values: Any) -> NDArray[Any]:
    """A copy of `old` with `count` rows, `values` at `rows` and `missing` in the other new ones."""
    new = np.empty((count, *old.shape[1:]), old.dtype)
    new[: len(old)] = old
    new[len(old) :] = missing
    new[rows] = values
    return new


def renewed(old: NDArray[Any], count: int, missing: Any, rows: IntArray, values: Any) -> NDArray[Any]:
    """As `patched`, but `old` itself when that says the same: what was made of it then holds on."""
    values = np.asarray(values, old.dtype)
    if count == len(old) and old[rows].tobytes() == values.tobytes():
        return old
    return patched(old, count, missing, rows, values)


def offsets_of(lengths: Sequence[int] | IntArray) -> IntArray:
    """Where each run begins and the last one ends.

    >>> offsets_of([2, 0, 1]).tolist()
    [0, 2, 2, 3]
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


class Runs(NamedTuple):
    """Any number of values a row: those of row `r` are `values[offsets[r]:offsets[r + 1]]`."""

    offsets: IntArray
    values: NDArray[Any]


def spliced(old: Runs, count: int, rows: IntArray, new: Runs) -> Runs:
    """`old` over now `count` rows, with the k-th run of `new` at `rows[k]`; `rows` ascend."""
    lengths = np.zeros(count, np.int64)
    lengths[: len(old.offsets) - 1] = np.diff(old.offsets)
    lengths[rows] = np.diff(new.offsets)
    offsets = offsets_of(lengths)
    values = np.empty(offsets[-1], old.values.dtype)
    _splice(old.offsets, old.values, rows, new.offsets, new.values, offsets, values)
    return Runs(offsets, values)


def spliced_keyed(old: Keyed, count: int, rows: IntArray, new: Keyed) -> Keyed:
    """`old` over now `count` rows, with the k-th row of `new` at `rows[k]`; `rows` ascend."""
    offsets, keys = spliced(Runs(old.offsets, old.keys), count, rows, Runs(new.offsets, new.keys))
    _, values = spliced(Runs(old.offsets, old.values), count, rows, Runs(new.offsets, new.values))
    return Keyed(offsets, keys, values)


def empty_keyed() -> Keyed:
    """No rows."""
    return Keyed(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def joined_keyed(parts: Sequence[Keyed]) -> Keyed:
    """The rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return Keyed(
        offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


@kernel
def _splice(
    old_offsets: NDArray[Any],
    old: NDArray[Any],
    rows: NDArray[Any],
    new_offsets: NDArray[Any],
    new: NDArray[Any],
    offsets: NDArray[Any],
    out: NDArray[Any],
) -> None:
    # Between two renewed rows the old values stand in one piece: they are copied piece by piece, not row by row.
    old_count = len(old_offsets) - 1
    row = 0
    for k in range(len(rows) + 1):
        stop = rows[k] if k < len(rows) else len(offsets) - 1
        kept = min(stop, old_count)
        if row < kept:
            piece = old[old_offsets[row] : old_offsets[kept]]
            out[offsets[row] : offsets[row] + len(piece)] = piece
        if k < len(rows):
            piece = new[new_offsets[k] : new_offsets[k + 1]]
            out[offsets[stop] : offsets[stop] + len(piece)] = piece
        row = stop + 1
