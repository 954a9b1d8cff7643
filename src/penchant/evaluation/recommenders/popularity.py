"""Popularity, of all time and of late: what every model has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log

DAY = 86_400_000


@dataclass(slots=True, eq=False)
class Popularity:
    """The same for everybody: how many interactions an item has; an item without any is not proposed."""

    name: str = "popularity"
    _counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def fit(self, log: Log) -> None:
        self._counts = np.bincount(log.items, minlength=log.n_items).astype(np.float64)

    def learn(self, log: Log) -> None:
        np.add.at(self._counts, log.items, 1.0)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        return _for_all(self._counts, len(cases))


@dataclass(slots=True, eq=False)
class RecentPopularity:
    """Popularity in which the weight of an interaction halves with every half-life that it is old.

    Age is time where the log has times, else the number of later interactions; then the half-life is `share` of
    the interactions of the log that it was fitted on.
    """

    name: str = "recent-popularity"
    half_life_ms: float = 7 * DAY
    share: float = 0.1
    _counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _half_life: float = 1.0
    _last: float = 0.0

    def fit(self, log: Log) -> None:
        self._counts = np.zeros(log.n_items)
        self._half_life = self.half_life_ms if log.times is not None else max(1.0, self.share * len(log))
        self._last = 0.0
        self.learn(log)

    def learn(self, log: Log) -> None:
        if not len(log):
            return
        at = self._last + 1.0 + np.arange(len(log)) if log.times is None else log.times.astype(np.float64)
        self._counts *= 0.5 ** ((at[-1] - self._last) / self._half_life)
        np.add.at(self._counts, log.items, 0.5 ** ((at[-1] - at) / self._half_life))
        self._last = float(at[-1])

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        return _for_all(self._counts, len(cases))


def _for_all(counts: NDArray[np.float64], cases: int) -> NDArray[np.float32]:
    """One row for each case; scaled to at most 1, because old counts may have faded below what float32 can hold."""
    top = counts.max(initial=0.0)
    row = np.where(counts > 0, counts / (top if top > 0 else 1.0), -np.inf).astype(np.float32)
    return np.repeat(row[None, :], cases, axis=0)
