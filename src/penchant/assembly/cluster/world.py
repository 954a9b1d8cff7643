"""The pictures of the items that one process of a host renews and all others map."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import msgspec

from penchant.catalog.columns import ItemColumns
from penchant.catalog.mirror import ItemMirror
from penchant.catalog.shared import PictureWriter, SharedPictures
from penchant.core.clock import Clock, Millis
from penchant.core.items import Items
from penchant.core.partitions import Meta, Partition
from penchant.core.state import StateStore
from penchant.serving.live import Compiled, Live
from penchant.serving.remote import has
from penchant.serving.tokens import Places
from penchant.telemetry import PICTURE_AGE

MAX_AGE: Millis = 5_000
"""After so long a picture is renewed even when nothing was folded: windows move with time."""


class Reach(msgspec.Struct, frozen=True):
    """How far a picture goes: by item partition its fence and what its state says of itself."""

    fences: dict[str, int] = {}
    metas: dict[str, Meta] = {}

    def has(self, wanted: Places) -> bool:
        """Whether all item partitions of a token are in the picture."""
        return all(
            has(self.fences.get(str(partition), 0), self.metas.get(str(partition), Meta()), wanted, partition)
            for partition in wanted.places
            if partition.side == "items"
        )


class PictureMaker:
    """Mirrors the item state and writes a picture whenever it moved. For one thread of one process of a host."""

    def __init__(
        self, mirror: ItemMirror, store: StateStore, columns: ItemColumns, writer: PictureWriter, clock: Clock
    ) -> None:
        self._mirror = mirror
        self._store = store
        self._columns = columns
        self._writer = writer
        self._clock = clock
        self._last: Items | None = None

    def step(self) -> bool:
        """Write a newer picture if there is one; raises `StateUnavailable`."""
        moved = self._mirror.renew()
        metas: Mapping[Partition, Meta] = self._mirror.metas
        self._clock.observe(max((meta.clock for meta in metas.values()), default=0))
        now = self._clock.now()
        last = self._last
        if last is not None and not moved and now - last.time < MAX_AGE:
            return False
        snapshot = self._store.snapshot()
        try:
            items = self._columns.refresh(snapshot, now)
        finally:
            snapshot.close()
        reach = Reach(
            fences={str(partition): position for partition, position in self._mirror.positions.items()},
            metas={str(partition): meta for partition, meta in metas.items()},
        )
        self._writer.write(items, msgspec.to_builtins(reach))
        self._last = items
        return True


class SharedWorld:
    """The `World` of a serve worker: the newest picture that was mapped, with the tables its surfaces need."""

    def __init__(self, pictures: SharedPictures, nothing: Items, compiled: Compiled, clock: Clock) -> None:
        self._pictures = pictures
        self._clock = clock
        self._lock = threading.Lock()
        self._mapped = nothing
        self.reach = Reach()
        self.current = Live(compiled, compiled.prepared(nothing))
        self.ready = False
        """Whether there is a picture at all."""

    def refresh(self) -> Live:
        """Map the newest picture if it is another one."""
        with self._lock:
            self._renew(self.current.compiled)
            return self.current

    def catch_up(self, place: object) -> bool:
        """Look once for a newer picture unless the present one has the place."""
        assert isinstance(place, Places)
        if not self.reach.has(place):
            self.refresh()
        return self.reach.has(place)

    def swap(self, compiled: Compiled) -> None:
        """Serve another artifact from the next request on."""
        with self._lock:
            self._renew(compiled)

    def _renew(self, compiled: Compiled) -> None:
        found = self._pictures.newest()
        mapped, reach = self._mapped, self.reach
        if found is not None and found.items is not mapped:
            mapped, reach = found.items, msgspec.convert(found.extra, Reach)
            self._clock.observe(mapped.time)
        if mapped is not self._mapped or compiled is not self.current.compiled:
            self.current = Live(compiled, compiled.prepared(mapped))
            self._mapped, self.reach, self.ready = mapped, reach, self.ready or found is not None
        PICTURE_AGE.set(max(0, self._clock.now() - mapped.time) / 1_000 if self.ready else 0)
