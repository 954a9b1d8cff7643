"""The groups of columns of a picture, each renewed from the blobs of one kind of state key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.arrays import IntArray, empty_keyed, joined_keyed, patched, renewed, spliced_keyed
from penchant.catalog.attributes import Categories, Column, Scalars, Tags, Texts, Vectors
from penchant.catalog.lookup import Lookup
from penchant.core.clock import Millis
from penchant.core.errors import ContractError
from penchant.core.hashing import hash_id, hash_utf8
from penchant.core.items import LISTED, MISSING_TIME, UNKNOWN, Keyed
from penchant.core.profiles import ItemProfile, decode_item
from penchant.core.schema import Schema
from penchant.core.state import Key, Snapshot, item_key, neighbours_key
from penchant.features.reader import Reader

_CHUNK = 8_192
"""How many feature blobs are held at once."""


class AnotherState(Exception):
    """The rows are not those of the state that the columns were made from."""


class Roster:
    """Ids and rows of all items; both only grow, so earlier pictures share them."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.rows: dict[int, int] = {}
        self.lookup = Lookup()

    def extend(self, profiles: Sequence[ItemProfile]) -> None:
        """Take in the new ones among the profiles, which are in order of row; raises `AnotherState`."""
        known = len(self.ids)
        new = [profile for profile in profiles if profile.row >= known]
        for profile in profiles[: len(profiles) - len(new)]:
            if self.ids[profile.row] != profile.item_id:
                raise AnotherState
        if [profile.row for profile in new] != list(range(known, known + len(new))):
            if known:
                raise AnotherState
            raise ContractError("the rows of the items in the state do not count from 0: clear the state")
        for profile in new:
            if self.rows.setdefault(hash_id(profile.item_id), profile.row) != profile.row:
                if known:
                    raise AnotherState
                raise ContractError(f"two items have the hash of {profile.item_id!r}: give one of them another id")
            self.ids.append(profile.item_id)
        self.lookup.extend(np.array([hash_id(profile.item_id) for profile in new], np.int64))

    def rows_of(self, keys: Sequence[Key]) -> IntArray:
        """The rows of the items that keys are about."""
        rows = self.lookup.find([hash_utf8(key[1:]) for key in keys])
        if len(rows) and rows.min() < 0:
            key = keys[int(rows.argmin())]
            raise ContractError(f"the state has {key!r}, but the catalogue has no such item")
        return rows


class ProfileColumns:
    """Life cycle and attributes, from the item profiles."""

    def __init__(self, schema: Schema) -> None:
        names = {kind: [a.name for a in schema.item.values() if a.kind == kind] for kind in _KINDS}
        self.status: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.listed: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.listed_at: IntArray = np.empty(0, np.int64)
        self.categories = {name: Categories() for name in names["category"]}
        self.tags = {name: Tags() for name in names["tags"]}
        self.numbers = {name: Scalars(np.float64, np.nan) for name in names["number"]}
        self.timestamps = {name: Scalars(np.int64, MISSING_TIME) for name in names["timestamp"]}
        self.flags = {name: Scalars(np.int8, -1) for name in names["flag"]}
        self.texts = {name: Texts() for name in names["text"]}
        self.vectors = {one.name: Vectors(one.size) for one in schema.item.values() if one.kind == "vector"}
        self._columns: dict[str, Column] = {
            **self.categories,
            **self.tags,
            **self.numbers,
            **self.timestamps,
            **self.flags,
            **self.texts,
            **self.vectors,
        }

    def renew(self, roster: Roster, blobs: Iterable[bytes | None]) -> None:
        profiles = sorted((decode_item(blob) for blob in blobs if blob is not None), key=lambda profile: profile.row)
        if not profiles:
            return
        roster.extend(profiles)
        count = len(roster.ids)
        rows = np.array([profile.row for profile in profiles], np.int64)
        status = renewed(self.status, count, UNKNOWN, rows, [profile.status for profile in profiles])
        if status is not self.status:
            self.status, self.listed = status, status == LISTED
        self.listed_at = renewed(self.listed_at, count, 0, rows, [profile.listed_at for profile in profiles])
        for name, column in self._columns.items():
            column.patch(count, rows, [profile.attributes.get(name) for profile in profiles])


_KINDS = ("category", "tags", "number", "timestamp", "flag", "text")


class FeatureColumns:
    """Feature values at a time, from the feature blobs."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._next_change: IntArray = np.empty(0, np.int64)
        self.values = np.empty((0, len(reader.plan.item_names)), np.float32)
        self.keyed: dict[str, Keyed] = {}
        self._empty = True

    def renew(self, roster: Roster, changed: Sequence[Key], snapshot: Snapshot, now: Millis) -> None:
        """Read the items that are new, whose blob changed, and whose values change by time up to `now`."""
        count, known = len(roster.ids), len(self._next_change)
        stale = np.ones(count, np.bool_)
        stale[:known] = self._next_change <= now
        stale[roster.rows_of(changed)] = True
        rows = np.flatnonzero(stale)
        if not len(rows) and not self._empty:
            return
        self._empty = False
        parts = []
        for start in range(0, max(len(rows), 1), _CHUNK):
            chunk = rows[start : start + _CHUNK].tolist()
            blobs = snapshot.get_many([item_key(roster.ids[row]) for row in chunk])
            parts.append(self._reader.evaluate_items(blobs, now))
        self.values = patched(self.values, count, np.nan, rows, np.concatenate([part.features for part in parts]))
        changes = np.concatenate([part.next_change for part in parts])
        self._next_change = patched(self._next_change, count, 0, rows, changes)
        self.keyed = {
            name: spliced_keyed(
                self.keyed.get(name) or empty_keyed(), count, rows, joined_keyed([part.keyed[name] for part in parts])
            )
            for name in parts[0].keyed
        }


class NeighbourColumns:
    """Co-visitation counts, from blobs of int64 hashes of item ids followed by as many int64 counts.

    A partner that is not known yet is left out until it is: the state of items may come in several partitions, and one
    of them before the other.
    """

    def __init__(self) -> None:
        self.value = empty_keyed()
        self._lacking: set[int] = set()
        """Rows of which a partner was left out."""

    def renew(self, roster: Roster, changed: Iterable[tuple[Key, bytes | None]], snapshot: Snapshot) -> None:
        runs = list(changed)
        rows = roster.rows_of([key for key, _ in runs])
        blobs = [blob or b"" for _, blob in runs]
        count, known = len(roster.ids), len(self.value.offsets) - 1
        if count > known:
            again = sorted(self._lacking.difference(rows.tolist()))
            blobs += [blob or b"" for blob in snapshot.get_many([neighbours_key(roster.ids[row]) for row in again])]
            rows = np.concatenate([rows, np.array(again, np.int64)])
        elif not runs:
            return
        order = np.argsort(rows)
        rows, blobs = rows[order], [blobs[at] for at in order.tolist()]
        sizes = np.fromiter(map(len, blobs), np.int64, len(blobs)) >> 4
        words = np.frombuffer(b"".join(blobs), "<i8")
        joined = Keyed(*roster.lookup.resolve(words, sizes))
        lacks = np.diff(joined.offsets) < sizes
        self._lacking.difference_update(rows.tolist())
        self._lacking.update(rows[lacks].tolist())
        self.value = spliced_keyed(self.value, count, rows, joined)
