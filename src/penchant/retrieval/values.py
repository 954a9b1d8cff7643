"""Which rows have which value of a category or tags attribute, in an order made beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.arrays import offsets_of
from penchant.core.compile import kernel
from penchant.core.items import Category, Items, Ragged
from penchant.core.query import Query
from penchant.features.attributes import value_keys

_NO_CODES: NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class ByValue:
    """Both ways round: the codes of row `r` are `codes[offsets[r]:offsets[r + 1]]`, ascending.

    The rows of code `c` are `rows[starts[c]:starts[c + 1]]`, in the order asked for; `places` stands beside `codes` and
    says where the row is among those of the code, from 0, -1 for rows that the order leaves out.
    """

    offsets: NDArray[np.int64]
    codes: NDArray[np.int32]
    places: NDArray[np.int32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    hashes: NDArray[np.int64]
    """`hash_id` of the values, ascending, and the code of each."""
    of_hash: NDArray[np.int32]

    def wanted(self, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        """The codes of values by `hash_id`, ascending, each once; values that no item has are left out."""
        if len(self.hashes) == 0 or len(hashes) == 0:
            return _NO_CODES
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.unique(self.of_hash[at[self.hashes[at] == hashes]])


def by_value(items: Items, name: str, order: NDArray[np.int32]) -> ByValue:
    """Of the attribute `name`, the rows of `order`: best first; without such a column no values."""
    column: Category | Ragged | None = items.categories.get(name) or items.tags.get(name)
    if column is None:
        nothing = np.zeros(items.count + 1, np.int64)
        return ByValue(nothing, _NO_CODES, _NO_CODES, np.zeros(1, np.int64), _NO_CODES, nothing[:0], _NO_CODES)
    if isinstance(column, Category):
        given = column.codes[: items.count]
        offsets, codes = offsets_of((given >= 0).astype(np.int64)), given[given >= 0]
    else:
        offsets = column.offsets[: items.count + 1]
        codes = column.codes[: offsets[-1]]
    hashes = column.vocabulary.hashes
    starts, rows, places = _turned(offsets, codes, order, len(hashes))
    ascending = np.argsort(hashes, kind="stable")
    return ByValue(offsets, codes, places, starts, rows, hashes[ascending], ascending.astype(np.int32))


def values_of(query: Query, name: str) -> NDArray[np.int64]:
    """`hash_id` of the values that the user, or else the context of the request, gives for an attribute, int64[n]."""
    value = query.user.attributes.get(name)
    if value is None:
        value = query.context.get(name)
    return np.array(value_keys(value), np.int64)


@kernel
def _turned(
    offsets: NDArray[np.int64], codes: NDArray[np.int32], order: NDArray[np.int32], values: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    starts = np.zeros(values + 1, np.int64)
    for row in order:
        for at in range(offsets[row], offsets[row + 1]):
            starts[codes[at] + 1] += 1
    for value in range(values):
        starts[value + 1] += starts[value]
    filled = starts[:values].copy()
    rows = np.empty(starts[values], np.int32)
    places = np.full(len(codes), -1, np.int32)
    for row in order:
        for at in range(offsets[row], offsets[row + 1]):
            code = codes[at]
            rows[filled[code]] = row
            places[at] = filled[code] - starts[code]
            filled[code] += 1
    return starts, rows, places


@kernel
def best_places(
    offsets: NDArray[np.int64],
    codes: NDArray[np.int32],
    places: NDArray[np.int32],
    wanted: NDArray[np.int32],
    rows: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Per row its best place among those of the wanted codes (ascending), -1 where it has none of them."""
    found = np.full(len(rows), -1, np.int32)
    for index in range(len(rows)):
        at, end, k = offsets[rows[index]], offsets[rows[index] + 1], 0
        while at < end and k < len(wanted):
            if codes[at] < wanted[k]:
                at += 1
            elif codes[at] > wanted[k]:
                k += 1
            else:
                if places[at] >= 0 and (found[index] < 0 or places[at] < found[index]):
                    found[index] = places[at]
                at += 1
                k += 1
    return found


@kernel
def gather(
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    wanted: NDArray[np.int32],
    mask: NDArray[np.bool_],
    limit: int,
    without: int,
) -> NDArray[np.int32]:
    """The first `limit` rows under the mask of every wanted code; a row of several codes may occur several times."""
    room = 0
    for code in wanted:
        room += min(limit, starts[code + 1] - starts[code])
    found = np.empty(room, np.int32)
    size = 0
    for code in wanted:
        until = size + limit
        for at in range(starts[code], starts[code + 1]):
            if size == until:
                break
            row = rows[at]
            if mask[row] and row != without:
                found[size] = row
                size += 1
    return found[:size].copy()
