"""EASE over the nearest items alone, as the engine fits it, on an offline log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.sparse_linear import fit_sparse_ease


@dataclass(slots=True, eq=False)
class EaseSparse:
    """`retrieval.sparse_linear.fit_sparse_ease` and the sum of its rows over a history, each distinct item once.

    For catalogues of which EASE itself would not fit into memory. Not proposed: items that nothing of the history
    weighs.
    """

    name: str = "ease-sparse"
    reg: float = 500.0
    neighbours: int = 100
    threads: int | None = None
    _weights: Any = field(default=None, repr=False)

    def fit(self, log: Log) -> None:
        from scipy import sparse

        names = np.arange(log.n_items, dtype=np.int64)
        model = fit_sparse_ease(log.matrix(), names, self.reg, neighbours=self.neighbours, threads=self.threads)
        shape = (log.n_items, log.n_items)
        self._weights = sparse.csr_matrix((model.weights, model.columns, model.offsets), shape=shape)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (cases.matrix(self._weights.shape[0]) @ self._weights).toarray()
        found[found == 0] = -np.inf
        return found
