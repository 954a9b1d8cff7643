"""What to begin with: the popular things of the kinds that somebody new picked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.popular import FEATURE, Popular
from penchant.retrieval.topk import NOTHING, best_first
from penchant.retrieval.values import ByValue, best_places, by_value, gather, values_of

_POPULAR = Popular("", fill=True)


@dataclass(frozen=True, slots=True)
class Picks:
    """Items that have one of the picked values of the attribute `taste`, the kinds taking turns.

    Picked is what the attribute `picks` of the user (or of the request's context) names. Within a value listed items
    stand in the order of decayed popularity; what has none follows in that of the sum of the features `counts`, as of
    what is popular just now there is little where few people come, and then as `Popular` with `fill` has it. An item's
    score is `1 / (1 + place)` with its best place among the picked values, so that the first of every value come before
    the second of any. Once the user did something of positive weight to `until` items, their history says more, and
    nothing is proposed.
    """

    name: str
    picks: str
    taste: str
    until: int = 10
    counts: tuple[str, ...] = ()

    def prepare(self, items: Items) -> ByValue:
        order = _POPULAR.prepare(items).order
        taken = np.zeros(items.count, np.float64)
        for name in self.counts:
            taken += np.nan_to_num(items.column(name)) if name in items.feature_names else 0.0
        popularity = items.column(FEATURE) if FEATURE in items.feature_names else np.zeros(items.count, np.float32)
        taken[popularity > 0] = np.inf  # these come first, in the order that they have already
        order = order[np.argsort(-taken[order], kind="stable")]
        return by_value(items, self.taste, order[items.listed[order]])

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        wanted = self._wanted(table, query)
        if len(wanted) == 0 or limit <= 0:
            return NOTHING
        rows = np.unique(gather(table.starts, table.rows, wanted, query.eligible, limit, query.seed_row))
        scores = self._scores(table, wanted, rows)
        best = best_first(scores)[:limit]  # rows ascend, so that equal scores stay in their order
        return Retrieved(rows[best], scores[best])

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        return self._scores(table, self._wanted(table, query), rows)

    @staticmethod
    def _scores(table: ByValue, wanted: NDArray[np.int32], rows: NDArray[np.int32]) -> NDArray[np.float32]:
        places = best_places(table.offsets, table.codes, table.places, wanted, rows)
        return np.where(places >= 0, 1.0 / (1.0 + np.maximum(places, 0)), np.nan).astype(np.float32)

    def _wanted(self, table: ByValue, query: Query) -> NDArray[np.int32]:
        return table.wanted(values_of(query, self.picks) if len(query.history) < self.until else np.empty(0, np.int64))

    def _table(self, query: Query) -> ByValue:
        table = query.items.tables[self.name]
        assert isinstance(table, ByValue)
        return table
