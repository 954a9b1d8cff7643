"""What lies near the things the user turned to, by vectors that the items bring along."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.kept import Kept
from penchant.retrieval.topk import NOTHING
from penchant.retrieval.vectors.live import LiveVectors, VectorTable
from penchant.retrieval.vectors.watch import Watch
from penchant.telemetry import VECTOR_BYTES, VECTOR_ITEMS, VECTOR_RECALL, VECTOR_SECONDS

Target = tuple[NDArray[np.float32] | None, NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Cosine to the mean direction of the newest items, through an index that lives across pictures.

    The mean is `Σ_k decay^k · u(i_k)` over the unit vectors of the newest `depth` items of the history that have one;
    with a seed it is the seed's vector. Proposed are listed items with a cosine above zero: with a seed all but it,
    without one those that the user has not seen. What may be shown goes into the search, so that it costs no recall.
    Without an attribute, or where nothing of the history has a vector, nothing is proposed.
    """

    name: str
    attribute: str | None
    depth: int = 20
    decay: float = 0.8
    _live: LiveVectors = field(default_factory=LiveVectors, repr=False, compare=False)
    _watch: Watch = field(default_factory=Watch, repr=False, compare=False)
    _kept: Kept[Target] = field(default_factory=Kept, repr=False, compare=False)

    def prepare(self, items: Items) -> VectorTable:
        vectors = items.vectors.get(self.attribute) if self.attribute is not None else None
        if vectors is None:
            return LiveVectors().follow(np.full((items.count, 1), np.nan, np.float32), items.listed)
        table = self._live.follow(vectors, items.listed)
        VECTOR_ITEMS.labels(self.name).set(len(self._live))
        VECTOR_BYTES.labels(self.name).set(self._live.nbytes)
        VECTOR_SECONDS.labels(self.name).set(self._live.seconds)
        recall = self._watch.look()
        if recall is not None and recall.queries:
            VECTOR_RECALL.labels(self.name).set(recall.mean)
        return table

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        target, _ = self._target(query, table)
        if target is None or limit <= 0:
            return NOTHING
        eligible = query.eligible.copy()
        eligible[query.seen if query.seed_row < 0 else query.seed_row] = False
        self._watch.note(query.seed, table, target, limit, eligible)
        rows, scores = table.view.search_rows(target, limit, table.to_row, eligible)
        near = int(np.count_nonzero(scores > 0.0))
        return Retrieved(rows[:near], scores[:near])

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        target, _ = self._target(query, table)
        scores = np.full(len(rows), np.nan, np.float32)
        if target is not None:
            places = table.of_row[rows]
            scores[places >= 0] = table.view.scores(target, places[places >= 0])
        return scores

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history with the largest `decay^k · cosine` above zero, -1 for none."""
        table = self._table(query)
        target, past = self._target(query, table)
        found = np.full(len(rows), -1, np.int32)
        known = np.flatnonzero(table.directed[rows])
        if target is not None and len(known):
            weights = self.decay ** np.arange(len(past), dtype=np.float64)
            shares = (table.units(rows[known]).astype(np.float64) @ table.units(past).T.astype(np.float64)) * weights
            best = shares.argmax(axis=1)
            found[known] = np.where(shares[np.arange(len(known)), best] > 0.0, past[best], -1)
        return found

    def _table(self, query: Query) -> VectorTable:
        table = query.items.tables[self.name]
        assert isinstance(table, VectorTable)
        return table

    def _target(self, query: Query, table: VectorTable) -> Target:
        return self._kept.of(query, table, lambda: self._aim(query, table))

    def _aim(self, query: Query, table: VectorTable) -> Target:
        """The direction to look in, float32[size] (None without any), and the items that it was made from."""
        rows = query.history if query.seed_row < 0 else np.array([query.seed_row], np.int32)
        past = rows[table.directed[rows]][: self.depth]
        weights = self.decay ** np.arange(len(past), dtype=np.float64)
        mean = weights @ table.units(past).astype(np.float64)
        length = float(np.sqrt(mean @ mean))
        return ((mean / length).astype(np.float32) if length > 1e-6 else None), past
