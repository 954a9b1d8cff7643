"""Co-visitation folded from the log: which items the same people turn to, one bounded table per item."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.events import Interaction, UserErased
from penchant.core.fold import Working
from penchant.core.hashing import fingerprint, hash_id
from penchant.core.log import ACCEPTED, Record
from penchant.core.schema import Schema
from penchant.core.state import Key, neighbours_key

TABLE = 128
"""Partners kept per item."""


class _Recent(msgspec.Struct, array_like=True, gc=False):
    """The newest items of a user, newest first: `times` is int64[size, 2], `(ts, position)`."""

    times: bytes
    items: list[str]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Recent] = msgspec.msgpack.Decoder(_Recent)
_NOBODY = _Recent(b"", [])


def recent_key(user_id: str) -> Key:
    """Where the newest items of a user are kept for pairing."""
    return b"r" + user_id.encode()


def positive_actions(schema: Schema) -> frozenset[str]:
    """The actions that are visits: those of positive weight."""
    return frozenset(action.name for action in schema.actions.values() if action.weight > 0)


class CovisitFold:
    """Counts, per item, the visits to other items by the same user.

    An accepted interaction of positive weight with an item that is not among the user's `partners + 1` newest is a
    visit: the pair of it and each of the `partners` newest other items, by `(ts, position)`, counts one more in both
    items' tables. A repeated action on one of them only renews its place, so that view, click and watch count once.
    A full table makes room: of the entries with the smallest count the one whose key is nearest to the new one's by
    exclusive or gives way, and the new one starts at 1. Keys are hashes, so that is a fair draw without a die. What is
    left depends on the order of the log, and on nothing else: records are taken one by one, however they are cut into
    batches.

    State: `n<item>` is int64[2, size], partners' `hash_id` ascending and then their counts; `r<user>` is msgpack
    `[times, items]`. An erased user (`user_id` "") is skipped; what such a user counted before stays, as counts of
    items do.
    """

    def __init__(self, schema: Schema, partners: int) -> None:
        self._positive = positive_actions(schema)
        self._partners = partners
        self.fingerprint = fingerprint("covisit", "1", str(TABLE), str(partners), *sorted(self._positive))

    def apply(self, records: Sequence[Record], state: Working) -> None:
        """Fold a run of records."""
        visits: list[tuple[str, str, int, int]] = []
        for record in records:
            event = record.event
            if type(event) is Interaction:
                if record.verdict == ACCEPTED and event.user_id and event.action in self._positive:
                    visits.append((event.user_id, event.item_id, record.ts, record.position))
            elif isinstance(event, UserErased):
                self._fold(visits, state)
                visits = []
                state.put(recent_key(event.user_id), None)
        self._fold(visits, state)

    def _fold(self, visits: Sequence[tuple[str, str, int, int]], state: Working) -> None:
        if not visits:
            return
        users: dict[str, int] = {}
        turns = Turns(self._partners)
        for user_id, item_id, ts, position in visits:
            turns.add(users.setdefault(user_id, len(users)), item_id, ts, position)
        user_keys = [recent_key(user_id) for user_id in users]
        for key, blob in zip(user_keys, turns.turned(state.get_many(user_keys)), strict=True):
            state.put(key, blob)
        if not len(turns.pairs):
            return
        touched, tables = np.unique(turns.pairs[:, 1], return_inverse=True)
        keys = [neighbours_key(turns.items[item]) for item in touched.tolist()]
        blobs = counted(state.get_many(keys), tables, turns.hashes[turns.pairs[:, 2]])
        for key, blob in zip(keys, blobs, strict=True):
            state.put(key, blob)


class Turns:
    """The people's half: visits of one batch, and the pairs that they make with the newest items of each person.

    Each person is counted from 0, as in the blobs given to `turned`.
    """

    def __init__(self, partners: int) -> None:
        self._room = partners + 1
        self._visits: list[int] = []
        self._ids: dict[str, int] = {}
        self.items: list[str] = []
        """Ids by index, once turned."""
        self.hashes: NDArray[np.int64] = np.empty(0, np.int64)
        """Their `hash_id`s."""
        self.pairs: NDArray[np.int64] = np.empty((0, 3), np.int64)
        """int64[n, (visit, item, partner)], in the order in which they count."""

    def __len__(self) -> int:
        return len(self._visits) // 4

    def add(self, user: int, item_id: str, ts: int, position: int) -> None:
        """A visit, in log order."""
        self._visits += (user, self._ids.setdefault(item_id, len(self._ids)), ts, position)

    def turned(self, blobs: Sequence[bytes | None]) -> list[bytes]:
        """The people's new `r` blobs, from their old ones; fills `items`, `hashes` and `pairs`."""
        items = self._ids
        known = [_NOBODY if blob is None else _decoder.decode(blob) for blob in blobs]
        of_known = [items.setdefault(item_id, len(items)) for user in known for item_id in user.items]
        used = np.array([len(user.items) for user in known], np.int64)
        times = np.frombuffer(b"".join([user.times for user in known]), np.int64)
        recent = _lay_out(used, np.array(of_known, np.int64), times, self._room)
        self.items = ids = list(items)
        self.hashes = np.array([hash_id(item_id) for item_id in ids], np.int64)
        self.pairs = _turn(np.array(self._visits, np.int64).reshape(-1, 4), recent, self.hashes)
        # Flat lists and slices: a nested list per user would wake the garbage collector again and again.
        newest = recent[:, :, 0].ravel().tolist()
        packed = recent[:, :, 1:].tobytes()
        turned, start = [], 0
        for size in np.count_nonzero(recent[:, :, 0] >= 0, axis=1).tolist():
            kept = [ids[item] for item in newest[start : start + size]]
            turned.append(_encoder.encode(_Recent(packed[16 * start : 16 * (start + size)], kept)))
            start += self._room
        return turned


def counted(blobs: Sequence[bytes | None], tables: NDArray[np.int64], partners: NDArray[np.int64]) -> list[bytes]:
    """The items' half: the new `n` blobs, from the old ones and pairs in order (index of the blob, partner's hash)."""
    old = [blob or b"" for blob in blobs]
    sizes = np.array([len(blob) for blob in old], np.int64) // 16
    keys, counts = _unpack(np.frombuffer(b"".join(old), np.int64), sizes)
    _count(tables, partners, keys, counts, sizes)
    packed = _pack(keys, counts, sizes).tobytes()
    edges = [0, *(16 * np.cumsum(sizes)).tolist()]
    return [packed[start:end] for start, end in itertools.pairwise(edges)]


@kernel
def _lay_out(
    used: NDArray[np.int64], items: NDArray[np.int64], times: NDArray[np.int64], room: int
) -> NDArray[np.int64]:
    """The users' newest items as int64[users, room, (item, ts, position)]; item -1 where there is none."""
    recent = np.full((len(used), room, 3), -1, np.int64)
    start = 0
    for user in range(len(used)):
        for at in range(used[user]):
            recent[user, at, 0] = items[start + at]
            recent[user, at, 1] = times[2 * (start + at)]
            recent[user, at, 2] = times[2 * (start + at) + 1]
        start += used[user]
    return recent


@kernel
def _unpack(packed: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tables of fixed width from blobs laid end to end; only the first `sizes[t]` entries of a table mean anything."""
    keys = np.empty((len(sizes), TABLE), np.int64)
    counts = np.empty((len(sizes), TABLE), np.int64)
    start = 0
    for table in range(len(sizes)):
        size = sizes[table]
        for at in range(size):
            keys[table, at] = packed[start + at]
            counts[table, at] = packed[start + size + at]
        start += 2 * size
    return keys, counts


@kernel
def _pack(keys: NDArray[np.int64], counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tables as blobs laid end to end."""
    packed = np.empty(2 * sizes.sum(), np.int64)
    start = 0
    for table in range(len(sizes)):
        size = sizes[table]
        for at in range(size):
            packed[start + at] = keys[table, at]
            packed[start + size + at] = counts[table, at]
        start += 2 * size
    return packed


@kernel
def _turn(taken: NDArray[np.int64], recent: NDArray[np.int64], hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take the visits (user, item, ts, position) in order; returns the pairs as (visit, item, partner)."""
    room = recent.shape[1]
    pairs = np.empty((2 * (room - 1) * len(taken), 3), np.int64)
    made = 0
    for index in range(len(taken)):
        user, item, ts, position = taken[index, 0], taken[index, 1], taken[index, 2], taken[index, 3]
        places = recent[user]
        found = -1
        used = 0
        while used < room and places[used, 0] >= 0:
            if places[used, 0] == item:
                found = used
            used += 1
        if found < 0:
            for at in range(min(used, room - 1)):
                other = places[at, 0]
                if hashes[other] != hashes[item]:
                    pairs[made, 0], pairs[made, 1], pairs[made, 2] = index, item, other
                    pairs[made + 1, 0], pairs[made + 1, 1], pairs[made + 1, 2] = index, other, item
                    made += 2
            if used < room:
                at = used
            elif _newer(ts, position, places[room - 1, 1], places[room - 1, 2]):
                at = room - 1
            else:
                continue
        elif _newer(ts, position, places[found, 1], places[found, 2]):
            at = found
        else:
            continue
        while at > 0 and _newer(ts, position, places[at - 1, 1], places[at - 1, 2]):
            places[at, 0], places[at, 1], places[at, 2] = places[at - 1, 0], places[at - 1, 1], places[at - 1, 2]
            at -= 1
        places[at, 0], places[at, 1], places[at, 2] = item, ts, position
    return pairs[:made]


@kernel
def _count(
    tables: NDArray[np.int64],
    partners: NDArray[np.int64],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> None:
    """Count the pairs (table, partner's hash) in order."""
    for pair in range(len(tables)):
        table = tables[pair]
        _add(keys[table], counts[table], sizes, table, partners[pair])


@kernel
def _newer(ts: int, position: int, other_ts: int, other_position: int) -> bool:
    return ts > other_ts or (ts == other_ts and position > other_position)


@kernel
def _add(keys: NDArray[np.int64], counts: NDArray[np.int64], sizes: NDArray[np.int64], table: int, key: int) -> None:
    """One more of `key` in a table kept by ascending key."""
    size = sizes[table]
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < size and keys[low] == key:
        counts[low] += 1
        return
    if size < len(keys):
        gap = size
        sizes[table] = size + 1
    else:
        gap = _weakest(keys, counts, key)
    while gap > low:
        keys[gap], counts[gap] = keys[gap - 1], counts[gap - 1]
        gap -= 1
    while gap + 1 < low:
        keys[gap], counts[gap] = keys[gap + 1], counts[gap + 1]
        gap += 1
    keys[gap], counts[gap] = key, 1


@kernel
def _weakest(keys: NDArray[np.int64], counts: NDArray[np.int64], key: int) -> int:
    """Where in a full table the entry stands that gives way to `key`.

    Three passes without a branch, which the compiler turns into vector instructions: nearly every count of a new pair
    comes through here. Keys are not negative, and each stands once.
    """
    most = np.int64(2**63 - 1)
    least = most
    for at in range(TABLE):
        least = min(least, counts[np.uintp(at)])
    nearest = most
    for at in range(TABLE):
        distance = keys[np.uintp(at)] ^ key
        nearest = min(nearest, distance if counts[np.uintp(at)] == least else most)
    place = 0
    for at in range(TABLE):
        # Another entry may be as near only with a larger count: keys differ, so distances do.
        place += at if keys[np.uintp(at)] ^ key == nearest else 0
    return place
