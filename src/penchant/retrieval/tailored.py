"""What is new and like what the user takes: the place where an item without a past meets its first people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.content import Content
from penchant.retrieval.fresh import Fresh, FreshTable
from penchant.retrieval.topk import NOTHING, best_first


@dataclass(frozen=True, slots=True)
class NewForYou:
    """The newest items, those nearest to the user's taste first.

    Looked at are the newest `depth` that may be shown of what `fresh` proposes. The score is that of `fresh`, which
    falls with age, times that of `taste`; only where both are above zero is an item proposed, so that somebody without
    a history gets none. The picture must hold the table of `taste` too; `fresh` goes by the name of this source.
    """

    name: str
    fresh: Fresh
    taste: Content
    depth: int = 2_000

    def prepare(self, items: Items) -> FreshTable:
        return self.fresh.prepare(items)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        rows = np.sort(self.fresh.retrieve(query, self.depth).rows) if limit > 0 else NOTHING.rows
        if len(rows) == 0:
            return NOTHING
        scores = self.score_rows(query, rows)
        near = np.isfinite(scores)
        rows, scores = rows[near], scores[near]
        best = best_first(scores)[:limit]  # rows ascend, so that equal scores stay in their order
        return Retrieved(rows[best], scores[best])

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = self.fresh.score_rows(query, rows) * self.taste.score_rows(query, rows)
        return np.where(scores > 0, scores, np.float32(np.nan)).astype(np.float32)

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """The row of the history that weighed most in the taste, as `taste` tells it."""
        return self.taste.contributor(query, rows)
