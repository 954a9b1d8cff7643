"""Plain second implementations of the request path: merging, trees and fusion, one value at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def merge(
    proposals: Sequence[Sequence[int]], quotas: Sequence[int], eligible: Sequence[bool]
) -> tuple[list[int], list[int], list[list[int | None]]]:
    """Rows, bits, and per source the rank of each row (from 1): weighted round robin over the proposals."""
    lists = [[(rank, row) for rank, row in enumerate(rows, 1) if eligible[row]] for rows in proposals]
    taken = [0] * len(lists)
    rows: list[int] = []
    waiting = [list(entries) for entries in lists]
    while any(waiting):
        turn = min(
            (source for source in range(len(lists)) if waiting[source]),
            key=lambda source: (Fraction(taken[source] + 1, quotas[source]), source),
        )
        while waiting[turn]:
            _, row = waiting[turn].pop(0)
            if row not in rows:
                rows.append(row)
                taken[turn] += 1
                break
    ranks: list[list[int | None]] = [
        [{row: rank for rank, row in entries}.get(row) for row in rows] for entries in lists
    ]
    bits = [sum(1 << source for source in range(len(lists)) if ranks[source][at]) for at in range(len(rows))]
    return rows, bits, ranks


def fuse(ranks: Sequence[int | None], weights: Sequence[float]) -> float:
    """Reciprocal-rank fusion of one row, 1 where every source puts it first."""
    shares = [w * 61 / (60 + rank) for rank, w in zip(ranks, weights, strict=True) if rank is not None]
    return math.fsum(shares) / math.fsum(weights)
