"""Item-kNN: items that the same people took, by shrunken cosine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log
from penchant.evaluation.protocols.ranking import best

_CELLS = 8_000_000
"""How many cells of similarities are held at a time: 32 MB."""
_NOTHING = np.empty(0, np.int32)


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
        rows, columns, values = [], [], []
        for start in range(0, m, step):
            both = (by_item[start : start + step] @ matrix).toarray()
            both /= root[start : start + step, None] * root[None, :] + np.float32(self.shrink)
            both[np.arange(len(both)), start + np.arange(len(both))] = -np.inf
            both[both <= 0] = -np.inf
            near = best(both, _NOTHING, np.zeros(len(both) + 1, np.int64), self.neighbours)
            row, place = np.nonzero(near >= 0)
            rows.append(start + row)
            columns.append(near[row, place])
            values.append(both[row, near[row, place]])
        found = (np.concatenate(values), (np.concatenate(columns), np.concatenate(rows))) if m else None
        # What an item adds is in its row: transposed, as the neighbours are those of the item that is scored.
        self._weights = sparse.csr_matrix(found if found else (m, m), shape=(m, m), dtype=np.float32)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (cases.matrix(self._weights.shape[0]) @ self._weights).toarray()
        found[found <= 0] = -np.inf
        return found
