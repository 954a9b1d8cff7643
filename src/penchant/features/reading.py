"""The compiled inner loop of reading: integers out of packed blobs, for one entity or for all items at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.features.blob import CELL_SHIFT, HEADER, LISTS_AT, ROW, ROWS_AT, TILE_BIAS
from penchant.features.sorting import sort_rows

NEVER = 2**63 - 1

Ints = NDArray[np.int64]


@kernel
def read_scalars(words: Ints, words_at: Ints, parts: Ints, weights: Ints, now: int, ints: Ints, change: Ints) -> None:
    """Write the integers of n blobs at `now` to `ints`, int64[n, slots] of zeros, and when each changes next by itself.

    `parts` is int64[parts, 7]: cell, hop, window, first weight, number of weights (0: no decay), k, slot. Results go
    into arrays that the caller made: handing arrays back costs more than a small reading does.
    """
    for e in range(len(words_at) - 1):
        base = words_at[e]
        change[e] = NEVER
        if words_at[e + 1] == base:
            continue
        rows = words[base + ROWS_AT]
        first = base + HEADER + words[base + LISTS_AT]
        for p in range(len(parts)):
            start, end, due = _span(words, first, rows, parts[p], now)
            change[e] = min(change[e], due)
            slot = parts[p, 6]
            if parts[p, 5] > 0:
                ints[e, slot], ints[e, slot + 1] = _bottom_k(words, start, end, parts[p, 5])
            else:
                total = 0
                for at in range(start, end, ROW):
                    weight = _weight(words[at], parts[p], weights, now) if parts[p, 4] > 0 else 1
                    total += words[at + 2] * weight
                ints[e, slot] = total


@kernel
def count_keyed(words: Ints, words_at: Ints, parts: Ints, now: int) -> int:
    """How many rows `read_keyed` will read: as many keys at most will come out."""
    count = 0
    for e in range(len(words_at) - 1):
        base = words_at[e]
        if words_at[e + 1] > base:
            first = base + HEADER + words[base + LISTS_AT]
            for p in range(len(parts)):
                start, end, _ = _span(words, first, words[base + ROWS_AT], parts[p], now)
                count += (end - start) // ROW
    return count


@kernel
def read_keyed(
    words: Ints,
    words_at: Ints,
    parts: Ints,
    weights: Ints,
    now: int,
    offsets: Ints,
    keys: Ints,
    values: Ints,
    change: Ints,
) -> None:
    """Write integers by key, and lower `change` to when one of them changes next by itself.

    Those of part p and blob e go to `offsets[p * n + e]:offsets[p * n + e + 1]`, keys ascending, no value 0.
    `offsets` is int64[parts * n + 1] of zeros; `keys` and `values` are long enough for `count_keyed`.
    """
    n = len(words_at) - 1
    at = 0
    rows = np.empty((64, 2), np.int64)
    for p in range(len(parts)):
        for e in range(n):
            base = words_at[e]
            if words_at[e + 1] > base:
                first = base + HEADER + words[base + LISTS_AT]
                start, end, due = _span(words, first, words[base + ROWS_AT], parts[p], now)
                change[e] = min(change[e], due)
                count = (end - start) // ROW
                if count > len(rows):
                    rows = np.empty((2 * count, 2), np.int64)
                for i in range(count):
                    row = start + ROW * i
                    weight = _weight(words[row], parts[p], weights, now) if parts[p, 4] > 0 else 1
                    rows[i, 0] = words[row + 1]
                    rows[i, 1] = words[row + 2] * weight
                at = _combine(rows, count, keys, values, at)
            offsets[p * n + e + 1] = at


@kernel
def _span(words: Ints, first: int, rows: int, part: Ints, now: int) -> tuple[int, int, int]:
    """Where the rows of a part begin and end (as word offsets), and when it changes next without events."""
    cell, hop, window, decayed = part[0], part[1], part[2], part[4]
    least = cell << CELL_SHIFT
    if hop > 0:
        tail = now // hop - (decayed - 1) if decayed > 0 else (now - window) // hop
        least += tail + TILE_BIAS
    start = first + ROW * _search(words, first, rows, least)
    end = first + ROW * _search(words, first, rows, (cell + 1) << CELL_SHIFT)
    due = NEVER
    if hop > 0 and end > start:
        if decayed > 0:
            due = (now // hop + 1) * hop
        else:
            due = ((words[start] & ((1 << CELL_SHIFT) - 1)) - TILE_BIAS + 1) * hop + window
    return start, end, due


@kernel
def _search(words: Ints, first: int, rows: int, word: int) -> int:
    """The first row whose cell-and-tile word is at least `word`."""
    low = 0
    high = rows
    while low < high:
        middle = (low + high) >> 1
        if words[first + ROW * middle] < word:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _weight(word: int, part: Ints, weights: Ints, now: int) -> int:
    """The weight of a row's tile at `now`; a tile ahead of `now` weighs as the newest."""
    tile = (word & ((1 << CELL_SHIFT) - 1)) - TILE_BIAS
    weight: int = weights[part[3] + max(now // part[1] - tile, 0)]
    return weight


@kernel
def _bottom_k(words: Ints, start: int, end: int, k: int) -> tuple[int, int]:
    """How many distinct hashes the rows hold, at most k, and the k-th smallest (0 when there are fewer)."""
    n = (end - start) // ROW
    hashes = np.zeros((n, 2), np.int64)
    for i in range(n):
        hashes[i, 0] = words[start + ROW * i + 1]
    sort_rows(hashes, n)
    count = 0
    for i in range(n):
        if i == 0 or hashes[i, 0] != hashes[i - 1, 0]:
            count += 1
            if count == k:
                return count, int(hashes[i, 0])
    return count, 0


@kernel
def _combine(rows: Ints, n: int, keys: Ints, values: Ints, at: int) -> int:
    """Write the first `n` (key, integer) rows to `keys` and `values` from `at` on; returns the end.

    They come out in the order of keys, equal keys added up, zeros left out.
    """
    sort_rows(rows, n)
    i = 0
    while i < n:
        key = rows[i, 0]
        total = 0
        while i < n and rows[i, 0] == key:
            total += rows[i, 1]
            i += 1
        if total != 0:
            keys[at] = key
            values[at] = total
            at += 1
    return at
