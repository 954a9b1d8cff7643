"""How much each source counts where no ranker orders: weights of rank fusion, learned from what people took next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates
from penchant.evaluation.recommenders.blend import learn_shares
from penchant.ranking.blend import reciprocal_ranks

FEWEST: Final = 50
"""Requests that must have an answer among their candidates before weights are learned."""
CUT: Final = 10
LEAST: Final = 0.01
"""What a source weighs that gained nothing: its rows keep their order among themselves."""


class Evidence:
    """What the sources of a surface proposed at requests of the past, and which candidate was taken then."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = tuple(sources)
        self._values: list[NDArray[np.float32]] = []
        self._right: list[NDArray[np.bool_]] = []

    def __len__(self) -> int:
        return len(self._right)

    def add(self, candidates: Candidates, taken: int) -> None:
        """The candidates of one request and the row that was taken; nothing where it is not among them."""
        right = candidates.rows == taken
        if right.any():
            none = np.full(len(candidates), np.nan, np.float32)
            ranks = [candidates.columns.get(f"rank.{name}", none) for name in self._sources]
            self._values.append(np.stack([reciprocal_ranks(one) for one in ranks], axis=1).astype(np.float32))
            self._right.append(right)

    def weights(self) -> dict[str, float]:
        """By source, of mean 1 and none below 0.01: those of the highest NDCG@10; none at all for too few requests.

        Coordinate ascent from the best source alone (`learn_shares`); what is not among the candidates counts for no
        weights. Learned from requests whose sources knew nothing of what followed.
        """
        if len(self) < FEWEST or len(self._sources) < 2:
            return {}
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in self._right])]).astype(np.int64)
        values, right = np.concatenate(self._values), np.concatenate(self._right)
        shares = learn_shares(values, right, offsets, np.ones(len(self), np.int64), CUT)
        found = np.maximum(shares * len(shares), LEAST)
        return dict(zip(self._sources, found.round(4).tolist(), strict=True))
