"""The best items of many cases at once, and where the right one stands; ties go against the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel


@kernel
def best(
    scores: NDArray[np.float32], answers: NDArray[np.int32], first: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """The `k` best items of each row of `scores`, int64[rows, k] padded with -1; what is not finite is left out.

    Among equal scores those that are right stand last (conservative), then the lower item first.
    """
    rows, m = scores.shape
    found = np.full((rows, k), -1, np.int64)
    held = np.empty(k, np.float32)
    right = np.zeros(m, np.bool_)
    for row in range(rows):
        for at in range(first[row], first[row + 1]):
            right[answers[at]] = True
        count = 0
        for item in range(m):
            score = scores[row, item]
            if not np.isfinite(score) or (count == k and score < held[k - 1]):
                continue
            place = count
            while place > 0:
                other = found[row, place - 1]
                above = held[place - 1]
                if above > score or (above == score and not (right[other] and not right[item])):
                    break
                place -= 1
            if place == k:
                continue
            if count < k:
                count += 1
            for to in range(count - 1, place, -1):
                found[row, to] = found[row, to - 1]
                held[to] = held[to - 1]
            found[row, place] = item
            held[place] = score
        for at in range(first[row], first[row + 1]):
            right[answers[at]] = False
    return found


@kernel
def places(scores: NDArray[np.float32], answers: NDArray[np.int32]) -> NDArray[np.int64]:
    """The rank of the one right item of each row, from 1, last among equals; 0 where it is not proposed."""
    rows, m = scores.shape
    ranks = np.zeros(rows, np.int64)
    for row in range(rows):
        own = scores[row, answers[row]]
        if np.isfinite(own):
            for item in range(m):
                score = scores[row, item]
                if np.isfinite(score) and score >= own:
                    ranks[row] += 1  # the item itself is one of them
    return ranks
