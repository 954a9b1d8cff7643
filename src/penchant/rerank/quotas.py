"""Caps: at most so many items of one value, and no two neighbours with the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.rerank.diversity import CodeSets, has, shared
from penchant.settings import Cap

FREE, SHOWN, BLOCKED = 0, 1, 2
"""What became of a candidate: may still be shown, is shown, has a value whose cap is reached."""


class Caps(NamedTuple):
    """Caps as columns: attribute (index into the code sets), most per value, neighbours may share a value."""

    attribute: NDArray[np.int64]
    most: NDArray[np.int64]
    apart: NDArray[np.bool_]


def compile_caps(caps: Sequence[Cap], attributes: Sequence[str]) -> Caps:
    """The caps over the code sets of `attributes`; without `max` any number of one value may be shown."""
    return Caps(
        np.array([attributes.index(cap.by) for cap in caps], np.int64),
        np.array([np.iinfo(np.int64).max if cap.max is None else cap.max for cap in caps], np.int64),
        np.array([not cap.adjacent for cap in caps], np.bool_),
    )


@kernel
def clashes(sets: CodeSets, caps: Caps, i: int, j: int) -> bool:
    """Whether `i` may not stand beside `j`: they share a value of an attribute that must not repeat."""
    for c in range(len(caps.attribute)):  # noqa: SIM110
        if caps.apart[c] and shared(sets, caps.attribute[c], i, j) > 0:
            return True
    return False


@kernel
def block(sets: CodeSets, caps: Caps, shown: NDArray[np.int64], status: NDArray[np.uint8]) -> None:
    """Mark what the item shown last rules out: free candidates with a value that now stands as often as it may."""
    last = shown[len(shown) - 1]
    for c in range(len(caps.attribute)):
        a = caps.attribute[c]
        if caps.most[c] > len(shown):
            continue
        for k in range(sets.begin[a, last], sets.end[a, last]):
            n = 0
            for s in range(len(shown)):
                n += has(sets, a, shown[s], sets.codes[k])
            if n < caps.most[c]:
                continue
            for i in range(len(status)):
                if status[i] == FREE and has(sets, a, i, sets.codes[k]):
                    status[i] = BLOCKED
