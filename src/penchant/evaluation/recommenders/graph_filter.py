"""Graph filters as the engine makes them, on an offline log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.graph_filter import GraphFilterModel, fit_graph_filter


@dataclass(slots=True, eq=False)
class GraphFilter:
    """`retrieval.graph_filter.fit_graph_filter` and the sum of its rows over a history, each distinct item once.

    Parameters are those of `fit_graph_filter`. Not proposed: items that nobody has in the log, and anything to a
    history of no other items.
    """

    name: str = "graph-filter"
    seed: int = 0
    person: float = 1.0
    asked: float = 0.5
    answered: float = 0.5
    power: float = 1.0
    keep: int = 500
    rank: int = 64
    low_weight: float = 0.3
    low_exp: float = 0.5
    model: GraphFilterModel | None = field(default=None, repr=False)
    _weights: Any = field(default=None, repr=False)
    _nobody: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool), repr=False)

    def fit(self, log: Log) -> None:
        from scipy import sparse

        self.model = self._weights = None  # before the next, not beside it
        m = log.n_items
        model = fit_graph_filter(
            log.matrix(),
            np.arange(m, dtype=np.int64),
            person=self.person,
            asked=self.asked,
            answered=self.answered,
            power=self.power,
            keep=self.keep,
            rank=self.rank,
            low_weight=self.low_weight,
            low_exp=self.low_exp,
            seed=self.seed,
        )
        self.model = model
        self._weights = sparse.csr_matrix((model.weights, model.columns, model.offsets), shape=(m, m))
        self._nobody = np.bincount(log.items, minlength=m) == 0

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        model = self.model
        assert model is not None, "fit comes first"
        asked = cases.matrix(len(model.items))
        found: NDArray[np.float32] = (asked @ self._weights).toarray()
        if model.factors.shape[1]:
            people = asked @ (model.factors * model.low[:, None])
            found += people @ (model.factors / model.low[:, None]).T
        found[:, self._nobody] = -np.inf
        known = asked @ (~self._nobody).astype(np.float32)
        found[known == 0] = -np.inf
        return found
