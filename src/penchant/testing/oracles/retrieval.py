"""Slow, plain versions of what `penchant.retrieval` computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Visit = tuple[str, str, int, int]
"""user, item, ts, position."""


def best_rows(
    scores: NDArray[np.float32], mask: NDArray[np.bool_], limit: int, above: float = -np.inf, without: int = -1
) -> list[int]:
    """The rows `topk.top_rows` must give, by sorting everything."""
    rows = [
        row
        for row in range(len(scores))
        if mask[row] and row != without and np.isfinite(scores[row]) and scores[row] > above
    ]
    return sorted(rows, key=lambda row: (-scores[row], row))[: max(limit, 0)]


def covisit(
    visits: Iterable[Visit], partners: int, table: int, key_of: Mapping[str, int]
) -> tuple[dict[str, dict[int, int]], dict[str, list[tuple[int, int, str]]]]:
    """Counts by item and partner key, and the newest items of each user as (ts, position, item), newest first.

    Keeps each user's whole past and sorts it at every visit.
    """
    counts: dict[str, dict[int, int]] = {}
    past: dict[str, dict[str, tuple[int, int]]] = {}
    for user, item, ts, position in visits:
        mine = past.setdefault(user, {})
        newest = sorted(mine, key=lambda other: mine[other], reverse=True)
        if item not in newest[: partners + 1]:
            for other in newest[:partners]:
                _add(counts.setdefault(item, {}), key_of[other], table)
                _add(counts.setdefault(other, {}), key_of[item], table)
        mine[item] = max(mine.get(item, (ts, position)), (ts, position))
    recent = {
        user: sorted(((*when, item) for item, when in mine.items()), reverse=True)[: partners + 1]
        for user, mine in past.items()
    }
    return counts, recent


def _add(counts: dict[int, int], key: int, table: int) -> None:
    if key in counts:
        counts[key] += 1
    elif len(counts) < table:
        counts[key] = 1
    else:
        del counts[min(counts, key=lambda other: (counts[other], other ^ key))]
        counts[key] = 1


def ease_weights(interactions: NDArray[np.float64], reg: float) -> NDArray[np.float64]:
    """`B` of EASE by `numpy.linalg.inv` in double precision; `interactions` is dense, users × items."""
    inverse = np.linalg.inv(interactions.T @ interactions + reg * np.eye(interactions.shape[1]))
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights, np.float64)
