"""A deployment in one folder and one process: log, fold and request path together."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from penchant.assembly.engines import engine_of, views_of
from penchant.assembly.parts import Parts, open_parts
from penchant.assembly.published import Published
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.assembly.warmup import WarmUp
from penchant.catalog.columns import ItemColumns
from penchant.core.clock import Clock
from penchant.core.errors import SettingsError
from penchant.core.events import (
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    UserErased,
    UserUpdate,
    to_builtins,
)
from penchant.serving import wire
from penchant.serving.call import new_request_id
from penchant.serving.ingest import Ingest
from penchant.serving.live import Compiled, LiveWorld, Refresher
from penchant.serving.reading import OwnLog, OwnState
from penchant.settings import InvalidSettings, Settings, duration, load
from penchant.stream.runner import StreamRunner
from penchant.telemetry import logger

_TYPED = (Interaction, Impression, ItemUpdate, ItemRemoved, UserUpdate, UserErased)


class Embedded:
    """Everything of one folder. Use it as a context manager; what was accepted is on disk before `close` returns.

    With `background` threads fold the log and renew the pictures by themselves; without, `settle` does both, so
    that replays and tests are deterministic. `fold=False` leaves folding to another process.
    """

    def __init__(self, parts: Parts, *, background: bool = True, fold: bool = True) -> None:
        definition = parts.definition
        settings = definition.settings
        self.parts = parts
        self.compiler = SurfaceCompiler(definition, parts.artifacts)
        self._published = Published(self.compiler, parts.artifacts)
        self.runner = StreamRunner(parts.log, parts.store, definition.folds())
        if fold and not background:
            self._fold()
        self.live = LiveWorld(
            parts.store, ItemColumns(definition.schema, definition.reader), parts.clock, self._published.first()
        )
        intake = OwnLog(parts.log)
        self._reading = OwnState(parts.log, parts.store, parts.clock)
        self.engine = engine_of(
            definition,
            self.compiler,
            intake=intake,
            reading=self._reading,
            live=self.live,
            clock=parts.clock,
        )
        self.views = views_of(definition, reading=self._reading, live=self.live, clock=parts.clock)
        self.ingest = Ingest(intake, definition.schema)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._refresher: Refresher | None = None
        self._warm_up = WarmUp(definition) if background else None
        if background:
            self._warm(self.live.current.compiled)
            interval = duration(settings.server.refresh, "server.refresh") / 1_000
            self._refresher = Refresher(self._renew, interval, lambda error: logger.error("refresh: %s", error))
            if fold:
                thread = threading.Thread(target=self.runner.run, args=(self._stop,), name="stream", daemon=True)
                thread.start()
                self._threads.append(thread)

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, events: Sequence[object]) -> wire.Accepted:
        """Append events, typed or as JSON objects: the good ones are durable when this returns, the bad ones named."""
        if any(_erases(event) for event in events):
            self.engine.impressions.flush()  # what is queued of the person must be there to be emptied
        return self.ingest.send([to_builtins(event) if isinstance(event, _TYPED) else event for event in events])

    def recommend(self, request: wire.Request, request_id: str | None = None) -> wire.Answer:
        """The slate for a request."""
        return self.engine.recommend(request, request_id or new_request_id())

    def rows(
        self, user_id: str, n: int = 3, size: int = 10, where: wire.Where | None = None, request_id: str | None = None
    ) -> wire.Rows:
        """Rows about what a user took."""
        return self.engine.rows(user_id, n, size, where or {}, request_id or new_request_id())

    def item(self, item_id: str) -> wire.ItemAnswer:
        """An item's live state."""
        return self.views.item(item_id)

    def user(self, user_id: str) -> wire.UserAnswer:
        """A user's live state."""
        return self.views.user(user_id)

    def status(self) -> wire.Status:
        """Where the engine stands."""
        return self.views.status()

    def ready(self) -> list[str]:
        """What is missing before requests can be answered."""
        return self.views.ready()

    def wait(self, position: str, wait_ms: int) -> bool:
        """Whether the state, and the picture of the items, reach a position within `wait_ms`."""
        return self.engine.wait(self._reading.place(position, "position"), None, wait_ms)

    def settle(self) -> None:
        """Write queued impressions, fold all that is in the log and renew the picture."""
        self.engine.impressions.flush()
        self._fold()
        self.live.refresh()

    def close(self) -> None:
        """Stop the threads, write what is queued, close the files."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._refresher is not None:
            self._refresher.close()
        self.engine.close()
        self.parts.close()

    def renew_artifact(self) -> bool:
        """Serve the published artifact if it is another one; a damaged one is refused and the present one kept."""
        compiled = self._published.newer(self.live.current.compiled)
        if compiled is None:
            return False
        self._warm(compiled)
        self.live.swap(compiled)
        return True

    def _warm(self, compiled: Compiled) -> None:
        if self._warm_up is not None:
            self._warm_up.run(compiled, self.live.current.items)

    def _fold(self) -> None:
        while self.runner.step():
            pass

    def _renew(self) -> None:
        if not self.renew_artifact():
            self.live.refresh()


def _erases(event: object) -> bool:
    return isinstance(event, UserErased) or (isinstance(event, Mapping) and event.get("type") == "user_erased")


def open_folder(
    folder: str | Path,
    *,
    clock: Clock | None = None,
    settings: Settings | None = None,
    background: bool = True,
    fold: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Embedded:
    """Open the engine of a folder that holds `penchant.toml`; raises `SettingsError`."""
    path = Path(folder)
    try:
        settings = settings or load(path, environ)
    except InvalidSettings as error:
        raise SettingsError(str(error)) from None
    return Embedded(open_parts(path, settings, clock=clock), background=background, fold=fold)
