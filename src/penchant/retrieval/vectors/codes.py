"""Vectors as one byte per dimension, in a layout that the processor scans sixteen vectors at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

BLOCK = 512
"""Vectors side by side: of a block dimension after dimension is read, so that no sum runs across a register."""

Codes = NDArray[np.int8]
"""int8[blocks, padded, BLOCK]: dimension `d` of vector `v` is at `[v // BLOCK, d, v % BLOCK]`."""


def padded(dimensions: int) -> int:
    """Dimensions rounded up to a multiple of four, as many as a scan takes in one pass."""
    return -(-dimensions // 4) * 4


class Question(NamedTuple):
    """A query as integers: `whole * unit` is the query, int32[padded]."""

    whole: NDArray[np.int32]
    unit: np.float32


def question(query: NDArray[np.float32], dimensions: int) -> Question:
    """The query in integers of up to 15 bits, fewer where sums over many dimensions would not fit 32.

    With that many bits the query loses nothing that matters: what a score is wrong by comes from the items' bytes.
    """
    query = np.asarray(query, np.float32)
    if query.shape != (dimensions,):
        raise ValueError(f"the query has the shape {query.shape}, the index {dimensions} dimensions")
    largest = float(np.abs(query).max(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError("the query is not finite")
    whole = np.zeros(padded(dimensions), np.int32)
    unit = largest / min(32_767, (2**31 - 1) // (127 * len(whole)))
    if unit > 0.0:
        whole[:dimensions] = np.rint(query.astype(np.float64) / unit)
    return Question(whole, np.float32(unit))


@kernel
def encode(vectors: NDArray[np.float32], codes: Codes, scales: NDArray[np.float32], at: int) -> None:
    """Write vectors from the place `at` on: bytes from -127 to 127, and what they are to be multiplied by."""
    for row in range(len(vectors)):
        vector = vectors[row]
        largest = np.float32(0.0)
        for d in range(len(vector)):
            largest = max(largest, abs(vector[d]))
        scale = np.float32(largest / np.float32(127.0))
        place = at + row
        block, lane = place // BLOCK, place % BLOCK
        for d in range(len(vector)):
            whole = np.rint(vector[d] / scale) if scale > 0.0 else np.float32(0.0)
            codes[block, d, lane] = np.int8(min(max(whole, -127.0), 127.0))
        scales[place] = scale


@kernel
def scan(
    codes: Codes,
    scales: NDArray[np.float32],
    whole: NDArray[np.int32],
    unit: np.float32,
    wanted: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> None:
    """The scores of the first `len(out)` places; NaN in blocks that are not wanted (bool[blocks]) and in holes."""
    sums = np.empty(BLOCK, np.int32)
    for block in range((len(out) + BLOCK - 1) // BLOCK):
        # Slices, so that in the inner loops one index counts from 0: a quarter faster than three indices.
        begin = block * BLOCK
        into, scale, bytes_ = out[begin : begin + BLOCK], scales[begin : begin + BLOCK], codes[block]
        if not wanted[block]:
            into[:] = np.nan
            continue
        for lane in range(BLOCK):
            sums[lane] = 0
        for d in range(0, len(whole), 4):
            q0, q1, q2, q3 = whole[d], whole[d + 1], whole[d + 2], whole[d + 3]
            b0, b1, b2, b3 = bytes_[d], bytes_[d + 1], bytes_[d + 2], bytes_[d + 3]
            for lane in range(BLOCK):
                sums[lane] += (
                    np.int32(b0[lane]) * q0
                    + np.int32(b1[lane]) * q1
                    + np.int32(b2[lane]) * q2
                    + np.int32(b3[lane]) * q3
                )
        for lane in range(len(into)):
            into[lane] = np.float32(sums[lane]) * (scale[lane] * unit) + np.float32(0.0)  # never -0.0


@kernel
def dots(
    codes: Codes,
    scales: NDArray[np.float32],
    places: NDArray[np.int64],
    whole: NDArray[np.int32],
    unit: np.float32,
    out: NDArray[np.float32],
) -> None:
    """As `scan` of single places: the same bits."""
    for k in range(len(places)):
        block, lane = places[k] // BLOCK, places[k] % BLOCK
        total = np.int64(0)
        for d in range(len(whole)):
            total += np.int64(codes[block, d, lane]) * whole[d]
        out[k] = np.float32(np.int32(total)) * (scales[places[k]] * unit) + np.float32(0.0)


@kernel
def lift(codes: Codes, places: NDArray[np.int64], into: Codes, at: NDArray[np.int64]) -> None:
    """Copy the vectors at `places` to the places `at` of other codes."""
    for k in range(len(places)):
        block, lane = places[k] // BLOCK, places[k] % BLOCK
        to, slot = at[k] // BLOCK, at[k] % BLOCK
        for d in range(codes.shape[1]):
            into[to, d, slot] = codes[block, d, lane]


@kernel
def blocks_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks have a place under the mask, bool[places]."""
    found = np.zeros((len(mask) + BLOCK - 1) // BLOCK, np.bool_)
    for block in range(len(found)):
        for place in range(block * BLOCK, min(block * BLOCK + BLOCK, len(mask))):
            if mask[place]:
                found[block] = True
                break
    return found


@kernel
def blocks_of_rows(to_row: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks have a place whose row is under the mask, bool[rows]."""
    found = np.zeros((len(to_row) + BLOCK - 1) // BLOCK, np.bool_)
    for block in range(len(found)):
        for place in range(block * BLOCK, min(block * BLOCK + BLOCK, len(to_row))):
            row = to_row[place]
            if row >= 0 and mask[row]:
                found[block] = True
                break
    return found
