"""What people who turned to the same items turned to next."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel
from penchant.core.items import Items, Keyed
from penchant.core.query import Query
from penchant.retrieval.kept import Kept
from penchant.retrieval.topk import NOTHING, top_listed


@dataclass(frozen=True, slots=True, eq=False)
class CovisitTable:
    """The counts, and what each row's counts are divided by."""

    neighbours: Keyed | None
    scale: NDArray[np.float32]


Summed = tuple[NDArray[np.float32], NDArray[np.int32]]
"""The score of every row, and the rows that have one."""


@dataclass(frozen=True, slots=True)
class Covisit:
    """Neighbours of the seed item, or of the newest `seeds` of the user's history.

    `score(j) = Σ_k decay^k · c(i_k, j) / (c(i_k) · c(j))^damping` over the history `i_0, i_1, …`, newest first, where
    `c(i, j)` counts common visits and `c(i)` is the sum of the row's counts. `damping = 0.5` is the cosine of
    item-based collaborative filtering (Sarwar et al. 2001).
    """

    name: str
    seeds: int = 20
    decay: float = 0.8
    damping: float = 0.5
    _kept: Kept[Summed] = field(default_factory=Kept, repr=False, compare=False)

    def prepare(self, items: Items) -> CovisitTable:
        neighbours = items.neighbours
        if neighbours is None or items.count == 0:
            return CovisitTable(None, np.empty(0, np.float32))
        totals = _totals(neighbours.offsets[: items.count + 1], neighbours.values)
        return CovisitTable(neighbours, (np.maximum(totals, 1) ** -self.damping).astype(np.float32))

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        summed = self._sum(query)
        if summed is None or limit <= 0:
            return NOTHING
        scores, listed = summed
        return Retrieved(*top_listed(listed, scores, query.eligible, limit, 0.0, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        summed = self._sum(query)
        if summed is None:
            return np.full(len(rows), np.nan, np.float32)
        scores = summed[0][rows]
        scores[scores == 0] = np.nan
        return scores

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history whose term of the score is the largest, -1 for none."""
        table, seeds = self._seeds(query)
        if table.neighbours is None or len(seeds) == 0:
            return np.full(len(rows), -1, np.int32)
        neighbours = table.neighbours
        found = _largest(neighbours.offsets, neighbours.keys, neighbours.values, table.scale, seeds, self.decay, rows)
        return np.where(found >= 0, seeds[found], -1).astype(np.int32)

    def _sum(self, query: Query) -> Summed | None:
        table, seeds = self._seeds(query)
        if table.neighbours is None or len(seeds) == 0:
            return None
        neighbours = table.neighbours
        return self._kept.of(
            query,
            table,
            lambda: _gather(neighbours.offsets, neighbours.keys, neighbours.values, table.scale, seeds, self.decay),
        )

    def _seeds(self, query: Query) -> tuple[CovisitTable, NDArray[np.int32]]:
        """The table of the picture, and the rows to go from, newest first."""
        table = query.items.tables[self.name]
        assert isinstance(table, CovisitTable)
        if query.seed_row >= 0:
            return table, np.array([query.seed_row], np.int32)
        return table, query.history[: self.seeds]


@kernel
def _totals(offsets: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = np.empty(len(offsets) - 1, np.float64)
    for row in range(len(totals)):
        total = 0
        for at in range(offsets[row], offsets[row + 1]):
            total += values[at]
        totals[row] = total
    return totals


@kernel
def _gather(
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    scale: NDArray[np.float32],
    seeds: NDArray[np.int32],
    decay: float,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The score of every row, 0 where it is nobody's neighbour, and the rows that have one."""
    scores = np.zeros(len(scale), np.float32)
    room = 0
    for seed in seeds:
        room += offsets[seed + 1] - offsets[seed]
    listed = np.empty(room, np.int32)
    size = 0
    weight = 1.0
    for seed in seeds:
        share = np.float32(weight * scale[seed])
        for at in range(offsets[seed], offsets[seed + 1]):
            row = keys[at]
            gain = share * np.float32(values[at]) * scale[row]
            if scores[row] == 0 and gain > 0:
                listed[size] = row
                size += 1
            scores[row] += gain
        weight *= decay
    return scores, listed[:size].copy()


@kernel
def _largest(
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    scale: NDArray[np.float32],
    seeds: NDArray[np.int32],
    decay: float,
    rows: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Per row the place in `seeds` of the largest term above zero, -1 for none; ties go to the newest."""
    found = np.full(len(rows), -1, np.int32)
    best = np.zeros(len(rows), np.float32)
    weight = 1.0
    for place in range(len(seeds)):
        seed = seeds[place]
        share = np.float32(weight * scale[seed])
        begin, end = offsets[seed], offsets[seed + 1]
        for at in range(len(rows)):
            to = begin + np.searchsorted(keys[begin:end], np.int64(rows[at]))
            if to < end and keys[to] == rows[at]:
                term = share * np.float32(values[to]) * scale[rows[at]]
                if term > best[at]:
                    best[at] = term
                    found[at] = place
        weight *= decay
    return found
