"""What a source worked out for the request in hand: ranking asks it again about rows that it did not propose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.core.query import Query, UserState

T = TypeVar("T")
_NOBODY: NDArray[np.int32] = np.empty(0, np.int32)


class Kept(threading.local, Generic[T]):
    """The last result, by thread; found again for the very same table, person and arrays that it was made from.

    These are never written, so the same objects mean the same result. Only they are held, not the query.
    """

    def __init__(self) -> None:
        self._table: object = None
        self._history = self._hidden = _NOBODY
        self._user: UserState | None = None
        self._seed = -1
        self._value: T | None = None

    def of(self, query: Query, table: object, make: Callable[[], T]) -> T:
        """The result for a query that reads this table: kept, or made now."""
        if (
            self._value is None
            or self._table is not table
            or self._history is not query.history
            or self._hidden is not query.hidden
            or self._user is not query.user
            or self._seed != query.seed_row
        ):
            self._value = None
            self._value = make()
            self._table, self._history, self._hidden = table, query.history, query.hidden
            self._user, self._seed = query.user, query.seed_row
        return self._value
