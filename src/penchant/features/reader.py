"""Reading features from state blobs: one user for a request, all items for the columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.items import Keyed
from penchant.core.profiles import decode_user
from penchant.core.query import History, UserState
from penchant.features.blob import (
    CELL_SHIFT,
    DISTINCT_ROW,
    HEADER,
    LIST_ROW,
    LISTS_AT,
    ROW,
    ROWS_AT,
    concatenate,
    words_of,
)
from penchant.features.builtin import HIDDEN, HISTORY, HISTORY_ROWS, SEEN
from penchant.features.finalise import Finaliser, finish_cross
from penchant.features.plan import Cross, Listing, Part, Plan, SidePlan
from penchant.features.reading import count_keyed, read_keyed, read_scalars
from penchant.features.spec import Side
from penchant.features.tiles import tail_tile

Ints = NDArray[np.int64]

_EMPTY: Ints = np.empty(0, np.int64)
_NO_HISTORY = History()


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """Features of many entities at one time, in their order."""

    features: NDArray[np.float32]
    """float32[n, columns]; NaN is missing."""
    keyed: Mapping[str, Keyed]
    """By cross name (and `Cross.per_name`): integers by key."""
    next_change: Ints
    """The earliest later time (ms) at which a value may change without an event; `NEVER` where none does."""


class Reader:
    """Evaluates a plan on blobs. Reading creates nothing; `None` stands for an entity without state.

    `now` may be any time from ten minutes before the newest record's `ingested_at` on: older tiles may be gone.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._user = _SideReader(plan.user)
        self._item = _SideReader(plan.item)

    def user(self, position: int, blob: bytes | None, profile: bytes | None, now: Millis) -> UserState:
        """What a request needs to know of a user: history, lists, scalar features, keyed integers.

        `features` is float32[len(plan.user_names)]; `keyed[cross.part]` are (keys, integers) of a cross feature.
        """
        attributes = {} if profile is None else decode_user(profile).attributes
        if blob is None:
            return UserState(
                position=position,
                attributes=attributes,
                features=self._user.defaults,
                keyed=((_EMPTY, _EMPTY),) * self.plan.user.crossed,
            )
        words = words_of(blob)
        ints, _ = self._user.scalars(words, np.array((0, len(words)), np.int64), now)
        lists = self._user.lists(words)
        return UserState(
            position=position,
            attributes=attributes,
            history=_history(lists[HISTORY]),
            seen=lists[SEEN][:, 2],
            hidden=lists[HIDDEN][:, 2],
            features=self._user.finaliser.finish(ints)[0],
            keyed=self._user.pairs(words, now) if self.plan.user.crossed else (),
        )

    def evaluate_items(self, blobs: Sequence[bytes | None], now: Millis) -> Evaluated:
        """Scalar and keyed features of many items, `features` in the order of `plan.item_names`.

        Each row depends on its own blob alone: equal bit for bit however the items are batched.
        """
        return self._item.many(blobs, now)

    def evaluate_users(self, blobs: Sequence[bytes | None], now: Millis) -> Evaluated:
        """The same for many users, in the order of `plan.user_names`."""
        return self._user.many(blobs, now)

    def counters(self, blob: bytes | None) -> dict[str, int]:
        """Exact all-time counts by action and of impressions, of a user's or an item's blob."""
        words = words_of(blob)
        counts = dict.fromkeys(self.plan.actions, 0)
        if len(words):
            # Both sides keep the totals in their first cells, in the order of the actions.
            rows = _rows(words)
            for cell, total in zip((rows[:, 0] >> CELL_SHIFT).tolist(), rows[:, 2].tolist(), strict=True):
                if cell >= len(self.plan.actions):
                    break
                counts[self.plan.actions[cell]] = total
        return counts

    def recent(self, blob: bytes | None) -> History:
        """A user's newest interactions, newest first."""
        return _NO_HISTORY if blob is None else _history(self._user.lists(words_of(blob))[HISTORY])

    def describe(
        self, blob: bytes | None, entity: Side, now: Millis, names: Callable[[int], str | None] | None = None
    ) -> dict[str, float | list[dict[str, Any]] | None]:
        """All features of one user or item for people: numbers (`None` is missing), and lists for last and top.

        `names` turns hashes (of ids in `last`, of attribute values in `top` and crosses) back into words.
        """
        side = self._user if entity == "user" else self._item
        return side.describe(words_of(blob), now, self.plan.actions, names or (lambda _: None))


class _SideReader:
    """The tables of one side in the shape that the kernels take."""

    def __init__(self, side: SidePlan) -> None:
        self.side = side
        self.finaliser = Finaliser(side.columns)
        starts: dict[tuple[Millis, Millis], int] = {}
        tables: list[Ints] = []
        for key, table in side.weights.items():
            starts[key] = sum(map(len, tables))
            tables.append(table)
        self._weights = np.concatenate([np.zeros(0, np.int64), *tables])
        self._parts = self._table(side.parts, starts)
        self._keyed = self._table(side.keyed, starts)
        self._crossed = self._keyed[: side.crossed]
        self.defaults = self.finaliser.finish(np.zeros((1, side.slots), np.int64))[0]
        self.defaults.flags.writeable = False

    def _table(self, parts: Sequence[Part], starts: Mapping[tuple[Millis, Millis], int]) -> Ints:
        rows = []
        for part in parts:
            decay = (part.half_life, part.hop)
            table = self.side.weights[decay] if part.half_life else _EMPTY
            rows.append((part.cell, part.hop, part.window, starts.get(decay, 0), len(table), part.k, part.slot))
        return np.array(rows, np.int64).reshape(-1, 7)

    def scalars(self, words: Ints, at: Ints, now: Millis) -> tuple[Ints, Ints]:
        """Integers int64[n, slots] of concatenated blobs, and when each changes next."""
        ints = np.zeros((len(at) - 1, self.side.slots), np.int64)
        change = np.empty(len(at) - 1, np.int64)
        read_scalars(words, at, self._parts, self._weights, now, ints, change)
        return ints, change

    def pairs(self, words: Ints, now: Millis, *, tops: bool = False) -> tuple[tuple[Ints, Ints], ...]:
        """The (keys, integers) of each keyed part of one blob, those of `top` listings only if asked."""
        parts = self._keyed if tops else self._crossed
        bound = len(parts) * int(words[ROWS_AT]) if len(words) else 0
        offsets = np.zeros(len(parts) + 1, np.int64)
        keys, values = np.empty((2, bound), np.int64)
        at, change = np.array((0, len(words)), np.int64), np.empty(1, np.int64)
        read_keyed(words, at, parts, self._weights, now, offsets, keys, values, change)
        return tuple((keys[a:b], values[a:b]) for a, b in itertools.pairwise(offsets.tolist()))

    def many(self, blobs: Sequence[bytes | None], now: Millis) -> Evaluated:
        words, at = concatenate(blobs)
        ints, change = self.scalars(words, at, now)
        n = len(blobs)
        keyed: dict[str, Keyed] = {}
        if self.side.crossed:
            offsets = np.zeros(self.side.crossed * n + 1, np.int64)
            keys, values = np.empty((2, count_keyed(words, at, self._crossed, now)), np.int64)
            read_keyed(words, at, self._crossed, self._weights, now, offsets, keys, values, change)
            parts = []
            for p in range(self.side.crossed):
                start, end = offsets[p * n], offsets[(p + 1) * n]
                parts.append(Keyed(offsets[p * n : (p + 1) * n + 1] - start, keys[start:end], values[start:end]))
            for cross in self.side.crosses:
                keyed[cross.name] = parts[cross.part]
                if cross.per >= 0:
                    keyed[cross.per_name] = parts[cross.per]
        return Evaluated(self.finaliser.finish(ints), keyed, change)

    def lists(self, words: Ints) -> list[Ints]:
        """The lists of a blob as int64[n, 5], or [n, 3] where distinct; views."""
        states = self.side.lists
        if not len(words):
            return [_EMPTY.reshape(0, DISTINCT_ROW if kept.distinct else LIST_ROW) for kept in states]
        lengths = words[HEADER : HEADER + len(states)].tolist()
        start = HEADER + len(states) + ROW * int(words[ROWS_AT])
        lists = []
        for kept, length in zip(states, lengths, strict=True):
            width = DISTINCT_ROW if kept.distinct else LIST_ROW
            lists.append(words[start : start + length * width].reshape(length, width))
            start += length * width
        return lists

    def describe(
        self, words: Ints, now: Millis, actions: Sequence[str], names: Callable[[int], str | None]
    ) -> dict[str, float | list[dict[str, Any]] | None]:
        side = self.side
        ints, _ = self.scalars(words, np.array((0, len(words)), np.int64), now)
        values = self.finaliser.finish(ints)[0].tolist()
        described: dict[str, float | list[dict[str, Any]] | None] = {
            column.name: None if math.isnan(value) else value
            for column, value in zip(side.columns, values, strict=True)
        }
        pairs = self.pairs(words, now, tops=True)
        for cross in side.crosses:
            described[cross.name] = [
                {"key": names(key) or str(key), "value": value} for key, value in finished_pairs(cross, pairs)
            ]
        for listing in side.listings:
            if listing.agg == "top":
                described[listing.name] = [
                    {"key": names(key) or str(key), "n": n} for key, n in top_pairs(*pairs[listing.index], listing.n)
                ]
            else:
                described[listing.name] = [
                    {"id": names(row[2]) or str(row[2]), "action": actions[row[3]], "ts": row[0], "q": row[4]}
                    for row in last_rows(self.lists(words)[listing.index], listing, now).tolist()
                ]
        return described


def finished_pairs(cross: Cross, pairs: Sequence[tuple[Ints, Ints]]) -> list[tuple[int, float | None]]:
    """A cross feature finished key by key, keys ascending."""
    keys, above = pairs[cross.part]
    below = np.zeros(len(keys), np.int64)
    if cross.per >= 0:
        other, counts = pairs[cross.per]
        known = dict(zip(other.tolist(), counts.tolist(), strict=True))
        keys = np.union1d(keys, other)
        above_of = dict(zip(*(a.tolist() for a in pairs[cross.part]), strict=True))
        above = np.array([above_of.get(key, 0) for key in keys.tolist()], np.int64)
        below = np.array([known.get(key, 0) for key in keys.tolist()], np.int64)
    values = finish_cross(cross, above, below).tolist()
    return [(key, None if math.isnan(value) else value) for key, value in zip(keys.tolist(), values, strict=True)]


def top_pairs(keys: Ints, counts: Ints, n: int) -> list[tuple[int, int]]:
    """The n most frequent keys, by (count descending, key ascending); only positive counts."""
    kept = counts > 0
    keys, counts = keys[kept], counts[kept]
    order = np.lexsort((keys, -counts))[:n]
    return list(zip(keys[order].tolist(), counts[order].tolist(), strict=True))


def last_rows(rows: Ints, listing: Listing, now: Millis) -> Ints:
    """The rows of a list that a `last` feature shows, newest first."""
    if listing.window:
        rows = rows[rows[:, 0] // listing.hop >= tail_tile(now, listing.window, listing.hop)]
    return rows[: listing.n]


def _rows(words: Ints) -> Ints:
    """The rows of a blob, int64[rows, 3]."""
    start = HEADER + int(words[LISTS_AT])
    return words[start : start + ROW * int(words[ROWS_AT])].reshape(-1, ROW)


def _history(rows: Ints) -> History:
    # A declared `last` of all actions may have made the shared list longer.
    columns = np.ascontiguousarray(rows[:HISTORY_ROWS].T)
    return History(items=columns[2], actions=columns[3], ts=columns[0], values=columns[4])
