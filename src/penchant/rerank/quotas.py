"""Caps: at most so many items of one value, and no two neighbours with the same. And slots kept for new items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.compile import kernel
from penchant.core.items import Items
from penchant.rerank.diversity import overlaps
from penchant.settings import Cap

TAKEN, FULL, CLASH, OLD = 1, 2, 4, 8
"""Why a candidate may not stand in a slot: shown already, a value at its cap, a value of the item above, not new."""

FIRST = 4
"""How many slots at the top are never kept for new items."""
SHOWN = "total_impression"
"""The feature that counts how often an item was shown."""
YOUNG: Millis = 30 * 86_400_000
"""How long after its first `item` event an item goes before older ones that were shown as seldom."""


def compile_caps(caps: Sequence[Cap], attributes: Sequence[str]) -> NDArray[np.int64]:
    """int64[3, caps]: attribute (index into `attributes`), most per value, 1 where neighbours must differ."""
    unbound = np.iinfo(np.int64).max
    return np.array(
        [
            [attributes.index(cap.by) for cap in caps],
            [unbound if cap.max is None else cap.max for cap in caps],
            [not cap.adjacent for cap in caps],
        ],
        np.int64,
    )


def new_rows(items: Items, rows: NDArray[np.int32], below: int) -> NDArray[np.bool_]:
    """Which of the rows were shown fewer than `below` times, and came in the last `YOUNG` where any of those did.

    Most of a catalogue is shown seldom, and the best of what is old would take every slot kept for what is new. Without
    the count none is new.
    """
    if SHOWN not in items.feature_names:
        return np.zeros(len(rows), np.bool_)
    shown = items.features[rows, items.feature_names.index(SHOWN)]
    found: NDArray[np.bool_] = ~(shown >= below)  # one without a count was never shown
    young = found & (items.time - items.listed_at[rows] < YOUNG)
    return young if young.any() else found


@kernel
def new_by(slot: int, size: int, slots: int) -> int:
    """How many new items are due down to `slot` (from 0): `slots` of them spread evenly from slot `FIRST` on."""
    room = size - FIRST
    if slot < FIRST or room <= 0:
        return 0
    return (slot - FIRST) * min(slots, room) // room + 1


@kernel
def apply_caps(
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    codes: NDArray[np.int32],
    caps: NDArray[np.int64],
    shown: NDArray[np.int64],
    barred: NDArray[np.uint8],
) -> None:
    """Mark what the item shown last rules out, in the slot beneath it or for good.

    `barred` is uint8[rows] of the bits `TAKEN`, `FULL` and `CLASH`; `CLASH` is set anew at each call.
    """
    last = shown[len(shown) - 1]
    for i in range(len(barred)):
        barred[i] &= np.uint8(~CLASH & 0xFF)
    barred[last] |= np.uint8(TAKEN)
    for c in range(caps.shape[1]):
        a = caps[0, c]
        if caps[2, c]:
            both = overlaps(begin[a], end[a], codes, last, begin.shape[1])
            for i in range(len(both)):
                if both[i] > 0:
                    barred[i] |= np.uint8(CLASH)
        if caps[1, c] > len(shown):
            continue
        for k in range(begin[a, last], end[a, last]):
            n = 0
            for s in range(len(shown)):
                for m in range(begin[a, shown[s]], end[a, shown[s]]):
                    n += codes[m] == codes[k]
            if n < caps[1, c]:
                continue
            for i in range(begin.shape[1]):
                for m in range(begin[a, i], end[a, i]):
                    if codes[m] == codes[k]:
                        barred[i] |= np.uint8(FULL)
