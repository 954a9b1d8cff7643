"""What every report carries beside the measures of its recipe: precision, MAP, diversity and popularity lift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation import beyond, metrics
from penchant.evaluation.metrics import Ranked
from penchant.evaluation.offline import Cases, Log

_DIVERSE = 20_000
"""Diversity is measured on at most so many cases of a round, evenly spread: it costs more than the others."""

Floats = NDArray[np.float64]


def by_company(train: Log) -> beyond.Likeness:
    """How alike items are by who took them: the cosine of co-occurrence in what was trained on."""
    return beyond.Likeness.of(train.matrix().T.tocsr())


@dataclass(slots=True, eq=False)
class Extras:
    """Of one model in one round, case after case; float32, because nothing is decided by their last digits."""

    k: int
    like: beyond.Likeness
    counts: NDArray[np.int64]
    """Interactions trained on, by item."""
    cases: int
    _parts: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, asked: Cases, lists: NDArray[np.int64], ranked: Ranked, begin: int) -> None:
        """The lists shown to the cases from `begin` on, best first, and which of them are right."""
        shown = np.ascontiguousarray(lists[:, : self.k])
        kept = shown >= 0
        ends = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        self._put(f"P@{self.k}", metrics.precision(ranked, self.k))
        self._put(f"MAP@{self.k}", metrics.average_precision(ranked, self.k))
        measured = (np.arange(begin, begin + len(shown)) % (self.cases // _DIVERSE + 1)) == 0
        apart = np.full(len(shown), np.nan)
        apart[measured] = beyond.diversity(shown[measured], self.like)
        self._put("diversity", apart)
        self._put("shown", beyond.mean_popularity(shown[kept], ends, self.counts))
        self._put("had", beyond.mean_popularity(asked.items, asked.offsets, self.counts))

    def values(self) -> dict[str, NDArray[np.float32]]:
        """By measure, float32[cases]; NaN: not defined for the case, or not measured."""
        whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        shown, had = (whole.pop(name).astype(np.float64) for name in ("shown", "had"))
        return {**whole, "popularity lift": beyond.popularity_lifts(shown, had).astype(np.float32)}

    def _put(self, name: str, values: Floats) -> None:
        self._parts.setdefault(name, []).append(values.astype(np.float32))


Made = Callable[[Log, int], Extras]
"""From what a round trains on, and how many cases it asks."""


def extras_of(k: int, like: beyond.Likeness | None) -> Made:
    """Extras of lists of `k`; without a likeness by attributes, that of company."""

    def made(train: Log, cases: int) -> Extras:
        counts = np.bincount(train.items, minlength=train.n_items)
        return Extras(k, like or by_company(train), counts, cases)

    return made
