"""The sample of sessions as columns: who visited each item, and what each session visited."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.arrays import IntArray, empty_keyed, offsets_of, spliced_keyed
from penchant.catalog.parts import Roster
from penchant.core.compile import kernel
from penchant.core.items import Keyed, SessionTable
from penchant.core.state import Key

_TIME_SHIFT = 16
_NO_ROWS: NDArray[np.int32] = np.empty(0, np.int32)


class SessionColumns:
    """Renewed from blobs of int64 sessions, ascending, followed by as many int64 of `time << 16 | place`.

    A renewal costs one pass over all visits: those that came and went are merged into what is in order of session.
    """

    def __init__(self) -> None:
        self.value: SessionTable | None = None
        """None while no item has a visit."""
        self._visits = empty_keyed()
        self._sessions: IntArray = np.empty(0, np.int64)
        """The session of each visit, ascending; within one by value, then by row."""
        self._values: IntArray = np.empty(0, np.int64)
        self._rows = _NO_ROWS

    def renew(self, roster: Roster, changed: Iterable[tuple[Key, bytes | None]]) -> None:
        runs = list(changed)
        count, known = len(roster.ids), len(self._visits.offsets) - 1
        if not runs and (count == known or self.value is None):
            return
        rows = roster.rows_of([key for key, _ in runs])
        order = np.argsort(rows)
        rows, blobs = rows[order], [runs[at][1] or b"" for at in order.tolist()]
        sizes = np.fromiter(map(len, blobs), np.int64, len(blobs)) >> 4
        fresh = Keyed(offsets_of(sizes), *_halves(np.frombuffer(b"".join(blobs), "<i8"), sizes))
        gone, come = _differing(self._visits, rows, fresh)
        self._visits = spliced_keyed(self._visits, count, rows, fresh)
        if len(gone) or len(come):
            self._sessions, self._values, self._rows = _merged(
                self._sessions, self._values, self._rows, _in_order(gone), _in_order(come)
            )
            keys, offsets, times = _sessions(self._sessions, self._values)
            index = _index(keys)
        elif self.value is not None:
            keys, offsets, times, index = self.value.keys, self.value.offsets, self.value.times, self.value.index
        else:
            return
        table = SessionTable(self._visits, keys, offsets, self._rows, times, index)
        self.value = table if len(keys) else None


def _in_order(visits: IntArray) -> IntArray:
    return visits[np.lexsort((visits[:, 2], visits[:, 1], visits[:, 0]))]


def _index(keys: IntArray) -> IntArray:
    """Where the keys with each beginning begin; there are about as many beginnings as keys."""
    bits = max(1, len(keys).bit_length() - 1)
    edges = np.arange(1 << bits, dtype=np.int64) << (63 - bits)
    return np.append(np.searchsorted(keys, edges), len(keys)).astype(np.int64)


@kernel
def _halves(words: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    total = sizes.sum()
    keys, values = np.empty(total, np.int64), np.empty(total, np.int64)
    at = 0
    for size in sizes:
        keys[at : at + size] = words[2 * at : 2 * at + size]
        values[at : at + size] = words[2 * at + size : 2 * (at + size)]
        at += size
    return keys, values


def _differing(old: Keyed, rows: IntArray, new: Keyed) -> tuple[IntArray, IntArray]:
    """(session, value, row) of the visits that the renewed rows had and have no longer, and the other way round."""
    return _difference(old.offsets, old.keys, old.values, rows, new.offsets, new.keys, new.values)


@kernel
def _difference(
    old_offsets: NDArray[np.int64],
    old_keys: NDArray[np.int64],
    old_values: NDArray[np.int64],
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    known = len(old_offsets) - 1
    room = 0
    for row in rows:
        if row < known:
            room += old_offsets[row + 1] - old_offsets[row]
    gone, come = np.empty((room, 3), np.int64), np.empty((len(keys), 3), np.int64)
    left = added = 0
    for k in range(len(rows)):
        row = rows[k]
        at, end = (old_offsets[row], old_offsets[row + 1]) if row < known else (0, 0)
        to, stop = offsets[k], offsets[k + 1]
        while at < end or to < stop:
            if at < end and to < stop and old_keys[at] == keys[to] and old_values[at] == values[to]:
                at += 1
                to += 1
            elif to == stop or (at < end and old_keys[at] <= keys[to]):
                gone[left, 0], gone[left, 1], gone[left, 2] = old_keys[at], old_values[at], row
                left += 1
                at += 1
            else:
                come[added, 0], come[added, 1], come[added, 2] = keys[to], values[to], row
                added += 1
                to += 1
    return gone[:left].copy(), come[:added].copy()


@kernel
def _merged(
    sessions: NDArray[np.int64],
    values: NDArray[np.int64],
    rows: NDArray[np.int32],
    gone: NDArray[np.int64],
    come: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """What is in order of (session, value, row), without what is gone and with what has come."""
    count = len(sessions) - len(gone) + len(come)
    new_sessions, new_values = np.empty(count, np.int64), np.empty(count, np.int64)
    new_rows = np.empty(count, np.int32)
    at = left = to = 0
    for place in range(count):
        while (
            left < len(gone)
            and sessions[at] == gone[left, 0]
            and values[at] == gone[left, 1]
            and rows[at] == gone[left, 2]
        ):
            at += 1
            left += 1
        old = at < len(sessions)
        if old and to < len(come):
            old = sessions[at] < come[to, 0] or (
                sessions[at] == come[to, 0]
                and (values[at] < come[to, 1] or (values[at] == come[to, 1] and rows[at] < come[to, 2]))
            )
        if old:
            new_sessions[place], new_values[place], new_rows[place] = sessions[at], values[at], rows[at]
            at += 1
        else:
            new_sessions[place], new_values[place], new_rows[place] = come[to, 0], come[to, 1], come[to, 2]
            to += 1
    return new_sessions, new_values, new_rows


@kernel
def _sessions(
    sessions: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The sessions, where each begins among the visits, and the newest time of each."""
    count = 0
    for at in range(len(sessions)):
        count += at == 0 or sessions[at] != sessions[at - 1]
    keys, offsets, times = np.empty(count, np.int64), np.zeros(count + 1, np.int64), np.empty(count, np.int64)
    one = -1
    for at in range(len(sessions)):
        if at == 0 or sessions[at] != sessions[at - 1]:
            one += 1
            keys[one] = sessions[at]
            offsets[one] = at
        times[one] = values[at] >> _TIME_SHIFT
    offsets[count] = len(sessions)
    return keys, offsets, times
