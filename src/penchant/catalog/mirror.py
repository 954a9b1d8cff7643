"""The item side of a partitioned state, copied into one store: what pictures of the whole catalogue are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from penchant.core.errors import StateUnavailable, ViewGone
from penchant.core.log import START
from penchant.core.partitions import META_KEY, Layout, Meta, Partition, PartitionedState, View, decode_meta
from penchant.core.profiles import ItemProfile, decode_item, encode_profile
from penchant.core.state import Key, StateStore, catalog_key, item_key, neighbours_key, visits_key

_KINDS = (catalog_key(""), item_key(""), neighbours_key(""), visits_key(""))
_AT_ONCE = 2_048
"""Keys in one call."""
_ROUNDS = 20
"""In each, what changed during the one before is read: they become short."""

Request = tuple[Partition, Sequence[Key]]


class _Another(Exception):
    """A partition is not the one that was followed."""


@dataclass(slots=True)
class _Followed:
    """A partition as far as it was read: `pending` has what changed up to `position`, or in part somewhat later."""

    position: int = START
    generation: str | None = None
    pending: dict[Key, bytes | None] = field(default_factory=dict)
    meta: Meta = field(default_factory=Meta)


class ItemMirror:
    """Follows all item partitions; `store` then holds their items at each partition's fence. One caller at a time.

    `store` is the mirror's own and may start empty: its position is the sum of the fences, and its profiles count their
    rows over all partitions. A row stays once it was given; new ones come in order of the row in the partition, then of
    the partition, so two mirrors may number the same items differently.

    A partition whose fence went back is being folded again, to the same result as far as the log is the same: what was
    copied stays for `patience` renewals or until the fence has come as far again, then everything is copied anew. Until
    a copy is complete `store`, `positions` and `metas` are those of the one before.
    """

    def __init__(self, state: PartitionedState, layout: Layout, store: StateStore, *, patience: int = 60) -> None:
        self.positions: Mapping[Partition, int] = {}
        """The fences that `store` reflects; empty before the first copy."""
        self.metas: Mapping[Partition, Meta] = {}
        """What each partition said of itself at that fence."""
        self._state = state
        self._partitions = [Partition("items", number) for number in range(layout.items)]
        self._store = store
        self._patience = patience
        self._rows: dict[str, int] = {}
        self._copy_anew()

    def _copy_anew(self) -> None:
        self._copying = True
        self._waited = 0
        self._followed = {partition: _Followed() for partition in self._partitions}

    def renew(self) -> bool:
        """Take over what moved; says whether anything did. Raises `StateUnavailable`, and goes on from there next time.

        One call while nothing moves; otherwise one more for each partition that moved and one for all their values.
        """
        views = self._state.read([(partition, (META_KEY,)) for partition in self._partitions])
        fences = {partition: view.position for partition, view in zip(self._partitions, views, strict=True)}
        behind = {partition for partition, fence in fences.items() if fence < self._followed[partition].position}
        if behind:
            self._waited += 1
            if self._copying or self._waited > self._patience:
                self._copy_anew()
                behind = set()
        elif self._waited:
            self._copy_anew()
        try:
            return self._take_over(fences, behind)
        except _Another:
            self._copy_anew()
            raise StateUnavailable("the state of the items was replaced while it was read; it is read anew") from None

    def _take_over(self, fences: Mapping[Partition, int], behind: set[Partition]) -> bool:
        followed = self._followed
        moved = [
            partition
            for partition, fence in fences.items()
            if partition not in behind and (fence != followed[partition].position or followed[partition].pending)
        ]
        left = self._catch_up(moved)
        if self._copying and left:
            raise StateUnavailable("the state of the items changes faster than it can be read; it is read on")
        done = [partition for partition in moved if partition not in left]
        if not done and not self._copying:
            return False
        self._commit(done)
        return True

    def _catch_up(self, moved: Sequence[Partition]) -> set[Partition]:
        """Read until what is pending of each partition is as it was together at its position; those left are not."""
        left = list(moved)
        for _ in range(_ROUNDS):
            if not left:
                break
            wanted: dict[Partition, Sequence[Key]] = {}
            for partition in left:
                changed = self._changed(partition)
                if changed is not None:
                    wanted[partition] = changed
            apart: set[Partition] = set()
            for (partition, keys), view in self._read(wanted):
                one = self._followed[partition]
                if view.position < one.position:
                    raise _Another
                if view.position > one.position:
                    apart.add(partition)
                one.pending.update(zip(keys, view.values, strict=True))
            left = [partition for partition in left if partition in apart or partition not in wanted]
        return set(left)

    def _changed(self, partition: Partition) -> list[Key] | None:
        """What to read to come to the present fence; None when it moved meanwhile."""
        one = self._followed[partition]
        snapshot = self._state.partition(partition).snapshot()
        try:
            if snapshot.position < one.position or one.generation not in {None, snapshot.generation}:
                raise _Another
            keys = [key for kind in _KINDS for key in snapshot.changed(one.position, kind)]
            one.position, one.generation = snapshot.position, snapshot.generation
        except ViewGone:
            return None
        finally:
            snapshot.close()
        return keys

    def _read(self, wanted: Mapping[Partition, Sequence[Key]]) -> Iterator[tuple[Request, View]]:
        for requests in _calls(wanted):
            yield from zip(requests, self._state.read(requests), strict=True)

    def _commit(self, done: Sequence[Partition]) -> None:
        writes: dict[Key, bytes | None] = {}
        profiles: list[tuple[int, Partition, ItemProfile]] = []
        for partition in done:
            for key, value in self._followed[partition].pending.items():
                if self._copying and value is None:
                    continue
                if key == META_KEY:
                    self._followed[partition].meta = decode_meta(value)
                elif key[:1] != b"c":
                    writes[key] = value
                elif value is None:
                    raise _Another  # an item that was removed keeps its profile: this state was made by something else
                else:
                    profile = decode_item(value)
                    profiles.append((profile.row, partition, profile))
        told = self._partitions if self._copying else done
        positions = {**self.positions, **{partition: self._followed[partition].position for partition in told}}
        if self._copying:
            self._rows = {}
            self._store.clear()
        for _, _, profile in sorted(profiles, key=lambda one: one[:2]):
            row = self._rows.setdefault(profile.item_id, len(self._rows))
            writes[catalog_key(profile.item_id)] = encode_profile(msgspec.structs.replace(profile, row=row))
        position = sum(positions.values())
        if position > START:
            self._store.commit(self._store.position(), position, writes)
        self._copying = False
        self.positions = positions
        self.metas = {**self.metas, **{partition: self._followed[partition].meta for partition in told}}
        for partition in done:
            self._followed[partition].pending = {}


def _calls(wanted: Mapping[Partition, Sequence[Key]]) -> Iterator[list[Request]]:
    """The keys in calls of about so many at once; what a partition says of itself comes with its last ones."""
    requests: list[Request] = []
    size = 0
    for partition, keys in wanted.items():
        for start in range(0, len(keys) + 1, _AT_ONCE):
            some = list(keys[start : start + _AT_ONCE])
            if start + _AT_ONCE > len(keys):
                some.append(META_KEY)
            requests.append((partition, some))
            size += len(some)
            if size >= _AT_ONCE:
                yield requests
                requests, size = [], 0
    if requests:
        yield requests
