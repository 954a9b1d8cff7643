"""A sample of recent sessions folded from the log: of each item the newest sessions that visited it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.compile import kernel
from penchant.core.events import Interaction, UserErased
from penchant.core.fold import Working
from penchant.core.hashing import fingerprint, hash_id
from penchant.core.log import ACCEPTED, Record
from penchant.core.schema import Schema
from penchant.core.state import Key, visits_key
from penchant.retrieval.covisit_fold import positive_actions

SESSION: Millis = 30 * 60_000
"""Without a visit for so long, a session is over."""

SESSIONS = 128
"""Sessions kept per item."""

PLACE_BITS = 16
"""Visits are compared by `time << 16 | place`: the time in ms, and how many visits the session had before."""

_MOST = (1 << PLACE_BITS) - 1
BEGUN, NEWEST, SIZE, ITEM = range(4)
"""Columns of a person's session: the time of the visit that began it, the newest time, how many visits it had, and
the `hash_id` of the item visited last in the order of the log."""


def session_key(user_id: str) -> Key:
    """Where the newest session of a user is kept."""
    return b"s" + user_id.encode()


class SessionFold:
    """Keeps, per item, the `SESSIONS` newest sessions that visited it.

    A visit is an accepted interaction of positive weight. It goes on with the person's session when it is at most `gap`
    past the newest visit and not more than `gap` before the first one; past that it begins a session, and before that
    it is of one that is long over and counts for none. A repeated action on the item visited last only renews its time.

    An item has each session once, by its newest visit: `(time, place)` in the session. Of more than `SESSIONS` the one
    with the smallest `(time, place, session)` gives way. That is the top of a set under a total order: whatever order
    visits are told to an item in, and however often, its bytes are the same. Which session a visit is of depends on the
    order of the person's own records alone.

    State: `v<item>` is int64[2, size], sessions ascending and then `time << 16 | place`; `s<user>` is int64[4]. A
    session is named by a hash of its person's id and of the time at which it began. An erased person's `s` is dropped;
    what items keep of the sessions stays until newer ones take its place, and is not made again by a rebuild.
    """

    def __init__(self, schema: Schema, gap: Millis = SESSION) -> None:
        self._positive = positive_actions(schema)
        self._gap = gap
        self.fingerprint = fingerprint("sessions", "1", str(SESSIONS), str(gap), *sorted(self._positive))

    def apply(self, records: Sequence[Record], state: Working) -> None:
        """Fold a run of records."""
        visits: list[tuple[str, str, Millis]] = []
        for record in records:
            event = record.event
            if type(event) is Interaction:
                if record.verdict == ACCEPTED and event.user_id and event.action in self._positive:
                    visits.append((event.user_id, event.item_id, record.ts))
            elif isinstance(event, UserErased):
                self._fold(visits, state)
                visits = []
                state.put(session_key(event.user_id), None)
        self._fold(visits, state)

    def _fold(self, visits: Sequence[tuple[str, str, Millis]], state: Working) -> None:
        if not visits:
            return
        users: dict[str, int] = {}
        items: dict[str, int] = {}
        walks = Walks(self._gap)
        tables: list[int] = []
        for user_id, item_id, ts in visits:
            walks.add(users.setdefault(user_id, len(users)), user_id, item_id, ts)
            tables.append(items.setdefault(item_id, len(items)))
        user_keys = [session_key(user_id) for user_id in users]
        for key, blob in zip(user_keys, walks.walked(state.get_many(user_keys)), strict=True):
            state.put(key, blob)
        keys = [visits_key(item_id) for item_id in items]
        blobs = visited(state.get_many(keys), np.array(tables, np.int64), walks.sessions, walks.values)
        for key, new in zip(keys, blobs, strict=True):
            if new:
                state.put(key, new)


class Walks:
    """The people's half: visits of one batch, and which session each is of.

    Each person is counted from 0, as in the blobs given to `walked`.
    """

    def __init__(self, gap: Millis) -> None:
        self._gap = gap
        self._visits: list[int] = []
        self._hashes: dict[str, int] = {}
        self._people: list[int] = []
        self.sessions: NDArray[np.int64] = np.empty(0, np.int64)
        """The session of each visit, -1 for none, once walked."""
        self.values: NDArray[np.int64] = np.empty(0, np.int64)
        """`time << 16 | place` of each visit."""

    def __len__(self) -> int:
        return len(self._visits) // 3

    def add(self, user: int, user_id: str, item_id: str, ts: Millis) -> None:
        """A visit, in log order; a new person has the next number."""
        item = self._hashes.get(item_id)
        if item is None:
            item = self._hashes[item_id] = hash_id(item_id)
        if user == len(self._people):
            self._people.append(hash_id(user_id))
        self._visits += (user, item, ts)

    def walked(self, blobs: Sequence[bytes | None]) -> list[bytes]:
        """The people's new `s` blobs, from their old ones; fills `sessions` and `values`."""
        begun = np.frombuffer(b"".join([blob or _NOBODY for blob in blobs]), np.int64).reshape(-1, 4).copy()
        visits = np.array(self._visits, np.int64).reshape(-1, 3)
        self.sessions, self.values = _walk(visits, np.array(self._people, np.int64), begun, self._gap)
        packed = begun.tobytes()
        return [packed[at : at + 32] for at in range(0, len(packed), 32)]


_NOBODY = bytes(32)


def visited(
    blobs: Sequence[bytes | None], tables: NDArray[np.int64], sessions: NDArray[np.int64], values: NDArray[np.int64]
) -> list[bytes]:
    """The items' half: the new `v` blobs, from the old ones and visits (index of the blob, session, value)."""
    old = [blob or b"" for blob in blobs]
    sizes = np.array([len(blob) for blob in old], np.int64) // 16
    packed = _visit(np.frombuffer(b"".join(old), np.int64), sizes, tables, sessions, values).tobytes()
    edges = [0, *(16 * np.cumsum(sizes)).tolist()]
    return [packed[start:end] for start, end in itertools.pairwise(edges)]


@kernel
def session_of(person: int, begun: int) -> int:
    """The name of a session: a hash of 63 bits of a person's `hash_id` and of the time at which it began."""
    mixed = np.uint64(person) + np.uint64(begun) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.int64((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(1)))


@kernel
def _walk(
    visits: NDArray[np.int64], people: NDArray[np.int64], begun: NDArray[np.int64], gap: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take the visits (user, item, ts) in order; `begun` is the people's sessions, and is written."""
    sessions = np.full(len(visits), -1, np.int64)
    values = np.zeros(len(visits), np.int64)
    for at in range(len(visits)):
        user, item, ts = visits[at, 0], visits[at, 1], visits[at, 2]
        one = begun[user]
        if one[SIZE] == 0 or ts > one[NEWEST] + gap:
            one[BEGUN], one[NEWEST], one[SIZE] = ts, ts, 1
        elif ts < one[BEGUN] - gap:
            continue
        else:
            if one[ITEM] != item:
                one[SIZE] += 1
            one[NEWEST] = max(one[NEWEST], ts)
        one[ITEM] = item
        sessions[at] = session_of(people[user], one[BEGUN])
        values[at] = ts * (1 << PLACE_BITS) + min(one[SIZE] - 1, _MOST)
    return sessions, values


@kernel
def _visit(
    packed: NDArray[np.int64],
    sizes: NDArray[np.int64],
    tables: NDArray[np.int64],
    sessions: NDArray[np.int64],
    values: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Put visits into tables laid end to end; returns them anew, and their sizes in `sizes`."""
    keys = np.empty((len(sizes), SESSIONS), np.int64)
    times = np.empty((len(sizes), SESSIONS), np.int64)
    start = 0
    for table in range(len(sizes)):
        size = sizes[table]
        keys[table, :size] = packed[start : start + size]
        times[table, :size] = packed[start + size : start + 2 * size]
        start += 2 * size
    for at in range(len(tables)):
        if sessions[at] >= 0:
            table = tables[at]
            sizes[table] = _add(keys[table], times[table], sizes[table], sessions[at], values[at])
    new = np.empty(2 * sizes.sum(), np.int64)
    start = 0
    for table in range(len(sizes)):
        size = sizes[table]
        new[start : start + size] = keys[table, :size]
        new[start + size : start + 2 * size] = times[table, :size]
        start += 2 * size
    return new


@kernel
def _add(keys: NDArray[np.int64], values: NDArray[np.int64], size: int, key: int, value: int) -> int:
    """A visit of session `key` to the item of a table kept by ascending session; returns how many it then has."""
    low = np.searchsorted(keys[:size], key)
    if low < size and keys[low] == key:
        values[low] = max(values[low], value)
        return size
    if size < len(keys):
        gap = size
        size += 1
    else:
        gap = 0
        for at in range(1, size):  # sessions ascend, so that of equal values the smallest session is met first
            if values[at] < values[gap]:
                gap = at
        if value < values[gap] or (value == values[gap] and key < keys[gap]):
            return size
    while gap > low:
        keys[gap], values[gap] = keys[gap - 1], values[gap - 1]
        gap -= 1
    while gap + 1 < low:
        keys[gap], values[gap] = keys[gap + 1], values[gap + 1]
        gap += 1
    keys[gap], values[gap] = key, value
    return size
