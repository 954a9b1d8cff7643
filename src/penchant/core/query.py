"""A request together with the frozen world it is answered in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.events import AttributeValue
from penchant.core.hashing import hash_id
from penchant.core.items import Items

_NO_INTS: NDArray[np.int64] = np.empty(0, np.int64)
_NO_ROWS: NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Interactions of one user, newest first by `(ts, position)`; parallel arrays."""

    items: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """`hash_id` of the item."""
    actions: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """`Action.code`."""
    ts: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    values: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """Fixed point."""

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UserState:
    """What the state says of a user at `position`; for a new user all is empty and features are at their defaults."""

    position: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    history: History = field(default_factory=History)
    seen: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """`hash_id` of items the user interacted with in any way, newest first, bounded."""
    hidden: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """`hash_id` of items the user does not want (actions with a negative weight), newest first, bounded."""
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    """float32, in the order of the plan's user features."""
    keyed: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...] = ()
    """Per feature crossed with an item attribute, in the plan's order: keys (`hash_id` of the value) and integers."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Query:
    """Immutable; whatever had to wait was done when it was prepared, so that stages need no store and no clock."""

    request_id: str
    now: Millis
    user_id: str
    surface: str
    size: int
    user: UserState
    items: Items
    eligible: NDArray[np.bool_]
    """bool[items.count]: what sources may propose (listed, `where`, `exclude`, allow and deny rules)."""
    context: Mapping[str, AttributeValue] = field(default_factory=dict)
    history: NDArray[np.int32] = field(default_factory=lambda: _NO_ROWS)
    """Rows the user did something of positive weight to, newest first, each once."""
    history_times: NDArray[np.int64] = field(default_factory=lambda: _NO_INTS)
    """When that was last, ms, for each of `history`."""
    seen: NDArray[np.int32] = field(default_factory=lambda: _NO_ROWS)
    hidden: NDArray[np.int32] = field(default_factory=lambda: _NO_ROWS)
    segment: int = -1
    """`hash_id` of the user's value of the segment attribute, -1 without one."""
    seed_row: int = -1
    """The item that the surface is about, -1 for none."""
    rank_only: NDArray[np.int32] | None = None
    """Rank exactly these rows instead of retrieving."""

    @property
    def seed(self) -> int:
        """What random draws of this request derive from."""
        return hash_id(self.request_id)
