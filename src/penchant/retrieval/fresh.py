"""What is new: the latest items inside a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.clock import Millis
from penchant.core.compile import kernel
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.topk import NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class FreshTable:
    """Rows by score descending, the moment each row came out (0: unknown) and its score."""

    order: NDArray[np.int32]
    born: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fresh:
    """Items that came out in the last `window` milliseconds before `query.now`, newest first.

    An item came out when its timestamp attribute `released` says; without one, when its first `item` event arrived.
    What is not out yet is not proposed. The score is `1 - age / window` with the age taken at the picture's time, so
    that it does not move between refreshes.
    """

    name: str
    window: Millis
    released: str | None = None

    def prepare(self, items: Items) -> FreshTable:
        born = born_of(items, self.released)
        scores = (1.0 - (items.time - born) / self.window).astype(np.float32)
        known = np.flatnonzero(born > 0).astype(np.int32)
        return FreshTable(known[np.argsort(-scores[known], kind="stable")], born, scores)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        if limit <= 0:
            return NOTHING
        return Retrieved(
            *_newest(
                table.order, table.born, table.scores, query.eligible, limit,
                query.now - self.window, query.now, query.seed_row,
            )
        )  # fmt: skip

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        born = table.born[rows]
        inside = (born > 0) & (born > query.now - self.window) & (born <= query.now)
        return np.where(inside, table.scores[rows], np.float32(np.nan)).astype(np.float32)

    def _table(self, query: Query) -> FreshTable:
        table = query.items.tables[self.name]
        assert isinstance(table, FreshTable)
        return table


def born_of(items: Items, released: str | None) -> NDArray[np.int64]:
    """When each row came out, in ms: the timestamp attribute says, else the first `item` event; 0 is unknown."""
    born = items.listed_at[: items.count]
    if released is not None and released in items.timestamps:
        told = items.timestamps[released]
        born = np.where(told >= 0, told, born)
    return born


@kernel
def _newest(
    order: NDArray[np.int32],
    born: NDArray[np.int64],
    scores: NDArray[np.float32],
    mask: NDArray[np.bool_],
    limit: int,
    after: int,
    now: int,
    without: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    room = min(limit, len(order))
    rows = np.empty(room, np.int32)
    best = np.empty(room, np.float32)
    size = 0
    for index in range(len(order)):
        row = order[index]
        # Scores are rounded, so rows of one score may be a little out of order in time: stop only well past the edge.
        if size == room or born[row] < after - 3_600_000:
            break
        if mask[row] and row != without and after < born[row] <= now:
            rows[size] = row
            best[size] = scores[row]
            size += 1
    return rows[:size].copy(), best[:size].copy()
