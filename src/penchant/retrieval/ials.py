"""Retrieval by iALS: the person's vector is solved anew from the live history at every request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.factors import FactorModel, fold_in, shares
from penchant.retrieval.kept import Kept
from penchant.retrieval.known import KnownItems, Meeting
from penchant.retrieval.topk import NOTHING, top_mapped


@dataclass(frozen=True, slots=True)
class Ials:
    """Scores by the product of item factors and the person's, folded in from the newest `depth` items of the history.

    The item at place `k`, newest first, has weight `decay^k`. With a seed it alone is the history. Proposed are items
    with a score above zero (what is not observed is fitted to zero) that the model knows; without a model, or without
    history that it knows, nothing is.
    """

    name: str
    model: FactorModel | None = None
    decay: float = 0.9
    depth: int = 100
    _meeting: Meeting = field(default_factory=Meeting, repr=False, compare=False)
    _kept: Kept[NDArray[np.float32]] = field(default_factory=Kept, repr=False, compare=False)

    def prepare(self, items: Items) -> KnownItems:
        return self._meeting.of(items, np.empty(0, np.int64) if self.model is None else self.model.items)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table, past = self._past(query)
        if self.model is None or len(past) == 0 or limit <= 0:
            return NOTHING
        scores = self._scores(query, table, self.model, past)
        return Retrieved(*top_mapped(scores, table.to_row, query.eligible, limit, 0.0, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table, past = self._past(query)
        scores = np.full(len(rows), np.nan, np.float32)
        if self.model is None or len(past) == 0:
            return scores
        wanted = table.of_row[rows]
        known = wanted >= 0
        scores[known] = self._scores(query, table, self.model, past)[wanted[known]]
        return scores

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history with the largest term above zero of its score, -1 for none.

        A score is a sum over the history: the person's vector is `A⁻¹·Σ c·h`, so that the item `h` of weight `c` gives
        `c·yᵀ·A⁻¹·h` to the item `y` (Hu et al. 2008, section 5).
        """
        table, past = self._past(query)
        model = self.model
        if model is None or len(past) == 0:
            return np.full(len(rows), -1, np.int32)
        wanted = table.of_row[rows]
        terms = shares(model, past, self._weights(len(past)))
        found = _largest(model.factors, terms, wanted)
        return np.where(found >= 0, table.to_row[past[found]], -1).astype(np.int32)

    def _past(self, query: Query) -> tuple[KnownItems, NDArray[np.int32]]:
        """Indices of the history that the model knows, newest first."""
        table = query.items.tables[self.name]
        assert isinstance(table, KnownItems)
        rows = query.history if query.seed_row < 0 else np.array([query.seed_row], np.int32)
        past = table.of_row[rows]
        return table, past[past >= 0][: self.depth]

    def _weights(self, count: int) -> NDArray[np.float32]:
        return np.power(self.decay, np.arange(count)).astype(np.float32)

    def _scores(
        self, query: Query, table: KnownItems, model: FactorModel, past: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """A score for each item of the model: one product, kept for whoever asks next about the same request."""
        return self._kept.of(query, table, lambda: model.factors @ fold_in(model, past, self._weights(len(past))))


@kernel
def _largest(factors: NDArray[np.float32], terms: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.int32]:
    """Per wanted index the place in the history of the largest term above zero, -1 for none; ties go to the newest."""
    found = np.full(len(wanted), -1, np.int32)
    for at in range(len(wanted)):
        if wanted[at] < 0:
            continue
        item = factors[wanted[at]]
        best = np.float32(0)
        for place in range(len(terms)):
            term = np.float32(0)
            for k in range(len(item)):
                term += item[k] * terms[place, k]
            if term > best:
                best = term
                found[at] = place
    return found
