"""What people chose: lists in the settings, in the order in which they were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.mapped import rows_of
from penchant.core.candidates import Retrieved
from penchant.core.clock import Millis
from penchant.core.compile import kernel
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.topk import NOTHING

EVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Curated:
    """One list: ids of items, best first, shown from `since` on and before `until`, in milliseconds."""

    items: tuple[str, ...]
    since: Millis = 0
    until: Millis = EVER


@dataclass(frozen=True, slots=True, eq=False)
class EditorialTable:
    """The entries of all lists that the picture has, one after the other: row, when it runs, and its score."""

    rows: NDArray[np.int32]
    since: NDArray[np.int64]
    until: NDArray[np.int64]
    scores: NDArray[np.float32]
    before: NDArray[np.int32]
    """The entry before this one of the same row, -1 for none."""
    last: NDArray[np.int32]
    """By row of the picture: its last entry, -1 for none."""


@dataclass(frozen=True, slots=True)
class Editorial:
    """The items of the lists that run at `query.now`, one list after the other, each in its order.

    The score is `1 - k / n` for entry `k` of the `n` of all lists. An item in several of them stands where the first
    running one has it. Ids that the picture does not know are passed over.
    """

    name: str
    lists: Sequence[Curated] = ()
    _hashes: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        hashes = [hash_id(item) for one in self.lists for item in one.items]
        object.__setattr__(self, "_hashes", np.array(hashes, np.int64))

    def prepare(self, items: Items) -> EditorialTable:
        rows = rows_of(items, self._hashes)
        lengths = [len(one.items) for one in self.lists]
        since = np.repeat(np.array([one.since for one in self.lists], np.int64), lengths)
        until = np.repeat(np.array([one.until for one in self.lists], np.int64), lengths)
        scores = (1.0 - np.arange(len(rows)) / max(1, len(rows))).astype(np.float32)
        known = rows >= 0
        rows = rows[known]
        before, last = _chained(rows, items.count)
        return EditorialTable(rows, since[known], until[known], scores[known], before, last)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        if limit <= 0:
            return NOTHING
        found = _running(
            table.rows, table.since, table.until, table.before, query.now, query.eligible, limit, query.seed_row
        )
        return Retrieved(table.rows[found], table.scores[found])

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        found = _first(table.since, table.until, table.before, table.last[rows], query.now)
        scores = np.full(len(rows), np.nan, np.float32)
        scores[found >= 0] = table.scores[found[found >= 0]]
        return scores

    def _table(self, query: Query) -> EditorialTable:
        table = query.items.tables[self.name]
        assert isinstance(table, EditorialTable)
        return table


@kernel
def _chained(rows: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    before = np.empty(len(rows), np.int32)
    last = np.full(count, -1, np.int32)
    for k in range(len(rows)):
        before[k] = last[rows[k]]
        last[rows[k]] = k
    return before, last


@kernel
def _running(
    rows: NDArray[np.int32],
    since: NDArray[np.int64],
    until: NDArray[np.int64],
    before: NDArray[np.int32],
    now: int,
    mask: NDArray[np.bool_],
    limit: int,
    without: int,
) -> NDArray[np.int32]:
    """The first `limit` entries that run, of each row the first one."""
    found = np.empty(min(limit, len(rows)), np.int32)
    size = 0
    for k in range(len(rows)):
        if size == len(found):
            break
        if not since[k] <= now < until[k] or not mask[rows[k]] or rows[k] == without:
            continue
        earlier = before[k]
        while earlier >= 0 and not since[earlier] <= now < until[earlier]:
            earlier = before[earlier]
        if earlier < 0:
            found[size] = k
            size += 1
    return found[:size].copy()


@kernel
def _first(
    since: NDArray[np.int64], until: NDArray[np.int64], before: NDArray[np.int32], last: NDArray[np.int32], now: int
) -> NDArray[np.int32]:
    """Per last entry the first running one of its chain, -1 for none."""
    found = np.full(len(last), -1, np.int32)
    for index in range(len(last)):
        k = last[index]
        while k >= 0:
            if since[k] <= now < until[k]:
                found[index] = k
            k = before[k]
    return found
