"""The loops that fill the feature matrix: gathers from item columns, sums by key, overlap with the user's past."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Floats = NDArray[np.float32]

DAY: Final = 86_400_000
MISSING_TIME: Final = -1


def empty_matrix(columns: int, n: int) -> Floats:
    """float32[columns, n], uninitialised, a view whose rows are not a power of two apart.

    At such a stride the column writes of one row would all fall into the same few cache sets. It is never contiguous:
    the compiler would make another version of each kernel for that, in the middle of a request.
    """
    stride = (n // 16 + 1) * 16
    if stride % 128 == 0:
        stride += 16
    return np.empty((columns, stride), np.float32)[:, :n]


@kernel
def gather(features: Floats, static: Floats, times: Ints, rows: Codes, now: int, out: Floats) -> None:
    """Row-major item columns of `rows`, column by column from `out[0]` on; times become ages in days."""
    first, second = features.shape[1], features.shape[1] + static.shape[1]
    for r in range(len(rows)):
        row = rows[r]
        for j in range(first):
            out[j, r] = features[row, j]
        for j in range(static.shape[1]):
            out[first + j, r] = static[row, j]
        for j in range(times.shape[1]):
            time = times[row, j]
            out[second + j, r] = np.nan if time == MISSING_TIME else (now - time) / DAY


@kernel
def sum_by_code(keys: Ints, values: Ints, offsets: Ints, codes: Codes, hashes: Ints, rows: Codes) -> Ints:
    """Per row the sum of the user's integers over the row's codes; `keys` ascend and are hashes of values."""
    out = np.zeros(len(rows), np.int64)
    if len(keys) == 0:
        return out
    slots = 16
    while slots < 2 * len(keys):
        slots *= 2
    place = np.full(slots, -1, np.int32)  # open addressing: keys are hashes already
    for k in range(len(keys)):
        at = keys[k] & (slots - 1)
        while place[at] >= 0:
            at = (at + 1) & (slots - 1)
        place[at] = k
    few = len(hashes) <= len(rows)  # then each code is looked up once, and not by every row that has it
    by_code = np.empty(len(hashes) if few else 0, np.int64)
    for code in range(len(by_code)):
        by_code[code] = _told(keys, values, place, hashes[code])
    for r in range(len(rows)):
        total = 0
        for k in range(offsets[rows[r]], offsets[rows[r] + 1]):
            total += by_code[codes[k]] if few else _told(keys, values, place, hashes[codes[k]])
        out[r] = total
    return out


@kernel
def _told(keys: Ints, values: Ints, place: Codes, wanted: int) -> int:
    """The integer of a key by where `place` has it, 0 where there is none."""
    at = wanted & (len(place) - 1)
    while place[at] >= 0 and keys[place[at]] != wanted:
        at = (at + 1) & (len(place) - 1)
    return values[place[at]] if place[at] >= 0 else 0


@kernel
def sum_by_key(offsets: Ints, keys: Ints, values: Ints, wanted: Ints, rows: Codes) -> Ints:
    """Per row the sum of the row's own integers over the `wanted` keys; the keys of a row ascend."""
    out = np.zeros(len(rows), np.int64)
    for r in range(len(rows)):
        begin, end = offsets[rows[r]], offsets[rows[r] + 1]
        total = 0
        if begin < end:
            for w in range(len(wanted)):
                total += _value_at(keys, values, wanted[w], begin, end)
        out[r] = total
    return out


@kernel
def _value_at(keys: Ints, values: Ints, wanted: int, begin: int, end: int) -> int:
    """The integer of a key by bisection, 0 where there is none."""
    low, high = begin, end
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return values[low] if low < end and keys[low] == wanted else 0


@kernel
def overlap(offsets: Ints, codes: Codes, past: Codes, rows: Codes, share: Floats, since: Floats) -> None:
    """How the codes of `rows` occur among the items of `past`, newest first.

    `share`: over the row's codes, the mean share of past items that have the code; `since`: how many past items are
    newer than the newest that has one of them. Both NaN where the row has no code or the past is empty, `since` also
    where nothing is shared.
    """
    most = 0
    for p in range(len(past)):
        most += offsets[past[p] + 1] - offsets[past[p]]
    slots = 16
    while slots < 2 * most:
        slots *= 2
    # Open addressing by code: how many past items have it, and the newest of them.
    held = np.full(slots, -1, np.int32)
    counts = np.zeros(slots, np.int64)
    newest = np.zeros(slots, np.int64)
    for p in range(len(past)):
        for k in range(offsets[past[p]], offsets[past[p] + 1]):
            at = _slot(held, codes[k])
            if held[at] < 0:
                held[at] = codes[k]
                newest[at] = p
            counts[at] += 1
    for r in range(len(rows)):
        begin, end = offsets[rows[r]], offsets[rows[r] + 1]
        total, first = 0, len(past)
        for k in range(begin, end):
            at = _slot(held, codes[k])
            if held[at] >= 0:
                total += counts[at]
                first = min(first, newest[at])
        known = begin < end and len(past) > 0
        share[r] = total / ((end - begin) * len(past)) if known else np.nan
        since[r] = first if first < len(past) else np.nan


@kernel
def _slot(held: Codes, code: int) -> int:
    """Where a code is, or the free slot where it belongs."""
    # Neighbouring codes spread by Fibonacci hashing (Knuth, TAOCP 3, 6.4).
    at = ((code * 2654435769) >> 12) & (len(held) - 1)
    while held[at] >= 0 and held[at] != code:
        at = (at + 1) & (len(held) - 1)
    return at
