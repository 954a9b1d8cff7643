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
def read_scalars(words: Ints, words_at: Ints, parts: Ints, weights: Ints, slots: int, now: int) -> tuple[Ints, Ints]:
    """Integers int64[n, slots + 1] (the last slot stays 0) of n blobs at `now`, and when each changes next by itself.

    `parts` is int64[parts, 7]: cell, hop, window, first weight, number of weights (0: no decay), k, slot.
    """
    n = len(words_at) - 1
    ints = np.zeros((n, slots + 1), np.int64)
    change = np.full(n, NEVER, np.int64)
    for e in range(n):
        base = words_at[e]
        if words_at[e + 1] == base:
            continue
        rows = words[base + ROWS_AT]
        first = base + HEADER + words[base + LISTS_AT]
        for p in range(len(parts)):
            start, end, due = _span(words, first, rows, parts[p], now)
            change[e] = min(change[e], due)
            slot = parts[p, 6]
            if parts[p, 5] > 0:
                count, kth = _bottom_k(words, start, end, parts[p, 5])
                ints[e, slot] = count
                ints[e, slot + 1] = kth
            elif parts[p, 4] > 0:
                total = np.int64(0)
                for at in range(start, end, ROW):
                    total += words[at + 2] * _weight(words[at], parts[p], weights, now)
                ints[e, slot] = total
            else:
                total = np.int64(0)
                for at in range(start, end, ROW):
                    total += words[at + 2]
                ints[e, slot] = total
    return ints, change


@kernel
def read_keyed(words: Ints, words_at: Ints, parts: Ints, weights: Ints, now: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Integers by key: (offsets int64[parts * n + 1], keys, values, next change int64[n]).

    Those of part p and blob e are at `offsets[p * n + e]:offsets[p * n + e + 1]`, keys ascending, no value is 0.
    """
    n = len(words_at) - 1
    n_parts = len(parts)
    change = np.full(n, NEVER, np.int64)
    spans = np.zeros((n_parts * n, 2), np.int64)
    bound = 0
    longest = 0
    for p in range(n_parts):
        for e in range(n):
            base = words_at[e]
            if words_at[e + 1] > base:
                first = base + HEADER + words[base + LISTS_AT]
                start, end, due = _span(words, first, words[base + ROWS_AT], parts[p], now)
                change[e] = min(change[e], due)
                spans[p * n + e, 0] = start
                spans[p * n + e, 1] = end
                bound += (end - start) // ROW
                longest = max(longest, (end - start) // ROW)
    offsets = np.zeros(n_parts * n + 1, np.int64)
    keys = np.empty(bound, np.int64)
    values = np.empty(bound, np.int64)
    rows = np.empty((longest, 2), np.int64)
    at = 0
    for s in range(n_parts * n):
        p = s // n
        count = 0
        for row in range(spans[s, 0], spans[s, 1], ROW):
            value = words[row + 2]
            if parts[p, 4] > 0:
                value *= _weight(words[row], parts[p], weights, now)
            rows[count, 0] = words[row + 1]
            rows[count, 1] = value
            count += 1
        at = _combine(rows, count, keys, values, at)
        offsets[s + 1] = at
    return offsets, keys[:at], values[:at], change


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
