"""Every vector looked at, one byte per dimension: the index up to some hundred thousand items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.retrieval.vectors.codes import BLOCK, blocks_of, blocks_of_rows, dots, question, scan
from penchant.retrieval.vectors.index import Allowed
from penchant.retrieval.vectors.places import Places
from penchant.retrieval.vectors.segments import WIDTH, Segment
from penchant.retrieval.vectors.select import best

_STEP = 2_048
"""Vectors that one step of tidying moves: well below a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class ExactView:
    """An `ExactIndex` as it was at one moment."""

    dimensions: int
    version: int
    segments: tuple[Segment, ...]

    @property
    def places(self) -> int:
        """How many places there are, holes among them."""
        return (len(self.segments) - 1) * WIDTH + self.segments[-1].count if self.segments else 0

    @property
    def ids(self) -> NDArray[np.int64]:
        none = np.empty(0, np.int64)
        parts = [
            np.where(np.isnan(each.scales[: each.count]), -1, each.ids[: each.count]) for each in self.segments
        ]  # what left keeps its id in the column that all views share
        return np.concatenate([none, *parts])

    def search(self, query: NDArray[np.float32], limit: int, allowed: Allowed = None) -> Retrieved:
        places = self.places
        if allowed is None:
            return best(self._scan(query, None), limit)
        if allowed.dtype == np.bool_:
            if allowed.shape != (places,):
                raise ValueError(f"the mask has the shape {allowed.shape}, the view {places} places")
            mask = allowed.view(np.bool_)
            return best(self._scan(query, blocks_of(mask)), limit, mask)
        listed = np.unique(allowed).astype(np.int32)
        if len(listed) and not 0 <= listed[0] <= listed[-1] < places:
            raise ValueError(f"places are from 0 to {places - 1}")
        found, scores = best(self.scores(query, listed), limit)
        return Retrieved(listed[found], scores)

    def search_rows(
        self,
        query: NDArray[np.float32],
        limit: int,
        to_row: NDArray[np.int32],
        eligible: NDArray[np.bool_],
        without: int = -1,
    ) -> Retrieved:
        if to_row.shape != (self.places,):
            raise ValueError(f"there are rows for {to_row.shape} places, the view has {self.places}")
        scores = self._scan(query, blocks_of_rows(to_row, eligible))
        return best(scores, limit, eligible, to_row, without)

    def scores(self, query: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
        asked = question(query, self.dimensions)
        order = np.argsort(places, kind="stable")
        ordered = places[order].astype(np.int64)
        bounds = np.searchsorted(ordered, WIDTH * np.arange(len(self.segments) + 1))
        held = np.empty(len(places), np.float32)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            begin, end = bounds[number], bounds[number + 1]
            segment = self.segments[number]
            dots(segment.codes, segment.scales, ordered[begin:end] - number * WIDTH, *asked, held[begin:end])
        scores = np.empty(len(places), np.float32)
        scores[order] = held
        return scores

    def vectors(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors as the bytes give them, float32[len(places), dimensions]; zeros where no item stands."""
        made = np.zeros((len(places), self.dimensions), np.float32)
        number = places // WIDTH
        for each in np.unique(number).tolist():
            mine = np.flatnonzero(number == each)
            blocks, lanes = np.divmod(places[mine] - each * WIDTH, BLOCK)
            scales = np.nan_to_num(self.segments[each].scales[places[mine] - each * WIDTH])
            made[mine] = self.segments[each].codes[blocks, : self.dimensions, lanes] * scales[:, None]
        return made

    def _scan(self, query: NDArray[np.float32], wanted: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """The score of every place, NaN in holes and outside the blocks that are wanted."""
        asked = question(query, self.dimensions)
        scores = np.empty(self.places, np.float32)
        if wanted is None:
            wanted = np.ones(len(scores) // BLOCK + 1, np.bool_)
        blocks = WIDTH // BLOCK
        for number, segment in enumerate(self.segments):
            out = scores[number * WIDTH : (number + 1) * WIDTH]
            scan(segment.codes, segment.scales, *asked, wanted[number * blocks : (number + 1) * blocks], out)
        return scores


class ExactIndex:
    """A byte per dimension and a scale per vector, all scanned: no recall is lost but by rounding to bytes.

    Views share what did not change: replaced vectors are written behind the others, and what they replace is a hole.
    Holes are filled from the end, step by step, by `tidy` and, while there are many, by every change.
    """

    def __init__(self, dimensions: int) -> None:
        if dimensions < 1:
            raise ValueError("vectors have at least one dimension")
        self.dimensions = dimensions
        self._view = ExactView(dimensions, 0, ())
        self._places = Places()
        self._holes: list[int] = []

    def __len__(self) -> int:
        return self._places.count

    @property
    def nbytes(self) -> int:
        return sum(segment.nbytes for segment in self._view.segments) + self._places.nbytes

    def view(self) -> ExactView:
        return self._view

    def put(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        vectors = np.ascontiguousarray(vectors, np.float32)
        if ids.dtype != np.int64 or ids.ndim != 1 or vectors.shape != (len(ids), self.dimensions):
            raise ValueError(f"expected int64[n] ids and float32[n, {self.dimensions}] vectors")
        if len(ids) == 0:
            return
        if ids.min() < 0 or not np.isfinite(vectors).all():
            raise ValueError("ids are not negative, and vectors are finite")
        ids, last = np.unique(ids[::-1], return_index=True)  # of repeats the last one counts
        vectors = vectors[len(vectors) - 1 - last]
        segments = list(self._view.segments)
        self._let_go(segments, ids)
        places = self._append(segments, ids, vectors)
        if not self._places.has_room(len(ids)):
            self._renew(segments, places[0])
        self._places.add(ids, places)
        self._publish(segments)
        self._tidy_if_many()

    def remove(self, ids: NDArray[np.int64]) -> int:
        segments = list(self._view.segments)
        gone = self._let_go(segments, np.unique(ids))
        if gone:
            self._publish(segments)
            self._tidy_if_many()
        return gone

    def tidy(self) -> bool:
        if sum(self._holes):
            self._step()
        elif self._places.is_wide():
            self._renew(self._view.segments, self._view.places)
        return sum(self._holes) > 0 or self._places.is_wide()

    def _tidy_if_many(self) -> None:
        if sum(self._holes) > max(_STEP, self._places.count // 16):
            self._step()

    def _let_go(self, segments: list[Segment], ids: NDArray[np.int64]) -> int:
        """Make holes of the ids, each given once, that are there."""
        places = self._places.find(ids, [segment.ids for segment in segments], WIDTH)
        known = np.flatnonzero(places >= 0)
        ids, places = ids[known], places[known]
        number = places // WIDTH
        for each in np.unique(number).tolist():
            mine = places[number == each] % WIDTH
            segments[each] = segments[each].without(mine)
            self._holes[each] += len(mine)
        self._places.drop(ids, places)
        return len(ids)

    def _append(
        self, segments: list[Segment], ids: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Write vectors behind the last one; returns their places."""
        begin = ExactView(self.dimensions, 0, tuple(segments)).places
        at = 0
        while at < len(ids):
            if not segments or segments[-1].count == WIDTH:
                segments.append(Segment.empty(self.dimensions, min(WIDTH, len(ids) - at)))
                self._holes.append(0)
            tail = segments[-1]
            if tail.room == 0:
                tail = tail.with_room(min(WIDTH, tail.count + len(ids) - at))
            end = at + min(tail.room, len(ids) - at)
            segments[-1] = tail.with_more(ids[at:end], vectors[at:end])
            at = end
        return np.arange(begin, begin + len(ids))

    def _step(self) -> None:
        """Close up the last piece, or fill holes of another one from its end."""
        segments = list(self._view.segments)
        last = len(segments) - 1
        tail = segments[last]
        if self._holes[last]:
            taken = tail.taken()
            begin = last * WIDTH
            self._places.move(tail.ids[taken], begin + taken, begin + np.arange(len(taken)))
            segments[last] = tail.squeezed(taken)
            self._holes[last] = 0
        else:
            target = int(np.argmax(self._holes))
            count = min(self._holes[target], tail.count, _STEP)
            moved = np.arange(tail.count - count, tail.count)
            into = segments[target].holes()[:count]
            self._places.move(tail.ids[moved], last * WIDTH + moved, target * WIDTH + into)
            segments[target] = segments[target].filled(tail, moved, into)
            self._holes[target] -= count
            # Into arrays of its own: views from before still look at the places that are cut off and filled again.
            segments[last] = tail.cut(tail.count - count)
        if segments[last].count == 0:
            segments.pop()
            self._holes.pop()
        self._publish(segments)

    def _renew(self, segments: list[Segment] | tuple[Segment, ...], before: int) -> None:
        """Make the table of places anew, of those below `before`, with room for the others."""
        every = []
        for number, segment in enumerate(segments):
            taken = segment.taken()
            taken = taken[number * WIDTH + taken < before]
            every.append((segment.ids[taken], number * WIDTH + taken))
        self._places.renew(ExactView(self.dimensions, 0, tuple(segments)).places - before, every)

    def _publish(self, segments: list[Segment]) -> None:
        self._view = ExactView(self.dimensions, self._view.version + 1, tuple(segments))
