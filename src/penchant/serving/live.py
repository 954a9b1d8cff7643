"""What requests are answered from: the compiled surfaces, the artifact and the newest picture of the items."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from penchant.catalog.columns import ItemColumns
from penchant.core.clock import Clock
from penchant.core.items import Items
from penchant.core.state import StateStore
from penchant.serving.queries import CompiledSurface
from penchant.serving.rows import TABLE, RowIndex


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Everything that depends on the settings and the artifact, made once."""

    artifact: str
    """Id of the artifact, "" without one."""
    columns: str
    """Fingerprint of the feature columns."""
    column_names: tuple[str, ...]
    surfaces: Mapping[str, CompiledSurface]
    preparers: Mapping[str, Callable[[Items], object]]
    """By the name of the table that each makes of a picture."""
    _rows: RowIndex = field(default_factory=RowIndex)

    def prepared(self, items: Items) -> Items:
        """The picture with the tables that the surfaces need."""
        tables = {name: prepare(items) for name, prepare in self.preparers.items()}
        return replace(items, tables={**tables, TABLE: self._rows.prepare(items)})


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """One consistent world; a request takes it once and keeps it."""

    compiled: Compiled
    items: Items


class World(Protocol):
    """What requests are answered from, kept new by somebody."""

    @property
    def current(self) -> Live:
        """The newest; a request takes it once."""

    def refresh(self) -> Live:
        """The newest there can be."""

    def catch_up(self, place: object) -> bool:
        """Whether the picture has the place, after one look for a newer one; only asked when the state has it."""


class LiveWorld:
    """Renews the picture from the state and swaps artifacts; both by one assignment, so no request is dropped."""

    MAX_AGE = 5_000
    """Milliseconds after which a picture is renewed even when nothing was folded: windows move with time."""

    def __init__(self, store: StateStore, columns: ItemColumns, clock: Clock, compiled: Compiled) -> None:
        self._store = store
        self._columns = columns
        self._clock = clock
        self._lock = threading.Lock()
        self.current = self._renewed(compiled)

    def refresh(self, at_least: int = 0) -> Live:
        """The world with the newest picture; does nothing when the state has not moved and the picture is young.

        `at_least`: a picture at or past this position is good enough.
        """
        with self._lock:
            live = self.current
            if at_least and live.items.position >= at_least:
                return live
            moved = self._store.position() != live.items.position
            if moved or self._clock.now() - live.items.time >= self.MAX_AGE:
                self.current = self._renewed(live.compiled)
            return self.current

    def catch_up(self, place: object) -> bool:
        """Renew the picture unless it is there already."""
        assert isinstance(place, int)
        return self.refresh(at_least=place).items.position >= place

    def swap(self, compiled: Compiled) -> None:
        """Serve another artifact from the next request on; its tables are made before the swap."""
        with self._lock:
            self.current = self._renewed(compiled)

    def _renewed(self, compiled: Compiled) -> Live:
        snapshot = self._store.snapshot()
        try:
            items = self._columns.refresh(snapshot, self._clock.now())
        finally:
            snapshot.close()
        return Live(compiled, compiled.prepared(items))


class Refresher:
    """A thread that calls `renew` every `interval` seconds until stopped; failures are reported and tried again."""

    def __init__(self, renew: Callable[[], object], interval: float, on_error: Callable[[Exception], None]) -> None:
        self._renew = renew
        self._interval = interval
        self._on_error = on_error
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop and wait for the last turn."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._renew()
            except Exception as error:  # the thread must outlive a failing store
                self._on_error(error)
