"""What is popular now, everywhere or among people like the user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.arrays import offsets_of
from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel
from penchant.core.items import Items, Keyed
from penchant.core.query import Query
from penchant.retrieval.topk import NOTHING, best_first, walk

FEATURE = "popularity"
SEGMENT_FEATURE = "popularity_segment"
_YEAR_MS = 365.25 * 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class PopularTable:
    """Rows in the order in which they are proposed, and the score of every row, NaN where it is never proposed."""

    order: NDArray[np.int32]
    scores: NDArray[np.float32]
    keyed: Keyed | None = None
    segments: NDArray[np.int64] | None = None
    """Keys of segments, ascending; the rows of segment `s` are `segment_rows[starts[s]:starts[s + 1]]`, best first."""
    starts: NDArray[np.int64] | None = None
    segment_rows: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class Popular:
    """Decayed popularity, read from the feature column `popularity`.

    Only items with a popularity above zero are proposed. With `fill` (what fallbacks ask for) the others follow,
    newest first, with a score of minus their age in years. `segmented` puts what is popular in the user's segment
    (feature `popularity_segment`) first and goes on with what is popular everywhere when that is too little; the
    score is then the segment's integer, or the global one scaled by a power of two to stay below 1.
    """

    name: str
    segmented: bool = False
    fill: bool = False

    def prepare(self, items: Items) -> PopularTable:
        scores = np.full(items.count, np.nan, np.float32)
        if FEATURE in items.feature_names:
            popularity = items.column(FEATURE)
            known = np.isfinite(popularity) & (popularity > 0)
            scores[known] = popularity[known]
        if self.fill:
            missing = np.isnan(scores)
            scores[missing] = -np.maximum(0, items.time - items.listed_at[missing]) / _YEAR_MS
        if self.segmented:
            top = float(np.max(scores, initial=0.0, where=scores > 0))
            scores = np.ldexp(scores, -max(0, int(np.frexp(top)[1])))  # a power of two: the order stays as it was
        rows = np.flatnonzero(~np.isnan(scores)).astype(np.int32)
        order = rows[best_first(scores[rows])]
        keyed = items.keyed.get(SEGMENT_FEATURE) if self.segmented else None
        if keyed is None:
            return PopularTable(order, scores)
        owners = np.repeat(np.arange(items.count, dtype=np.int32), np.diff(keyed.offsets[: items.count + 1]))
        keys, values = keyed.keys[: len(owners)], keyed.values[: len(owners)].astype(np.float32)
        counted = np.flatnonzero(values > 0)
        segments, sizes = np.unique(keys[counted], return_counts=True)
        ranked = counted[best_first(values[counted])]
        codes = np.searchsorted(segments, keys[ranked]).astype(np.uint16 if len(segments) < 1 << 16 else np.int64)
        ranked = ranked[np.argsort(codes, kind="stable")]  # equal popularity stays in order of row
        return PopularTable(order, scores, keyed, segments, offsets_of(sizes), owners[ranked])

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        if limit <= 0:
            return NOTHING
        everywhere = walk(table.order, table.scores, query.eligible, limit, query.seed_row)
        segment = self._segment(table, query)
        if segment is None:
            return Retrieved(*everywhere)
        keyed = table.keyed
        assert keyed is not None
        near = _walk_segment(
            segment, keyed.offsets, keyed.keys, keyed.values, query.segment, query.eligible, limit, query.seed_row
        )
        if len(near[0]) < limit:
            rest = _walk_rest(
                table.order, table.scores, keyed.offsets, keyed.keys, keyed.values, query.segment,
                query.eligible, limit - len(near[0]), query.seed_row,
            )  # fmt: skip
            near = np.concatenate((near[0], rest[0])), np.concatenate((near[1], rest[1]))
        return Retrieved(*near)

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        scores = table.scores[rows]
        if self._segment(table, query) is not None and table.keyed is not None:
            keyed = table.keyed
            _overlay(scores, rows, keyed.offsets, keyed.keys, keyed.values, query.segment)
        return scores

    def _table(self, query: Query) -> PopularTable:
        table = query.items.tables[self.name]
        assert isinstance(table, PopularTable)
        return table

    def _segment(self, table: PopularTable, query: Query) -> NDArray[np.int32] | None:
        """The rows known in the user's segment, best first; None when nothing is known of it."""
        if table.segments is None or table.starts is None or table.segment_rows is None or query.segment < 0:
            return None
        at = int(np.searchsorted(table.segments, query.segment))
        if at == len(table.segments) or table.segments[at] != query.segment:
            return None
        return table.segment_rows[table.starts[at] : table.starts[at + 1]]


@kernel
def _value(offsets: NDArray[np.int64], keys: NDArray[np.int64], values: NDArray[np.int64], row: int, key: int) -> int:
    """The row's integer under the key, 0 where there is none."""
    low, high = offsets[row], offsets[row + 1]
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < offsets[row + 1] and keys[low] == key:
        return int(values[low])
    return 0


@kernel
def _walk_segment(
    order: NDArray[np.int32],
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    key: int,
    mask: NDArray[np.bool_],
    limit: int,
    without: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    room = min(limit, len(order))
    rows = np.empty(room, np.int32)
    scores = np.empty(room, np.float32)
    size = 0
    for index in range(len(order)):
        if size == room:
            break
        row = order[index]
        if mask[row] and row != without:
            rows[size] = row
            scores[size] = np.float32(_value(offsets, keys, values, row, key))
            size += 1
    return rows[:size].copy(), scores[:size].copy()


@kernel
def _walk_rest(
    order: NDArray[np.int32],
    everywhere: NDArray[np.float32],
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    key: int,
    mask: NDArray[np.bool_],
    limit: int,
    without: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The walk over what is popular everywhere, past what the segment already gave."""
    room = min(limit, len(order))
    rows = np.empty(room, np.int32)
    scores = np.empty(room, np.float32)
    size = 0
    for index in range(len(order)):
        if size == room:
            break
        row = order[index]
        if mask[row] and row != without and _value(offsets, keys, values, row, key) <= 0:
            rows[size] = row
            scores[size] = everywhere[row]
            size += 1
    return rows[:size].copy(), scores[:size].copy()


@kernel
def _overlay(
    scores: NDArray[np.float32],
    rows: NDArray[np.int32],
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    key: int,
) -> None:
    """Put the segment's score over the global one where the segment knows the row."""
    for index in range(len(rows)):
        value = _value(offsets, keys, values, rows[index], key)
        if value > 0:
            scores[index] = np.float32(value)
