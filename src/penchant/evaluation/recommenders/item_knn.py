"""Item-kNN: items that the same people took, by shrunken cosine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.topk import top_mapped

_CELLS = 8_000_000
"""How many pairs of items are held at a time, at most: 64 MB."""


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
        near = np.full((m, self.neighbours), -1, np.int32)
        similar = np.zeros((m, self.neighbours), np.float32)
        for start in range(0, m, step):
            both = (by_item[start : start + step] @ matrix).tocsr()
            counts = both.data.astype(np.float32, copy=False)
            _nearest(both.indptr, both.indices, counts, root, self.shrink, start, near, similar)
        rows, place = np.nonzero(near >= 0)
        # What an item adds is in its row: transposed, as the neighbours are those of the item that is scored.
        found = (similar[rows, place], (near[rows, place], rows))
        self._weights = sparse.csr_matrix(found, shape=(m, m), dtype=np.float32)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (cases.matrix(self._weights.shape[0]) @ self._weights).toarray()
        found[found <= 0] = -np.inf
        return found


@kernel
def _nearest(
    offsets: NDArray[np.int32],
    others: NDArray[np.int32],
    both: NDArray[np.float32],
    root: NDArray[np.float32],
    shrink: float,
    start: int,
    near: NDArray[np.int32],
    similar: NDArray[np.float32],
) -> None:
    """Write the nearest of the items from `start` on, which share `both` users with `others`, best first."""
    anything = np.ones(len(near), np.bool_)
    for row in range(len(offsets) - 1):
        item = start + row
        begin, end = offsets[row], offsets[row + 1]
        values = np.empty(end - begin, np.float32)
        for at in range(begin, end):
            values[at - begin] = both[at] / (root[item] * root[others[at]] + np.float32(shrink))
        rows, scores = top_mapped(values, others[begin:end], anything, near.shape[1], 0.0, item)
        near[item, : len(rows)] = rows
        similar[item, : len(rows)] = scores
