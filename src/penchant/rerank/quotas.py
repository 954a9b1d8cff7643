"""Caps: at most so many items of one value, and no two neighbours with the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.rerank.diversity import overlaps
from penchant.settings import Cap

TAKEN, FULL, CLASH = 1, 2, 4
"""Why a candidate may not stand in a slot: shown already, a value at its cap, a value of the item above."""


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
