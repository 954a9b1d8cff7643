"""The compiled inner loop of the fold: old blobs merged with the touches of a batch.

A *touch* is one record seen from one side: an interaction, or one item of an impression. Rows are merged like
sorted relations: equal (cell, tile, key) add up, zero sums go, distinct tiles keep their k smallest hashes, tiles that
no window can see any more go. All of it commutes, so the result depends on the set of records alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.features.blob import (
    CELL_SHIFT,
    CLOCK_AT,
    CODEC_AT,
    CODEC_WORD,
    DISTINCT_ROW,
    HEADER,
    LIST_ROW,
    LISTS_AT,
    ROW,
    ROWS_AT,
    TILE_BIAS,
)
from penchant.features.sorting import sort_rows

COUNT, VALUE, PRESENT = 0, 1, 2
UNKEYED, BY_HASH = -1, -2

Ints = NDArray[np.int64]


@kernel
def merge(
    old: Ints,
    old_at: Ints,
    touch_at: Ints,
    touches: Ints,
    keys_at: Ints,
    keys: Ints,
    attributes: int,
    cells: Ints,
    by_action_at: Ints,
    by_action: Ints,
    lists: Ints,
    list_mask: NDArray[np.bool_],
) -> tuple[Ints, Ints]:
    """New blobs as (words, int64[entities + 1] offsets).

    `touches` is int64[n, 8], grouped by entity: ts, position, ingested_at, action, q, has value, hash of the other id,
    index of the other entity. `keys[keys_at[o * attributes + a]:...]` are the ascending keys of attribute `a` of other
    entity `o`. `cells` is int64[cells, 5]: hop, retained tiles, measure, key source, k. `lists` is int64[lists, 2]:
    rows, distinct.
    """
    entities = len(old_at) - 1
    n_lists = len(lists)
    bound = 0
    largest = 0
    for e in range(entities):
        grown = 0
        for t in range(touch_at[e], touch_at[e + 1]):
            action = touches[t, 3]
            for c in range(by_action_at[action], by_action_at[action + 1]):
                source = cells[by_action[c], 3]
                if source >= 0:
                    o = touches[t, 7] * attributes + source
                    grown += keys_at[o + 1] - keys_at[o]
                else:
                    grown += 1
        largest = max(largest, grown)
        fresh = touch_at[e + 1] - touch_at[e]
        bound += old_at[e + 1] - old_at[e] + HEADER + n_lists + ROW * grown + LIST_ROW * n_lists * fresh
    out = np.empty(bound, np.int64)
    out_at = np.zeros(entities + 1, np.int64)
    new = np.empty((largest, ROW), np.int64)
    at = 0
    for e in range(entities):
        base = old_at[e]
        end = old_at[e + 1]
        clock = -(2**62)
        n_old = 0
        if end > base:
            clock = old[base + CLOCK_AT]
            n_old = old[base + ROWS_AT]
        for t in range(touch_at[e], touch_at[e + 1]):
            clock = max(clock, touches[t, 2])
        grown = _lift(
            touch_at[e], touch_at[e + 1], touches, keys_at, keys, attributes, cells, by_action_at, by_action, new
        )
        sort_rows(new, grown)
        start = at
        out[start + CODEC_AT] = CODEC_WORD
        out[start + LISTS_AT] = n_lists
        out[start + CLOCK_AT] = clock
        at += HEADER + n_lists
        first = at
        at = _merge_rows(old, base + HEADER + n_lists, n_old, new, grown, cells, clock, out, at)
        out[start + ROWS_AT] = (at - first) // ROW
        list_base = base + HEADER + n_lists + ROW * n_old
        for i in range(n_lists):
            n_rows = old[base + HEADER + i] if end > base else 0
            width = DISTINCT_ROW if lists[i, 1] else LIST_ROW
            before = at
            at = _merge_list(
                old, list_base, n_rows, touches, touch_at[e], touch_at[e + 1], list_mask[i], lists[i, 0], width, out, at
            )
            out[start + HEADER + i] = (at - before) // width
            list_base += n_rows * width
        out_at[e + 1] = at
    return out[:at], out_at


@kernel
def _lift(
    first: int,
    last: int,
    touches: Ints,
    keys_at: Ints,
    keys: Ints,
    attributes: int,
    cells: Ints,
    by_action_at: Ints,
    by_action: Ints,
    new: Ints,
) -> int:
    """Write what touches first .. last add to their cells; returns how many rows."""
    n = 0
    for t in range(first, last):
        action = touches[t, 3]
        for c in range(by_action_at[action], by_action_at[action + 1]):
            cell = by_action[c]
            hop = cells[cell, 0]
            tile = touches[t, 0] // hop if hop > 0 else 0
            word = (cell << CELL_SHIFT) + tile + TILE_BIAS
            measure = cells[cell, 2]
            amount = np.int64(1)
            if measure == VALUE:
                amount = touches[t, 4]
            elif measure == PRESENT:
                amount = touches[t, 5]
            source = cells[cell, 3]
            if source >= 0:
                o = touches[t, 7] * attributes + source
                for k in range(keys_at[o], keys_at[o + 1]):
                    new[n, 0] = word
                    new[n, 1] = keys[k]
                    new[n, 2] = amount
                    n += 1
            else:
                new[n, 0] = word
                new[n, 1] = touches[t, 6] if source == BY_HASH else 0
                new[n, 2] = amount
                n += 1
    return n


@kernel
def _merge_rows(
    old: Ints, base: int, n_old: int, new: Ints, n_new: int, cells: Ints, clock: int, out: Ints, at: int
) -> int:
    """Merge `n_old` rows at `old[base:]` and the first `n_new` of the sorted `new` into `out[at:]`; returns the end."""
    i = 0
    j = 0
    cell = -1
    least = np.int64(0)
    k = 0
    tile_word = np.int64(-1)
    in_tile = 0
    while i < n_old or j < n_new:
        o = base + ROW * i
        take_old = j >= n_new or (
            i < n_old and (old[o] < new[j, 0] or (old[o] == new[j, 0] and old[o + 1] <= new[j, 1]))
        )
        if take_old:
            word, key, value = old[o], old[o + 1], old[o + 2]
            i += 1
        else:
            word, key, value = new[j, 0], new[j, 1], new[j, 2]
            j += 1
        while j < n_new and new[j, 0] == word and new[j, 1] == key:
            value += new[j, 2]
            j += 1
        if word >> CELL_SHIFT != cell:
            cell = word >> CELL_SHIFT
            k = cells[cell, 4]
            least = np.int64(cell) << CELL_SHIFT
            if cells[cell, 0] > 0:
                least += clock // cells[cell, 0] - cells[cell, 1] + TILE_BIAS
        if word < least:
            continue
        if k > 0:
            if word != tile_word:
                tile_word = word
                in_tile = 0
            if in_tile >= k:
                continue
            in_tile += 1
            value = np.int64(1)
        elif value == 0:
            continue
        out[at] = word
        out[at + 1] = key
        out[at + 2] = value
        at += ROW
    return at


@kernel
def _merge_list(
    old: Ints,
    base: int,
    n_old: int,
    touches: Ints,
    first: int,
    last: int,
    mask: NDArray[np.bool_],
    limit: int,
    width: int,
    out: Ints,
    at: int,
) -> int:
    """Merge a list, newest first by (ts, position), with the touches it takes; returns the end in `out`."""
    new = np.empty(last - first, np.int64)
    n_new = 0
    for t in range(first, last):
        if mask[touches[t, 3]]:
            j = n_new
            while j > 0 and (
                touches[new[j - 1], 0] < touches[t, 0]
                or (touches[new[j - 1], 0] == touches[t, 0] and touches[new[j - 1], 1] < touches[t, 1])
            ):
                new[j] = new[j - 1]
                j -= 1
            new[j] = t
            n_new += 1
    if n_new == 0:
        size = n_old * width
        for w in range(size):
            out[at + w] = old[base + w]
        return at + size
    start = at
    i = 0
    j = 0
    while (i < n_old or j < n_new) and at < start + limit * width:
        o = base + i * width
        t = new[min(j, n_new - 1)]
        take_old = j >= n_new or (
            i < n_old and (old[o] > touches[t, 0] or (old[o] == touches[t, 0] and old[o + 1] > touches[t, 1]))
        )
        known = False
        if take_old:
            if width == DISTINCT_ROW:
                for b in range(j):
                    known = known or touches[new[b], 6] == old[o + 2]
            if not known:
                for w in range(width):
                    out[at + w] = old[o + w]
                at += width
            i += 1
        else:
            if width == DISTINCT_ROW:
                for b in range(start + 2, at, width):
                    known = known or out[b] == touches[t, 6]
            if not known:
                out[at] = touches[t, 0]
                out[at + 1] = touches[t, 1]
                out[at + 2] = touches[t, 6]
                if width == LIST_ROW:
                    out[at + 3] = touches[t, 3]
                    out[at + 4] = touches[t, 4]
                at += width
            j += 1
    return at
