"""From settings to parts: which adapter keeps the log and the state, and what folds the one into the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.catalog.fold import CatalogFold
from penchant.core.clock import Clock, EventClock, Millis, SystemClock
from penchant.core.errors import SettingsError
from penchant.core.fold import Fold
from penchant.core.hashing import fingerprint
from penchant.core.log import EventLog
from penchant.core.schema import Schema
from penchant.core.state import StateStore
from penchant.features.fold import FeatureFold
from penchant.features.plan import Plan, compile_plan
from penchant.features.reader import Reader
from penchant.log.sqlite import SqliteLog
from penchant.retrieval.covisit_fold import CovisitFold
from penchant.retrieval.session_fold import SessionFold
from penchant.settings import Settings, duration, without_password
from penchant.stores.memory import MemoryStore
from penchant.stores.sqlite import SqliteStore
from penchant.training.artifacts import ArtifactStore


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """What the settings mean, before anything is opened."""

    settings: Settings
    schema: Schema
    plan: Plan
    reader: Reader

    @classmethod
    def of(cls, settings: Settings) -> Definition:
        """Compile the settings; raises `SettingsError` naming the key."""
        if not settings.actions:
            raise SettingsError("actions: declare at least one, as in: click = { weight = 1.0 }")
        schema = Schema.of(settings)
        plan = compile_plan(settings, schema)
        return cls(settings, schema, plan, Reader(plan))

    def folds(self) -> Sequence[Fold]:
        """The folds, in the order in which a runner applies them; each call gives new ones, for one runner."""
        settings = self.settings
        gap = session_gap(settings)
        return (
            CatalogFold(self.schema, implicit=settings.catalog.implicit),
            CovisitFold(self.schema, settings.sources.partners),
            *(() if gap is None else (SessionFold(self.schema, gap),)),
            FeatureFold(self.plan, self.schema),
        )

    @property
    def state_fingerprint(self) -> str:
        """What the state is a fold by; another one means rebuild."""
        return fingerprint(*(fold.fingerprint for fold in self.folds()))

    def memory_store(self) -> StateStore:
        """An empty store in memory, to fold a past into."""
        return MemoryStore(fingerprint=self.state_fingerprint)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A deployment opened: its log, its state, its clock and its artifacts."""

    folder: Path
    definition: Definition
    clock: Clock
    log: EventLog
    store: StateStore
    artifacts: ArtifactStore

    def close(self) -> None:
        """Close the log and the state."""
        self.log.close()
        self.store.close()


def session_gap(settings: Settings) -> Millis | None:
    """After how long without a visit a session is over; None where no surface asks for sessions: none are kept then."""
    listed = any(ref.name == "session" for surface in settings.surfaces.values() for ref in surface.sources)
    return duration(settings.sources.session, "sources.session") if listed else None


def clock_of(settings: Settings) -> Clock:
    """The clock that the settings name."""
    return EventClock() if settings.clock.source == "events" else SystemClock()


def open_parts(folder: Path, settings: Settings, *, clock: Clock | None = None) -> Parts:
    """Open what the settings name, in `folder`; raises `SettingsError` for an address that nothing here serves."""
    definition = Definition.of(settings)
    clock = clock or clock_of(settings)
    log = SqliteLog(
        _file(settings.log.url, folder, "log.url", "log.sqlite"),
        schema=definition.schema,
        clock=clock,
        lateness_ms=duration(settings.log.lateness, "log.lateness"),
    )
    store: StateStore
    if settings.state.url == "memory:":
        store = definition.memory_store()
    else:
        path = _file(settings.state.url, folder, "state.url", "state.sqlite")
        # The state belongs to one log: another log in its place means another state.
        store = SqliteStore(path, fingerprint=fingerprint(definition.state_fingerprint, log.epoch))
    return Parts(folder, definition, clock, log, store, ArtifactStore(folder / "artifacts"))


def _file(url: str, folder: Path, key: str, default: str) -> Path:
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite":
        shown = without_password(url)
        raise SettingsError(
            f"{key}: {shown!r} is not served by this version; use sqlite: (a file in the folder), or together "
            "log.url kafka://… and state.url redis://…"
        )
    return folder / (rest.removeprefix("//") or default)
