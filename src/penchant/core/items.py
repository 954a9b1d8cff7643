"""The items as columns: an unchanging picture of the catalogue and its features that requests are answered from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.hashing import hash_id

UNKNOWN, LISTED, UNLISTED, REMOVED = 0, 1, 2, 3
"""Life cycle of an item. `UNKNOWN`: interactions named it, no `item` event brought it yet."""

MISSING_CODE = -1
MISSING_TIME = -1
"""No time at all; other times before 1970 are negative."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The values of a category or tags attribute; codes count from 0. They are of this picture: another may differ.

    In pictures of the catalogue the codes follow the order of the values as text, and only values in use have one.
    """

    values: Sequence[str]
    codes: Mapping[str, int]
    hashes: NDArray[np.int64]
    """`hash_id` of each value, by code: how state keys name the value."""


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """A category attribute: one code per row, `MISSING_CODE` where there is none."""

    codes: NDArray[np.int32]
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """A tags attribute: the codes of row `r` are `codes[offsets[r]:offsets[r + 1]]`, ascending, each once."""

    offsets: NDArray[np.int64]
    codes: NDArray[np.int32]
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Keyed:
    """Integers by row and key: those of row `r` are at `offsets[r]:offsets[r + 1]`, keys ascending."""

    offsets: NDArray[np.int64]
    keys: NDArray[np.int64]
    values: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SessionTable:
    """A sample of recent sessions: who visited each item, and what each session visited."""

    visits: Keyed
    """Row → sessions (as keys), values `time << 16 | place`: the session's newest visit to the item, the time in ms."""
    keys: NDArray[np.int64]
    """The sessions, ascending: hashes of 63 bits."""
    offsets: NDArray[np.int64]
    """The visits of session `s` are `rows[offsets[s]:offsets[s + 1]]`, the oldest first, each item once."""
    rows: NDArray[np.int32]
    times: NDArray[np.int64]
    """The newest visit of each session, ms."""
    index: NDArray[np.int64]
    """int64[2**b + 1]: where keys begin that have each `b` highest of their 63 bits, and their end."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Items:
    """All items at one position of the log and one time; every array is indexed by row and must not be written.

    A row is given when the log first names an item and never changes. `ids` and `rows` may already know
    later items: only rows below `count` are part of the picture.
    """

    position: int
    time: Millis
    count: int
    ids: Sequence[str]
    rows: Mapping[int, int]
    """`hash_id(item id)` → row."""
    status: NDArray[np.uint8]
    listed: NDArray[np.bool_]
    """`status == LISTED`."""
    listed_at: NDArray[np.int64]
    """Event time (ms) of the first `item` event, 0 where there was none."""
    categories: Mapping[str, Category] = field(default_factory=dict)
    tags: Mapping[str, Ragged] = field(default_factory=dict)
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """NaN where missing."""
    timestamps: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Milliseconds; `MISSING_TIME` where missing."""
    flags: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    """1, 0, or -1 where missing."""
    texts: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """float32[count, size]; rows of NaN where missing."""
    feature_names: tuple[str, ...] = ()
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """float32[count, len(feature_names)], row-major, windows evaluated at `time`; NaN is missing."""
    keyed: Mapping[str, Keyed] = field(default_factory=dict)
    """Features keyed by a user attribute (popularity by segment), by feature name; keys are `hash_id` of the value."""
    neighbours: Keyed | None = None
    """Co-visitation counts: row → rows (as keys), ascending rows."""
    sessions: SessionTable | None = None
    """None where no surface asks for sessions, and while there are none."""
    tables: dict[str, object] = field(default_factory=dict)
    """What each source prepared from this picture, by the source's name; filled before the picture is served."""

    def row(self, item_id: str) -> int:
        """The row of an item, -1 when this picture has none."""
        row = self.rows.get(hash_id(item_id), -1)
        return row if row < self.count else -1

    def column(self, name: str) -> NDArray[np.float32]:
        """One feature column (a strided view). Not for the request path: resolve names once."""
        return self.features[:, self.feature_names.index(name)]
