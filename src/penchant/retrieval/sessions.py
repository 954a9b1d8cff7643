"""A sample of recent sessions: what each visited, and who visited each item, renewed by every event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

ITEM, SLOT, PLACE, OF_ITEM, OF_SESSION = range(5)
"""Columns of `Visits.rows`: the item; the session's slot; how many visits the session had before; how many visits ago
the one before of the same item was, and of the same session, 0 for none."""

FIRST, LAST, SIZE, TIME = range(4)
"""Columns of `Visits.slots`: the session's first and newest visit, how many it had, the newest time."""


class Visits(NamedTuple):
    """The arrays of a sample. Visits are numbered from 0 as they come; visit `v` stands in row `v % events`.

    Every visit points to the one before it of the same item and of the same session, so that nothing is ever moved:
    a chain ends where it reaches a visit that has left. What is read together stands together.
    """

    rows: NDArray[np.int32]
    """int32[events, 5]."""
    newest: NDArray[np.int64]
    """By item, -1 for none."""
    counts: NDArray[np.int32]
    """By item, of the visits kept."""
    slots: NDArray[np.int64]
    """int64[sessions, 4]."""
    keys: NDArray[np.int64]
    """By slot, the session in it."""
    seats: NDArray[np.int32]
    """Slots by hash of the key, open addressing; -1 for none."""
    clock: NDArray[np.int64]
    """Visits taken, sessions begun."""


_MOST = 1 << 30


@dataclass(slots=True, eq=False)
class Sessions:
    """The newest `events` visits of the newest `sessions` sessions, of each session the newest `length`.

    A session leaves when as many others have begun after it; should it go on, it begins anew. What is left depends on
    the order of the visits alone. Takes `20 * events + 56 * sessions` bytes and twelve per item. One thread writes; who
    reads beside it takes a `frozen` copy.
    """

    sessions: int = 200_000
    events: int = 1_000_000
    length: int = 50
    arrays: Visits = None  # type: ignore[assignment]  # made below

    def __post_init__(self) -> None:
        if min(self.sessions, self.events, self.length) < 1:
            raise ValueError("a sample of sessions needs room for at least one of each")
        if max(self.sessions, self.events) >= _MOST:
            raise ValueError(f"a sample of sessions is below {_MOST:,} of each")
        if self.arrays is None:
            self.arrays = _empty(self.sessions, self.events)

    @property
    def n_items(self) -> int:
        """Items are numbered below this."""
        return len(self.arrays.newest)

    @property
    def n_visits(self) -> int:
        """How many visits are kept."""
        return min(int(self.arrays.clock[0]), self.events)

    def add(self, session: int, item: int, time: int) -> None:
        """One visit; `time` in any unit that the reader also uses."""
        self.extend(np.array([session], np.int64), np.array([item], np.int32), np.array([time], np.int64))

    def extend(self, sessions: NDArray[np.int64], items: NDArray[np.int32], times: NDArray[np.int64]) -> None:
        """Visits in the order in which they came: any keys of sessions, items not negative, times."""
        if not len(sessions) == len(items) == len(times):
            raise ValueError("sessions, items and times must be as many")
        if len(items) == 0:
            return
        if items.min() < 0:
            raise ValueError("an item is negative")
        self.reserve(int(items.max()) + 1)
        _extend(self.arrays, sessions.astype(np.int64), items.astype(np.int32), times.astype(np.int64))

    def reserve(self, n_items: int) -> None:
        """Make room for items below `n_items`, beforehand or as they come."""
        if n_items > self.n_items:
            more = max(n_items, 2 * self.n_items) - self.n_items
            self.arrays = self.arrays._replace(
                newest=np.concatenate([self.arrays.newest, np.full(more, -1, np.int64)]),
                counts=np.concatenate([self.arrays.counts, np.zeros(more, np.int32)]),
            )

    def frozen(self) -> Sessions:
        """A copy that nobody writes to."""
        arrays = Visits._make(array.copy() for array in self.arrays)
        for array in arrays:
            array.flags.writeable = False
        return Sessions(self.sessions, self.events, self.length, arrays)


def _empty(sessions: int, events: int) -> Visits:
    return Visits(
        rows=np.zeros((events, 5), np.int32),
        newest=np.empty(0, np.int64),
        counts=np.empty(0, np.int32),
        slots=np.zeros((sessions, 4), np.int64),
        keys=np.zeros(sessions, np.int64),
        seats=np.full(1 << (2 * sessions - 1).bit_length(), -1, np.int32),
        clock=np.zeros(2, np.int64),
    )


@kernel
def slot_of(visits: Visits, session: int) -> int:
    """The slot in which a session is, -1 where the sample does not know it."""
    return int(visits.seats[_seat(visits.seats, visits.keys, session)])


@kernel
def _extend(visits: Visits, sessions: NDArray[np.int64], items: NDArray[np.int32], times: NDArray[np.int64]) -> None:
    events, room = len(visits.rows), len(visits.slots)
    for at in range(len(items)):
        visit = visits.clock[0]
        seat = _seat(visits.seats, visits.keys, sessions[at])
        slot = visits.seats[seat]
        if slot < 0:
            slot = np.int32(visits.clock[1] % room)
            if visits.clock[1] >= room:
                _vacate(visits.seats, visits.keys, visits.keys[slot])
                seat = _seat(visits.seats, visits.keys, sessions[at])
            visits.clock[1] += 1
            visits.seats[seat] = slot
            visits.keys[slot] = sessions[at]
            visits.slots[slot, FIRST] = visit
            visits.slots[slot, LAST] = -1
            visits.slots[slot, SIZE] = 0
            visits.slots[slot, TIME] = times[at]
        session = visits.slots[slot]
        row = visits.rows[visit % events]
        if visit >= events:
            visits.counts[row[ITEM]] -= 1
        item = items[at]
        row[ITEM] = item
        row[SLOT] = slot
        row[PLACE] = session[SIZE]
        row[OF_ITEM] = _ago(visit, visits.newest[item])
        row[OF_SESSION] = _ago(visit, session[LAST])
        visits.newest[item] = visit
        visits.counts[item] += 1
        session[LAST] = visit
        session[SIZE] += 1
        session[TIME] = max(session[TIME], times[at])
        visits.clock[0] = visit + 1


@kernel
def _ago(visit: int, before: int) -> int:
    """How many visits ago; 0 where there was none, or where it has left for long."""
    return visit - before if before >= 0 and visit - before < _MOST else 0


@kernel
def home(key: int, mask: int) -> int:
    """Where the search for a key begins in a table of `mask + 1` seats, a power of two."""
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return int(np.int64(mixed >> np.uint64(32)) & mask)


@kernel
def _seat(index: NDArray[np.int32], key: NDArray[np.int64], session: int) -> int:
    """Where in the index the session is, or would be."""
    mask = len(index) - 1
    at = home(session, mask)
    while index[at] >= 0 and key[index[at]] != session:
        at = (at + 1) & mask
    return at


@kernel
def _vacate(index: NDArray[np.int32], key: NDArray[np.int64], session: int) -> None:
    """Take a session out; who sat behind it moves up, so that no search ends too early."""
    mask = len(index) - 1
    gap = _seat(index, key, session)
    at = gap
    while True:
        index[gap] = -1
        while True:
            at = (at + 1) & mask
            if index[at] < 0:
                return
            from_home = (at - home(key[index[at]], mask)) & mask
            if from_home >= ((at - gap) & mask):
                break
        index[gap] = index[at]
        gap = at
