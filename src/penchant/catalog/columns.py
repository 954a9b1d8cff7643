"""Keeps `Items` up to date with the state: each picture is the earlier one with the changed rows renewed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penchant.catalog.parts import AnotherState, FeatureColumns, NeighbourColumns, ProfileColumns, Roster
from penchant.catalog.sessions import SessionColumns
from penchant.core.clock import Millis
from penchant.core.items import Items
from penchant.core.schema import Schema
from penchant.core.state import Key, Snapshot, catalog_key, item_key, neighbours_key, visits_key
from penchant.features.reader import Reader


class ItemColumns:
    """Makes pictures of the catalogue. One caller at a time; the pictures may be read by any thread, for ever.

    A picture equals, array for array, what a new `ItemColumns` makes at the same position and time.
    """

    def __init__(self, schema: Schema, reader: Reader) -> None:
        self._schema = schema
        self._reader = reader
        self._start_anew()

    def _start_anew(self) -> None:
        self._last: Items | None = None
        self._generation = ""
        self._roster = Roster()
        self._profiles = ProfileColumns(self._schema)
        self._features = FeatureColumns(self._reader)
        self._neighbours = NeighbourColumns()
        self._sessions = SessionColumns()

    def refresh(self, snapshot: Snapshot, now: Millis) -> Items:
        """The picture at the snapshot's position and `now`.

        Costs the items that changed since the last call, plus one copy of each column that they change; columns that
        stay are shared with the earlier picture. It starts anew when position or time went back, when the store was
        cleared, and when the state turns out to be another one than before.
        """
        last = self._last
        if last is not None:
            another = snapshot.generation != self._generation
            if not another and (snapshot.position, now) == (last.position, last.time):
                return last
            if another or snapshot.position < last.position or now < last.time:
                self._start_anew()
        self._generation = snapshot.generation
        try:
            try:
                return self._renew(snapshot, now)
            except AnotherState:
                self._start_anew()
                return self._renew(snapshot, now)
        except BaseException:
            self._start_anew()  # some columns may have been renewed and others not
            raise

    def _renew(self, snapshot: Snapshot, now: Millis) -> Items:
        roster, profiles, features, neighbours = self._roster, self._profiles, self._features, self._neighbours
        profiles.renew(roster, (blob for _, blob in self._changed(snapshot, catalog_key(""))))
        features.renew(roster, self._changed_keys(snapshot, item_key("")), snapshot, now)
        neighbours.renew(roster, self._changed(snapshot, neighbours_key("")), snapshot)
        self._sessions.renew(roster, self._changed(snapshot, visits_key("")))
        self._last = Items(
            position=snapshot.position,
            time=now,
            count=len(roster.ids),
            ids=roster.ids,
            rows=roster.rows,
            status=profiles.status,
            listed=profiles.listed,
            listed_at=profiles.listed_at,
            categories={name: column.value for name, column in profiles.categories.items()},
            tags={name: column.value for name, column in profiles.tags.items()},
            numbers={name: column.value for name, column in profiles.numbers.items()},
            timestamps={name: column.value for name, column in profiles.timestamps.items()},
            flags={name: column.value for name, column in profiles.flags.items()},
            texts={name: column.value for name, column in profiles.texts.items()},
            vectors={name: column.value for name, column in profiles.vectors.items()},
            feature_names=self._reader.plan.item_names,
            features=features.values,
            keyed=features.keyed,
            neighbours=neighbours.value,
            sessions=self._sessions.value,
        )
        return self._last

    def _changed_keys(self, snapshot: Snapshot, prefix: bytes) -> Sequence[Key]:
        """Keys written since the last picture; none for the first one, whose rows are all new anyway."""
        if self._last is None or snapshot.position == self._last.position:
            return ()
        return snapshot.changed(self._last.position, prefix)

    def _changed(self, snapshot: Snapshot, prefix: bytes) -> Iterable[tuple[Key, bytes | None]]:
        if self._last is None:
            return snapshot.scan(prefix)
        keys = self._changed_keys(snapshot, prefix)
        return zip(keys, snapshot.get_many(keys) if keys else (), strict=True)
