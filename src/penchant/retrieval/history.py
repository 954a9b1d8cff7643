"""Sources that ask a model of items with the live history of the person."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel
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


class Visits(NamedTuple):
    """The part of a history that a model knows, newest first; parallel arrays."""

    items: NDArray[np.int32]
    """Indices of the model."""
    times: NDArray[np.int64]
    """Of each visit, ms."""


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
    _kept: Kept[tuple[NDArray[np.float32] | None]] = field(default_factory=Kept, repr=False, compare=False)

    @abstractmethod
    def _score(self, model: M, past: Visits) -> NDArray[np.float32]:
        """The score of each item of the model, float32[m]."""

    @abstractmethod
    def _largest(self, model: M, past: Visits, wanted: NDArray[np.int32]) -> NDArray[np.int32]:
        """Per wanted index (-1: none) the place in `past` of the largest term above zero of its score, -1 for none."""

    def prepare(self, items: Items) -> KnownItems:
        return self._meeting.of(items, np.empty(0, np.int64) if self.model is None else self.model.items)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table, scores = self._asked(query)
        if scores is None or limit <= 0:
            return NOTHING
        return Retrieved(*top_mapped(scores, table.to_row, query.eligible, limit, 0.0, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table, scores = self._asked(query)
        return np.full(len(rows), np.nan, np.float32) if scores is None else _of_rows(scores, table.of_row, rows)

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history with the largest term above zero of its score, -1 for none."""
        table = self._table(query)
        past = self._past(query, table)
        if self.model is None or len(past.items) == 0:
            return np.full(len(rows), -1, np.int32)
        found = self._largest(self.model, past, table.of_row[rows])
        return np.where(found >= 0, table.to_row[past.items[found]], -1).astype(np.int32)

    def _asked(self, query: Query) -> tuple[KnownItems, NDArray[np.float32] | None]:
        """The score of each item of the model; None without a model, or without history that it knows."""
        table = self._table(query)
        (scores,) = self._kept.of(query, table, lambda: (self._made(query, table),))
        return table, scores

    def _made(self, query: Query, table: KnownItems) -> NDArray[np.float32] | None:
        past = self._past(query, table)
        return None if self.model is None or len(past.items) == 0 else self._score(self.model, past)

    def _table(self, query: Query) -> KnownItems:
        table = query.items.tables[self.name]
        assert isinstance(table, KnownItems)
        return table

    def _past(self, query: Query, table: KnownItems) -> Visits:
        """The history as far as the model knows it; with a seed that alone, now."""
        if query.seed_row >= 0:
            rows, times = np.array([query.seed_row], np.int32), np.array([query.now], np.int64)
        else:
            rows, times = query.history, query.history_times
        past = table.of_row[rows]
        known = past >= 0
        return Visits(past[known][: self.depth], times[known][: self.depth])


@kernel
def _of_rows(scores: NDArray[np.float32], of_row: NDArray[np.int32], rows: NDArray[np.int32]) -> NDArray[np.float32]:
    """The scores of rows, float32[rows]; NaN for what the model does not know."""
    found = np.empty(len(rows), np.float32)
    for at in range(len(rows)):
        index = of_row[rows[at]]
        found[at] = scores[index] if index >= 0 else np.nan
    return found
