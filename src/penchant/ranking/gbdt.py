"""Gradient-boosted heads, one an action, and the value that their probabilities make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Columns
from penchant.core.compile import kernel
from penchant.core.errors import ArtifactError, ContractError
from penchant.core.query import Query
from penchant.ranking.trees import Forest
from penchant.ranking.value import ValueTable

RANK_HEAD: Final = "rank"
"""A head of this name orders by itself: its raw score is the value."""

FIXED: Final[Mapping[str, float]] = {"position": 1.0}
"""Columns that training knows and serving holds still: every candidate is scored as if it were shown first."""


class GbdtScorer:
    """P(action) for every head, as columns `p_<action>`, and `value`; or, with the one head `rank`, its raw score.

    All heads read the same matrix, whose columns are `names`; another order of columns is refused at the start with
    `ArtifactError`. A head of an action that `weights` does not name gives its probability and no value.
    """

    def __init__(self, heads: Mapping[str, Forest], weights: Mapping[str, float], names: Sequence[str]) -> None:
        if not heads:
            raise ArtifactError("the ranker has no heads; train again")
        for name, forest in heads.items():
            if forest.names != tuple(names):
                other = sorted(set(forest.names) ^ set(names)) or ["their order"]
                raise ArtifactError(f"head {name!r} was trained on other columns ({', '.join(other[:5])}); train again")
            if name != RANK_HEAD and forest.sigmoid == 0:
                raise ArtifactError(f"head {name!r} gives no probability (objective {forest.objective!r})")
        if RANK_HEAD in heads and len(heads) > 1:
            raise ArtifactError(f"the head {RANK_HEAD!r} stands alone; train either it or one head an action")
        self._heads = tuple(heads.items())
        self._table = ValueTable.of(weights)
        self._ranks = RANK_HEAD in heads
        self.provides = frozenset({"value"} if self._ranks else {"value", *(f"p_{name}" for name in heads)})

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], weights: Mapping[str, float], names: Sequence[str]) -> GbdtScorer:
        """The scorer of LightGBM text models, by head; raises `ArtifactError`."""
        return cls({name: Forest.from_text(text, FIXED) for name, text in texts.items()}, weights, names)

    def score(self, query: Query, candidates: Candidates) -> Columns:
        """The columns that were promised; raises `ContractError` when the features are not there."""
        del query
        if candidates.features is None:
            raise ContractError("the ranker needs the feature matrix; put an assembler before it")
        if self._ranks:
            return {"value": self._heads[0][1].score(candidates.features).astype(np.float32)}
        answers = {
            name: _probability(forest.score(candidates.features), forest.sigmoid) for name, forest in self._heads
        }
        value = self._table.value(answers, len(candidates))
        return {"value": value, **{f"p_{name}": answer for name, answer in answers.items()}}


@kernel
def _probability(raw: NDArray[np.float64], slope: float) -> NDArray[np.float32]:
    """1 / (1 + exp(-slope * raw)): one `exp` a row, so that neither place nor company changes a bit."""
    out = np.empty(len(raw), np.float32)
    for r in range(len(raw)):
        out[r] = 1.0 / (1.0 + math.exp(-slope * raw[r]))
    return out
