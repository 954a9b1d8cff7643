"""EASE as the engine fits it, on an offline log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.datasets import Unsuited
from penchant.evaluation.memory import free_bytes
from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.linear import fit_ease


@dataclass(slots=True, eq=False)
class Ease:
    """`retrieval.linear.fit_ease` and the sum of the rows of a history, each distinct item once.

    `decay` below 1 weighs the k-th newest item by `decay^k`, as live sources do; 1 is the paper (Steck 2019). Above
    `dense_limit` items the `keep` largest weights of each row stay. Fitting needs `8·n_items²` bytes all the same.
    """

    name: str = "ease"
    reg: float = 500.0
    decay: float = 1.0
    dense_limit: int = 20_000
    keep: int = 256
    _weights: Any = field(default=None, repr=False)

    def fit(self, log: Log) -> None:
        from scipy import sparse

        needed, free = 8 * log.n_items**2, free_bytes()
        if free is not None and needed > free:
            raise Unsuited(
                f"{self.name}: {log.n_items:,} items need {needed / 2**30:.0f} GiB to fit and {free / 2**30:.0f} are"
                " free; leave it out (--model) or take data with fewer items"
            )
        names = np.arange(log.n_items, dtype=np.int64)
        model = fit_ease(log.matrix(), names, self.reg, dense_limit=self.dense_limit, keep=self.keep)
        if model.offsets is None or model.columns is None:
            self._weights = model.weights
        else:
            shape = (log.n_items, log.n_items)
            self._weights = sparse.csr_matrix((model.weights, model.columns, model.offsets), shape=shape)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        asked = cases.matrix(self._weights.shape[0]) if self.decay == 1.0 else self._decayed(cases)
        found = asked @ self._weights
        return np.asarray(found if isinstance(found, np.ndarray) else found.toarray(), np.float32)

    def _decayed(self, cases: Cases) -> Any:
        """Histories with the weight of each item's newest visit, CSR [cases, n_items]."""
        from scipy import sparse

        m = self._weights.shape[0]
        owners = cases.owners()
        # Backwards, so that the first of equal keys is the newest visit.
        _, newest = np.unique((owners * m + cases.items)[::-1], return_index=True)
        kept = np.sort(len(owners) - 1 - newest)
        after = np.cumsum(np.bincount(owners[kept], minlength=len(cases)))[owners[kept]] - 1 - np.arange(len(kept))
        weights = np.power(self.decay, after).astype(np.float32)
        return sparse.csr_matrix((weights, (owners[kept], cases.items[kept])), shape=(len(cases), m))
