"""Ranking without a model: what the sources' own orders say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from penchant.core.candidates import Candidates, Columns
from penchant.core.query import Query

_FLAT: Final = 60.0
"""How flat the top is: with 60, ranks 1 and 2 of one source differ by 1.6 %."""


class BlendScorer:
    """Weighted reciprocal-rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009) over the sources of a surface.

    `value = Σ w·61 / (60 + rank) / Σ w` over the sources that proposed the row, so that 1 is what every source puts
    first. Ranks are the columns `rank.<source>` that merging gives, NaN where a source did not propose the row.
    """

    provides = frozenset({"value"})

    def __init__(self, sources: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        weights = weights or {}
        self._columns = tuple((f"rank.{name}", float(weights.get(name, 1.0))) for name in sources)
        self._total = sum(weight for _, weight in self._columns) or 1.0

    def score(self, query: Query, candidates: Candidates) -> Columns:
        """`value` in (0, 1] where a source proposed the row and all weights are positive."""
        del query
        total = np.zeros(len(candidates), np.float64)
        for name, weight in self._columns:
            ranks = candidates.columns.get(name)
            if ranks is not None:
                share = weight * (1.0 + _FLAT) / (_FLAT + ranks.astype(np.float64))
                total += np.where(np.isnan(share), 0.0, share)
        return {"value": (total / self._total).astype(np.float32)}


class OrderScorer:
    """Keeps the order in which merging left the rows: `value = 61 / (60 + place)`, from the column `place`."""

    provides = frozenset({"value"})

    def score(self, query: Query, candidates: Candidates) -> Columns:
        """`value` in (0, 1], falling with the place."""
        del query
        place = candidates.columns["place"].astype(np.float64)
        return {"value": ((1.0 + _FLAT) / (_FLAT + place)).astype(np.float32)}
