"""The rank of the right item in many mixes of the same scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel


@kernel
def scale(scores: NDArray[np.float32], hidden: NDArray[np.int32], first: NDArray[np.int64]) -> None:
    """Bring every row of float32[sources, cases, items] to 0 … 1 in place: above zero over the largest, else 0.

    The items `hidden[first[c]:first[c + 1]]` are taken out of case `c` beforehand.
    """
    for source in range(scores.shape[0]):
        for case in range(scores.shape[1]):
            row = scores[source, case]
            for at in range(first[case], first[case + 1]):
                row[hidden[at]] = 0
            top = np.float32(0)
            for item in range(len(row)):
                if not np.isfinite(row[item]) or row[item] < 0:
                    row[item] = 0
                elif row[item] > top:
                    top = row[item]
            if top > 0:
                for item in range(len(row)):
                    row[item] /= top


@kernel
def ranks(
    scores: NDArray[np.float32],
    sources: NDArray[np.int64],
    weights: NDArray[np.float32],
    answers: NDArray[np.int32],
    into: NDArray[np.int64],
) -> None:
    """Set int64[variants, cases]: the place of each answer from 1, last among equals; 0 where its sum is zero.

    Variant `v` sums `weights[v, j]` times the scaled scores of source `sources[v, j]`, three of them, in that order.
    """
    for case in range(scores.shape[1]):
        answer = answers[case]
        for variant in range(len(sources)):
            a = scores[sources[variant, 0], case]
            b = scores[sources[variant, 1], case]
            c = scores[sources[variant, 2], case]
            x, y, z = weights[variant, 0], weights[variant, 1], weights[variant, 2]
            own = x * a[answer] + y * b[answer] + z * c[answer]
            count = 0
            if own > 0:
                for item in range(len(a)):
                    if x * a[item] + y * b[item] + z * c[item] >= own:
                        count += 1
            into[variant, case] = count
