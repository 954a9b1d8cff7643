"""Co-visitation folded from the log: which items the same people turn to, one bounded table per item."""

from __future__ import annotations

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
        self._positive = frozenset(action.name for action in schema.actions.values() if action.weight > 0)
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
        room = self._partners + 1
        users: dict[str, int] = {}
        items: dict[str, int] = {}
        taken = np.empty((len(visits), 4), np.int64)
        taken[:, 0] = [users.setdefault(visit[0], len(users)) for visit in visits]
        taken[:, 1] = [items.setdefault(visit[1], len(items)) for visit in visits]
        taken[:, 2] = [visit[2] for visit in visits]
        taken[:, 3] = [visit[3] for visit in visits]

        user_keys = [recent_key(user_id) for user_id in users]
        known = [_NOBODY if blob is None else _decoder.decode(blob) for blob in state.get_many(user_keys)]
        of_known = [items.setdefault(item_id, len(items)) for user in known for item_id in user.items]
        used = np.array([len(user.items) for user in known], np.int64)
        times = np.frombuffer(b"".join([user.times for user in known]), np.int64)
        recent = _lay_out(used, np.array(of_known, np.int64), times, room)

        ids = list(items)
        item_keys = [neighbours_key(item_id) for item_id in ids]
        hashes = np.array([hash_id(item_id) for item_id in ids], np.int64)
        blobs = [blob or b"" for blob in state.get_many(item_keys)]
        sizes = np.array([len(blob) for blob in blobs], np.int64) // 16
        keys, counts = _unpack(np.frombuffer(b"".join(blobs), np.int64), sizes)
        changed = _count(taken, recent, hashes, keys, counts, sizes)

        touched = np.flatnonzero(changed)
        packed = _pack(touched, keys, counts, sizes).tobytes()
        start = 0
        for item, end in zip(touched.tolist(), (16 * np.cumsum(sizes[touched])).tolist(), strict=True):
            state.put(item_keys[item], packed[start:end])
            start = end
        # Flat lists and slices: a nested list per user would wake the garbage collector again and again.
        newest = recent[:, :, 0].ravel().tolist()
        packed = recent[:, :, 1:].tobytes()
        start = 0
        for key, size in zip(user_keys, np.count_nonzero(recent[:, :, 0] >= 0, axis=1).tolist(), strict=True):
            kept = [ids[item] for item in newest[start : start + size]]
            state.put(key, _encoder.encode(_Recent(packed[16 * start : 16 * (start + size)], kept)))
            start += room


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
def _pack(
    touched: NDArray[np.int64], keys: NDArray[np.int64], counts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The touched tables as blobs laid end to end."""
    total = 0
    for table in touched:
        total += 2 * sizes[table]
    packed = np.empty(total, np.int64)
    start = 0
    for table in touched:
        size = sizes[table]
        for at in range(size):
            packed[start + at] = keys[table, at]
            packed[start + size + at] = counts[table, at]
        start += 2 * size
    return packed


@kernel
def _count(
    taken: NDArray[np.int64],
    recent: NDArray[np.int64],
    hashes: NDArray[np.int64],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Take the visits (user, item, ts, position) in order; returns which tables changed."""
    changed = np.zeros(len(hashes), np.bool_)
    room = recent.shape[1]
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
                    _add(keys[item], counts[item], sizes, item, hashes[other])
                    _add(keys[other], counts[other], sizes, other, hashes[item])
                    changed[item] = True
                    changed[other] = True
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
    return changed


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
