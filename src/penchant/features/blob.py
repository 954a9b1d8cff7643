"""The packed state of one entity: int64 words, little-endian.

`[codec, clock, lists, rows, list lengths ..., rows x (cell and tile, key, value), list rows ...]`. Rows ascend by
(cell, tile, key). `clock` is the largest `ingested_at` among the entity's own records: tiles are pruned by it, so a
blob is a function of the entity's records alone, however the log was cut into batches. List rows, newest first by
(ts, position), hold (ts, position, hash of the other side's id) and, unless distinct, (action, fixed-point value).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORD = 8
CODEC_AT, CLOCK_AT, LISTS_AT, ROWS_AT, HEADER = 0, 1, 2, 3, 4
CODEC_WORD = 1
ROW = 3
LIST_ROW, DISTINCT_ROW = 5, 3
CELL_SHIFT = 40
TILE_BIAS = 1 << 39
"""Added to tiles so that those before 1970 keep their order inside a word."""

Q_LIMIT = 1 << 40
"""Fixed-point values are cut to this magnitude, so that no sum overflows."""

# Read-only as every other blob: another kind of array would have the kernels compiled once more.
NO_WORDS: NDArray[np.int64] = np.frombuffer(b"", "<i8")


def words_of(blob: bytes | None) -> NDArray[np.int64]:
    """The words of a blob, read-only; none for `None`."""
    return NO_WORDS if blob is None else np.frombuffer(blob, "<i8")


def concatenate(blobs: Sequence[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All words in one array, and int64[len(blobs) + 1] offsets (in words) of each blob."""
    offsets = np.zeros(len(blobs) + 1, np.int64)
    np.cumsum([0 if blob is None else len(blob) >> 3 for blob in blobs], out=offsets[1:])
    return np.frombuffer(b"".join([blob for blob in blobs if blob is not None]), "<i8"), offsets
