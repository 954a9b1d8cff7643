"""A model of the items that have enough interactions, so that it can be fitted again and again."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log, Recommender


@dataclass(slots=True, eq=False)
class Frequent:
    """Another model, fitted on items with `least` or more interactions so far; the others are not proposed.

    EASE takes time by the cube of the items, and of one that a handful of people had it learns next to nothing.
    """

    inner: Recommender
    least: int = 5
    name: str = ""
    _items: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    _numbers: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or f"{self.inner.name} of items with {self.least}+"

    def fit(self, log: Log) -> None:
        self._items = np.flatnonzero(np.bincount(log.items, minlength=log.n_items) >= self.least)
        self._numbers = np.full(log.n_items, -1, np.int32)
        self._numbers[self._items] = np.arange(len(self._items), dtype=np.int32)
        kept = log.take(self._numbers[log.items] >= 0)
        if len(self._items):
            self.inner.fit(Log(kept.users, self._numbers[kept.items], log.n_users, len(self._items), kept.times))

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found = np.full((len(cases), len(self._numbers)), -np.inf, np.float32)
        if len(self._items):
            kept = self._numbers[cases.items] >= 0
            offsets = np.concatenate([[0], np.cumsum(kept)])[cases.offsets].astype(np.int64)
            asked = Cases(cases.users, self._numbers[cases.items[kept]], offsets)
            found[:, self._items] = self.inner.scores(asked)
        return found
