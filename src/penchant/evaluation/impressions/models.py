"""Orders of what was shown, from counts alone: what any ranker has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.impressions.rows import Rows

DAY = 86_400_000
_FAR = 300.0
"""Half-lives until everything is held anew, long before a weight of 2**1024."""


class Orderer(Protocol):
    """A model that can order what is shown."""

    name: str

    def fit(self, past: Rows) -> None:
        """Learn from what was shown and clicked before; what an earlier `fit` learned is forgotten."""

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        """float32[rows], higher is better; whether they were clicked is hidden from it."""


@runtime_checkable
class Progressive(Orderer, Protocol):
    """One that goes on learning, impression by impression."""

    def learn(self, rows: Rows) -> None:
        """What was shown since, in order of time."""


@dataclass(slots=True, eq=False)
class Chance:
    """Any order; drawn anew for each row."""

    seed: int = 7
    name: str = "chance"
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7), repr=False)

    def fit(self, past: Rows) -> None:
        self._rng = np.random.default_rng((self.seed, len(past)))

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        return self._rng.random(len(rows), np.float32)


@dataclass(slots=True, eq=False)
class Counters:
    """Clicks and showings by item, both fading with a half-life; ordered by clicks, or by the rate of them.

    The rate is smoothed towards that of all by `prior` showings, so that one click of one is not the best of all.
    Without a half-life all count the same.
    """

    name: str
    rate: bool
    half_life_ms: float | None = None
    prior: float = 10.0
    _clicks: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    _shown: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    _at: float = 0.0

    def fit(self, past: Rows) -> None:
        self._clicks, self._shown = np.zeros(past.n_items), np.zeros(past.n_items)
        self._at = float(past.times[0]) if len(past) else 0.0
        self.learn(past)

    def learn(self, rows: Rows) -> None:
        if not len(rows):
            return
        weights = np.ones(len(rows))
        if self.half_life_ms is not None:
            # Everything is held as if it had happened at `_at`: later rows weigh more, and nothing old is touched.
            if (float(rows.times.max()) - self._at) / self.half_life_ms > _FAR:
                self._fade(float(rows.times.max()))
            weights = np.exp2((rows.times - self._at) / self.half_life_ms)
        np.add.at(self._shown, rows.items, weights)
        np.add.at(self._clicks, rows.items, weights * rows.clicked)

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        clicks, shown = self._clicks[rows.items], self._shown[rows.items]
        # In the units of the newest row, so that the prior fades as little as that does.
        scale = 1.0
        if self.half_life_ms is not None and len(rows):
            scale = float(np.exp2((self._at - float(rows.times.max())) / self.half_life_ms))
        if not self.rate:
            found = clicks * scale
        else:
            total = float(self._shown.sum())
            mean = float(self._clicks.sum()) / total if total else 0.0
            found = (clicks * scale + self.prior * mean) / (shown * scale + self.prior)
        return found.astype(np.float32)

    def _fade(self, now: float) -> None:
        by = np.exp2((self._at - now) / (self.half_life_ms or np.inf))
        self._clicks *= by
        self._shown *= by
        self._at = now


ORDERERS: dict[str, Callable[[int], Orderer]] = {
    "popularity": lambda _seed: Counters("popularity", rate=False),
    "click-rate": lambda _seed: Counters("click-rate", rate=True),
    "recent-click-rate": lambda _seed: Counters("recent-click-rate", rate=True, half_life_ms=DAY),
    "chance": Chance,
}
"""By the names that reports and the command line use; all are in every report."""
