"""What came out lately from those whom the user follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.clock import Millis
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.fresh import born_of
from penchant.retrieval.topk import NOTHING, best_first
from penchant.retrieval.values import ByValue, best_places, by_value, gather, values_of


@dataclass(frozen=True, slots=True, eq=False)
class FollowedTable:
    """The rows of every creator, newest first; the moment each row came out (0: unknown) and its score."""

    creators: ByValue
    born: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Followed:
    """Items of followed creators, newest first: a creator is a value of the item attribute `creator`.

    Followed is what the attribute `follows` of the user (or of the request's context) names, and, with `part`, every
    creator whose integer in `UserState.keyed[part]` is above zero: how often the user took the action that follows.
    The score is `1 / (1 + age / window)`, the age taken at the picture's time. What is not out yet, or came at no known
    time, is not proposed.
    """

    name: str
    creator: str
    window: Millis
    follows: str | None = None
    part: int = -1
    released: str | None = None

    def prepare(self, items: Items) -> FollowedTable:
        born = born_of(items, self.released)
        scores = (1.0 / (1.0 + np.maximum(0, items.time - born) / self.window)).astype(np.float32)
        known = np.flatnonzero(born > 0).astype(np.int32)
        return FollowedTable(by_value(items, self.creator, known[best_first(scores[known])]), born, scores)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        wanted = self._wanted(table, query)
        if len(wanted) == 0 or limit <= 0:
            return NOTHING
        out = query.eligible & (table.born <= query.now)
        rows = np.unique(gather(table.creators.starts, table.creators.rows, wanted, out, limit, query.seed_row))
        scores = table.scores[rows]
        best = best_first(scores)[:limit]  # rows ascend, so that equal scores stay in their order
        return Retrieved(rows[best], scores[best])

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        own = table.creators
        places = best_places(own.offsets, own.codes, own.places, self._wanted(table, query), rows)
        shown = (places >= 0) & (table.born[rows] <= query.now)
        return np.where(shown, table.scores[rows], np.float32(np.nan)).astype(np.float32)

    def _wanted(self, table: FollowedTable, query: Query) -> NDArray[np.int32]:
        told = values_of(query, self.follows) if self.follows is not None else np.empty(0, np.int64)
        if 0 <= self.part < len(query.user.keyed):
            keys, times = query.user.keyed[self.part]
            told = np.concatenate([told, keys[times > 0]])
        return table.creators.wanted(told)

    def _table(self, query: Query) -> FollowedTable:
        table = query.items.tables[self.name]
        assert isinstance(table, FollowedTable)
        return table
