"""What is taken more often just now than it was before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.clock import Millis
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.features.builtin import BEFORE, LATELY
from penchant.retrieval.topk import NOTHING, best_first, walk


@dataclass(frozen=True, slots=True, eq=False)
class RisingTable:
    """Rows in the order in which they are proposed, and the score of every row, NaN where it is never proposed."""

    order: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rising:
    """Items that were taken more often in the last `short` milliseconds than the rest of the last `long` foretold.

    With `s` times in the short window and `l` in the long one, `e = (l - s) · short / (long - short)` was to be
    expected, and the score is `(s - e) / sqrt(e + 1)`: how far off that is in standard deviations of a Poisson count,
    so that few accidents do not pass for a rise. Only scores above zero are proposed.
    """

    name: str
    short: Millis
    long: Millis

    def prepare(self, items: Items) -> RisingTable:
        scores = np.full(items.count, np.nan, np.float32)
        if LATELY in items.feature_names and BEFORE in items.feature_names:
            lately = items.column(LATELY).astype(np.float64)
            expected = np.maximum(0.0, items.column(BEFORE) - lately) * (self.short / (self.long - self.short))
            rise = (lately - expected) / np.sqrt(expected + 1.0)
            found = np.isfinite(rise) & (rise > 0)
            scores[found] = rise[found]
        rows = np.flatnonzero(scores > 0).astype(np.int32)
        return RisingTable(rows[best_first(scores[rows])], scores)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        if limit <= 0:
            return NOTHING
        return Retrieved(*walk(table.order, table.scores, query.eligible, limit, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = self._table(query).scores[rows]
        return np.where(scores > 0, scores, np.float32(np.nan)).astype(np.float32)

    def _table(self, query: Query) -> RisingTable:
        table = query.items.tables[self.name]
        assert isinstance(table, RisingTable)
        return table
