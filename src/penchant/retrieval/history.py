"""Sources that ask a model of items with the live history of the person."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.kept import Kept
from penchant.retrieval.known import KnownItems, Meeting
from penchant.retrieval.topk import NOTHING, top_mapped


class ModelOfItems(Protocol):
    """A model that numbers the items that it knows."""

    @property
    def items(self) -> NDArray[np.int64]:
        """`hash_id` of each item, int64[m]."""
        ...


M = TypeVar("M", bound=ModelOfItems)


@dataclass(frozen=True, slots=True)
class FromHistory(ABC, Generic[M]):
    """Scores every item of a model from the newest `depth` items of the history that it knows.

    The item at place `k`, newest first, has weight `decay^k`; with a seed it alone is the history. Proposed are items
    with a score above zero; without a model, or without history that it knows, nothing is.
    """

    name: str
    model: M | None = None
    decay: float = 0.9
    depth: int = 100
    _meeting: Meeting = field(default_factory=Meeting, repr=False, compare=False)
    _kept: Kept[NDArray[np.float32]] = field(default_factory=Kept, repr=False, compare=False)

    @abstractmethod
    def _score(self, model: M, past: NDArray[np.int32]) -> NDArray[np.float32]:
        """The score of each item of the model, float32[m]; `past` has indices of the history, newest first."""

    @abstractmethod
    def _largest(self, model: M, past: NDArray[np.int32], wanted: NDArray[np.int32]) -> NDArray[np.int32]:
        """Per wanted index (-1: none) the place in `past` of the largest term above zero of its score, -1 for none."""

    def prepare(self, items: Items) -> KnownItems:
        return self._meeting.of(items, np.empty(0, np.int64) if self.model is None else self.model.items)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table, past = self._past(query)
        model = self.model
        if model is None or len(past) == 0 or limit <= 0:
            return NOTHING
        scores = self._kept.of(query, table, lambda: self._score(model, past))
        return Retrieved(*top_mapped(scores, table.to_row, query.eligible, limit, 0.0, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table, past = self._past(query)
        model = self.model
        scores = np.full(len(rows), np.nan, np.float32)
        if model is None or len(past) == 0:
            return scores
        wanted = table.of_row[rows]
        known = wanted >= 0
        scores[known] = self._kept.of(query, table, lambda: self._score(model, past))[wanted[known]]
        return scores

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history with the largest term above zero of its score, -1 for none."""
        table, past = self._past(query)
        if self.model is None or len(past) == 0:
            return np.full(len(rows), -1, np.int32)
        found = self._largest(self.model, past, table.of_row[rows])
        return np.where(found >= 0, table.to_row[past[found]], -1).astype(np.int32)

    def _past(self, query: Query) -> tuple[KnownItems, NDArray[np.int32]]:
        """Indices of the history that the model knows, newest first."""
        table = query.items.tables[self.name]
        assert isinstance(table, KnownItems)
        rows = query.history if query.seed_row < 0 else np.array([query.seed_row], np.int32)
        past = table.of_row[rows]
        return table, past[past >= 0][: self.depth]
