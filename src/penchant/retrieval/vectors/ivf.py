"""Vectors in clusters, of which a search looks at the nearest: FAISS (IVF-SQ8), for more items than are all scanned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.extras import library
from penchant.retrieval.vectors.exact import ExactIndex, ExactView
from penchant.retrieval.vectors.index import Allowed
from penchant.retrieval.vectors.places import Places

_AT_ONCE = 16_384
"""Vectors taken over at a time when the clusters are made anew."""
_SAMPLE_PER_CLUSTER = 48
_FEW = 4
"""Up to so many times what is asked for, all that is allowed is looked at, wherever it lies."""


def _faiss() -> Any:
    return library("faiss", extra="faiss", of="an index of clusters")


@dataclass(frozen=True, slots=True, eq=False)
class _Clusters:
    """What FAISS holds, never changed once made; places are those of `ids`."""

    index: Any
    ids: NDArray[np.int64]
    alive: NDArray[np.bool_]

    def vectors(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.index.reconstruct_batch(places)
        return found

    @property
    def nbytes(self) -> int:
        """Of each vector a byte per dimension and three numbers (id, where FAISS has it, id there); the centres."""
        vectors = len(self.ids) * (int(self.index.code_size) + 8 + 8)
        return vectors + int(self.index.nlist * self.index.d * 4) + self.ids.nbytes + self.alive.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class FaissView:
    """A `FaissIndex` as it was at one moment: the clusters' places first, then those of what came since."""

    version: int
    clusters: _Clusters | None
    recent: ExactView
    probes: int

    @property
    def _begin(self) -> int:
        """The first place of what came since."""
        return 0 if self.clusters is None else len(self.clusters.ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        if self.clusters is None:
            return self.recent.ids
        return np.concatenate([np.where(self.clusters.alive, self.clusters.ids, -1), self.recent.ids])

    def search(self, query: NDArray[np.float32], limit: int, allowed: Allowed = None) -> Retrieved:
        begin, places = self._begin, self._begin + self.recent.places
        if self.clusters is None:
            return self.recent.search(query, limit, allowed)
        if allowed is not None and allowed.dtype != np.bool_:
            mask = np.zeros(places, np.bool_)
            if len(allowed) and not 0 <= allowed.min() <= allowed.max() < places:
                raise ValueError(f"places are from 0 to {places - 1}")
            mask[allowed] = True
        elif allowed is not None:
            mask = allowed.view(np.bool_)
            if mask.shape != (places,):
                raise ValueError(f"the mask has the shape {mask.shape}, the view {places} places")
        else:
            mask = np.ones(places, np.bool_)
        late = self.recent.search(query, limit, mask[begin:])  # refuses what is no query
        if limit <= 0:
            return late
        early = self._near(self.clusters, query, limit, mask[:begin] & self.clusters.alive)
        found = np.concatenate([early.astype(np.int32), (late.rows + begin).astype(np.int32)])
        scores = self.scores(query, found)
        best = np.lexsort((found, -scores))[:limit]
        return Retrieved(found[best], scores[best])

    def search_rows(
        self,
        query: NDArray[np.float32],
        limit: int,
        to_row: NDArray[np.int32],
        eligible: NDArray[np.bool_],
        without: int = -1,
    ) -> Retrieved:
        if to_row.shape != (self._begin + self.recent.places,):
            raise ValueError(f"there are rows for {to_row.shape} places, the view has another number")
        mask = to_row >= 0
        mask[mask] = eligible[to_row[mask]] & (to_row[mask] != without)
        found = self.search(query, limit, mask)
        rows = to_row[found.rows]
        order = np.lexsort((rows, -found.scores))
        return Retrieved(rows[order], found.scores[order])

    def scores(self, query: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
        begin = self._begin
        late = places >= begin
        scores = np.empty(len(places), np.float32)
        scores[late] = self.recent.scores(query, (places[late] - begin).astype(np.int32))
        if self.clusters is not None:
            early = places[~late].astype(np.int64)
            told = (self.clusters.vectors(early) * query).sum(axis=1)  # row by row: the same bits in any company
            scores[~late] = np.where(self.clusters.alive[early], told, np.float32(np.nan))
        return scores

    def _near(
        self, clusters: _Clusters, query: NDArray[np.float32], limit: int, mask: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Places of the clusters: of the nearest ones, of more the fewer are allowed, so that masks lose no recall."""
        count = int(np.count_nonzero(mask))
        if count <= _FEW * limit:
            return np.flatnonzero(mask)
        faiss = _faiss()
        bits = np.packbits(mask, bitorder="little")
        asked = np.ascontiguousarray(query, np.float32)[None]
        probes = min(ceil(self.probes * len(mask) / count), clusters.index.nlist)
        while True:
            how = faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(bits), nprobe=probes)
            found: NDArray[np.int64] = clusters.index.search(asked, limit, params=how)[1][0]
            found = found[found >= 0]
            if len(found) == limit or probes == clusters.index.nlist:
                return found
            probes = min(2 * probes, clusters.index.nlist)


class FaissIndex:
    """Inner product over IVF-SQ8; what came since the clusters were made is scanned exactly, beside them.

    A byte per dimension, from the least to the largest of it: for vectors whose lengths are much alike.

    From `least` items on there are clusters, about `2 * sqrt(items)`, of which `probes` are searched. They are made
    anew by `tidy` once an eighth of the items came or left since: one long step (20 seconds for a million) that no
    reader waits for, but the writer does; `begin` gives the same in two, of which the long one needs no writer. FAISS
    should run one thread (`OMP_NUM_THREADS=1`): with two its tail grows.
    """

    def __init__(self, dimensions: int, *, least: int = 200_000, probes: int = 128) -> None:
        _faiss()
        self.dimensions = dimensions
        self._least, self._probes = least, probes
        self._recent = ExactIndex(dimensions)
        self._places = Places()
        self._touched: list[NDArray[np.int64]] | None = None
        """Ids that changed since clusters were begun that are not taken over yet."""
        self._view = FaissView(0, None, self._recent.view(), probes)

    def __len__(self) -> int:
        return self._places.count + len(self._recent)

    @property
    def nbytes(self) -> int:
        clusters = self._view.clusters
        return self._recent.nbytes + self._places.nbytes + (0 if clusters is None else clusters.nbytes)

    def view(self) -> FaissView:
        return self._view

    def put(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._recent.put(ids, vectors)  # refuses what cannot be, before anything changed
        self._touch(ids)
        self._publish(self._without(ids)[0])

    def remove(self, ids: NDArray[np.int64]) -> int:
        clusters, gone = self._without(ids)
        self._touch(ids)
        gone += self._recent.remove(ids)
        self._publish(clusters)
        return gone

    def tidy(self) -> bool:
        if self.is_stale():
            self.begin()()()
            return True
        more = self._recent.tidy()
        self._publish(self._view.clusters)
        return more

    def _without(self, ids: NDArray[np.int64]) -> tuple[_Clusters | None, int]:
        """The clusters without these ids, and how many of them were there."""
        clusters = self._view.clusters
        if clusters is None:
            return None, 0
        ids = np.unique(ids)
        places = self._places.find(ids, [clusters.ids], len(clusters.ids))
        ids, places = ids[places >= 0], places[places >= 0]
        if len(ids) == 0:
            return clusters, 0
        alive = clusters.alive.copy()
        alive[places] = False
        self._places.drop(ids, places)
        return replace(clusters, alive=alive), len(ids)

    def is_stale(self) -> bool:
        """Whether the next `tidy` would make the clusters anew."""
        clusters = self._view.clusters
        if clusters is None:
            return len(self) >= self._least
        changed = len(self._recent) + len(clusters.ids) - self._places.count
        return 8 * changed > len(clusters.ids)

    def begin(self) -> Callable[[], Callable[[], None]]:
        """New clusters of all that is there now, as two steps: the first is long, and may run in another thread.

        It returns the second, which is short and the writer's: what changed meanwhile then stands beside the clusters.
        """
        view = self._view
        self._touched = []

        def make() -> Callable[[], None]:
            made = self._remade(view)
            return lambda: self._adopt(*made)

        return make

    def _remade(self, view: FaissView) -> tuple[ExactIndex, Places, _Clusters | None]:
        """Clusters of a view, from its bytes; none where it is less than `least`."""
        ids = view.ids
        taken = np.flatnonzero(ids >= 0)
        recent, places, clusters = ExactIndex(self.dimensions), Places(), None
        if len(taken) < self._least:
            for at in range(0, len(taken), _AT_ONCE):
                some = taken[at : at + _AT_ONCE]
                recent.put(ids[some], _vectors(view, some))
        else:
            clusters = _Clusters(self._made(view, taken), ids[taken], np.ones(len(taken), np.bool_))
            places.renew(len(taken), [])
            places.add(clusters.ids, np.arange(len(taken)))
        return recent, places, clusters

    def _adopt(self, recent: ExactIndex, places: Places, clusters: _Clusters | None) -> None:
        touched = np.unique(np.concatenate([np.empty(0, np.int64), *(self._touched or ())]))
        before, self._recent, self._places, self._touched = self._recent.view(), recent, places, None
        self._publish(clusters)
        if len(touched) == 0:
            return
        self.remove(touched)
        ids = before.ids
        later = np.flatnonzero(np.isin(ids, touched))
        for at in range(0, len(later), _AT_ONCE):
            some = later[at : at + _AT_ONCE]
            self.put(ids[some], before.vectors(some))

    def _touch(self, ids: NDArray[np.int64]) -> None:
        if self._touched is not None:
            self._touched.append(ids)

    def _made(self, view: FaissView, taken: NDArray[np.int64]) -> Any:
        faiss = _faiss()
        lists = max(1, min(int(2 * sqrt(len(taken))), len(taken) // 40))
        d = self.dimensions
        inner = faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(d), d, lists, faiss.ScalarQuantizer.QT_8bit, inner, False
        )
        parts = [taken[at : at + _AT_ONCE] for at in range(0, len(taken), _AT_ONCE)]
        step = max(1, len(taken) // (_SAMPLE_PER_CLUSTER * lists))
        # With the extremes of each dimension, as what is outside of what it was trained on is cut off.
        low = np.min([_vectors(view, part).min(axis=0) for part in parts], axis=0)
        high = np.max([_vectors(view, part).max(axis=0) for part in parts], axis=0)
        index.train(np.concatenate([_vectors(view, taken[::step]), [low, high]]))
        for part in parts:
            index.add(_vectors(view, part))
        index.make_direct_map(True)
        return index

    def _publish(self, clusters: _Clusters | None) -> None:
        self._view = FaissView(self._view.version + 1, clusters, self._recent.view(), self._probes)


def _vectors(view: FaissView, places: NDArray[np.int64]) -> NDArray[np.float32]:
    begin = 0 if view.clusters is None else len(view.clusters.ids)
    late = places >= begin
    made = np.empty((len(places), view.recent.dimensions), np.float32)
    made[late] = view.recent.vectors(places[late] - begin)
    if view.clusters is not None:
        made[~late] = view.clusters.vectors(places[~late])
    return made
