"""What share of the truly best an index finds, measured on a sample of live queries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import sqrt
from statistics import NormalDist, fmean, variance
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.vectors.index import Allowed, VectorView

_AT_ONCE = 65_536
"""Vectors asked for and multiplied at a time: what a look needs beside the scores of all."""
_HASHES = 2**63


class Recall(NamedTuple):
    """Mean recall over the last queries looked at, with bounds; (NaN, 0, 1) before the first."""

    mean: float
    low: float
    high: float
    queries: int


class RecallMonitor:
    """Compares an index with a scan of the float32 vectors, for a share of the requests, and keeps the last ones.

    `vectors` gives float32[n, dimensions] for n ids: from the file of the model, say, so that no process holds them.
    A look takes as long as that scan: give it to a thread that nobody waits for.
    """

    def __init__(
        self,
        vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        *,
        share: float = 0.001,
        last: int = 500,
        confidence: float = 0.95,
    ) -> None:
        if not 0.0 <= share <= 1.0 or last < 2 or not 0.0 < confidence < 1.0:
            raise ValueError(
                "the share is from 0 to 1, the last ones are two or more, the confidence is between 0 and 1"
            )
        self._vectors = vectors
        self._share = share
        self._seen: deque[float] = deque(maxlen=last)
        self._z = NormalDist().inv_cdf((1 + confidence) / 2)

    def wants(self, seed: int) -> bool:
        """Whether the request with this seed (`Query.seed`) is one to look at: the same on every run."""
        return seed < self._share * _HASHES

    def look(self, view: VectorView, query: NDArray[np.float32], limit: int, allowed: Allowed = None) -> float:
        """Recall of one search: of as many as could be found, how many are as good as the worst of the true best.

        So equal scores count as found whichever of them it is. NaN, and not counted, where nothing could be found.
        """
        ids = view.ids
        could = ids >= 0
        if allowed is not None:
            if allowed.dtype == np.bool_:
                could &= allowed.view(np.bool_)
            else:
                could &= np.isin(np.arange(len(ids)), allowed)
        places = np.flatnonzero(could)
        wanted = min(limit, len(places))
        if wanted <= 0:
            return float("nan")
        true = np.full(len(ids), -np.inf, np.float32)
        for begin in range(0, len(places), _AT_ONCE):
            some = places[begin : begin + _AT_ONCE]
            true[some] = self._vectors(ids[some]) @ query
        least = np.partition(true, len(true) - wanted)[len(true) - wanted]
        found = view.search(query, limit, allowed).rows
        recall = float(np.count_nonzero(true[found] >= least)) / wanted
        self._seen.append(min(recall, 1.0))
        return min(recall, 1.0)

    def recall(self) -> Recall:
        """The running figure: queries are drawn apart, so the interval is that of a mean (normal, cut to [0, 1])."""
        seen = list(self._seen)
        if not seen:
            return Recall(float("nan"), 0.0, 1.0, 0)
        mean = fmean(seen)
        if len(seen) < 2:
            return Recall(mean, 0.0, 1.0, 1)
        half = self._z * sqrt(variance(seen) / len(seen))
        return Recall(mean, max(0.0, mean - half), min(1.0, mean + half), len(seen))
