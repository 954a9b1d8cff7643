"""Prequential evaluation: at every event, what was shown just before it is judged by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.bootstrap import paired_bootstrap


@dataclass(frozen=True, slots=True)
class Variant:
    """How one way of answering did: means over requests; `ranks` are of the item that was then taken, 0 for a miss."""

    name: str
    ranks: NDArray[np.int64]
    k: int

    @property
    def hits(self) -> NDArray[np.float64]:
        """HR@k of each request."""
        return ((self.ranks > 0) & (self.ranks <= self.k)).astype(np.float64)

    @property
    def gains(self) -> NDArray[np.float64]:
        """NDCG@k of each request; one item is relevant, so that the ideal is 1."""
        return np.where(self.hits > 0, 1.0 / np.log2(np.maximum(self.ranks, 1) + 1.0), 0.0)

    def report(self, against: Variant | None = None, users: Sequence[int] | None = None) -> dict[str, Any]:
        """The figures as JSON; against another variant with a paired bootstrap interval over users."""
        told: dict[str, Any] = {
            "name": self.name,
            "requests": len(self.ranks),
            f"hr@{self.k}": float(self.hits.mean()) if len(self.ranks) else 0.0,
            f"ndcg@{self.k}": float(self.gains.mean()) if len(self.ranks) else 0.0,
        }
        if against is not None and len(self.ranks):
            clusters = np.asarray(users) if users is not None else None
            difference = paired_bootstrap(against.gains, self.gains, seed=0, clusters=clusters)
            told[f"live minus this, ndcg@{self.k}"] = [difference.low, difference.high]
        return told


def rank_of(target: int, rows: NDArray[np.int32]) -> int:
    """The rank of a row in a slate, from 1; 0 when it is not there.

    >>> rank_of(7, np.array([3, 7], np.int32))
    2
    """
    found = np.flatnonzero(rows == target)
    return int(found[0]) + 1 if len(found) else 0
