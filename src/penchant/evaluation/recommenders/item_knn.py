"""Item-kNN: items that the same people took, by shrunken cosine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log

_CELLS = 32_000_000
"""How many cells of similarities are held at a time: 128 MB."""


@dataclass(slots=True, eq=False)
class ItemKnn:
    """An item's score is the sum of its similarities to the history, over its `neighbours` most similar items.

    Similarity is the cosine of who has them, `both / (sqrt(one · other) + shrink)`; ties go to the lower item. Items
    that share no neighbour with the history are not proposed. Sources: Sarwar et al. 2001; the form of Ferrari Dacrema
    et al., RecSys 2019.
    """

    name: str = "itemknn"
    neighbours: int = 100
    shrink: float = 10.0
    _weights: Any = field(default=None, repr=False)

    def fit(self, log: Log) -> None:
        from scipy import sparse

        matrix = log.matrix().tocsc()
        m = log.n_items
        root = np.sqrt(np.diff(matrix.indptr).astype(np.float32))
        by_item = matrix.T.tocsr()
        step = max(1, _CELLS // max(m, 1))
        blocks = []
        for start in range(0, m, step):
            stop = min(start + step, m)
            both = (by_item[start:stop] @ matrix).tocsr()
            both.sort_indices()
            rows = np.repeat(np.arange(start, stop), np.diff(both.indptr))
            both.data = both.data / (root[rows] * root[both.indices] + np.float32(self.shrink))
            both.data[rows == both.indices] = 0.0
            blocks.append(_largest(both, self.neighbours))
        # Row j of the blocks has the neighbours of j; a history adds up along the columns.
        self._weights = sparse.vstack(blocks, format="csr").T.tocsr() if blocks else sparse.csr_matrix((m, m))

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (cases.matrix(self._weights.shape[0]) @ self._weights).toarray()
        found[found <= 0] = -np.inf
        return found


def _largest(matrix: Any, n: int) -> Any:
    """The CSR matrix with only the `n` largest values above zero of each row."""
    from scipy import sparse

    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept = order[(place < n) & (matrix.data[order] > 0)]
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)
