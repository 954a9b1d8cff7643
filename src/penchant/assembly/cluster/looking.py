"""Slates of a deployment on several machines, made in this process, which leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.engines import engine_of
from penchant.assembly.published import Published
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.catalog.columns import ItemColumns
from penchant.catalog.mirror import ItemMirror
from penchant.core.errors import ContractError
from penchant.core.events import Event
from penchant.serving.engine import Engine
from penchant.serving.live import LiveWorld
from penchant.serving.reading import Taken
from penchant.serving.remote import RemoteState


class _NoIntake:
    """Takes nothing: requests must not ask to be recorded."""

    def take(self, events: Sequence[Event]) -> Taken:
        raise ContractError(f"{len(events)} events where nothing is recorded")

    def present(self) -> str:
        return ""


@contextmanager
def looking(parts: ClusterParts) -> Iterator[Engine]:
    """The engine of `penchant serve` over the state and the items as they are now; raises `StateUnavailable`.

    For requests with `record` false and without `after`. All items are read from the state at the beginning.
    """
    definition = parts.definition
    state, store = parts.state(), definition.memory_store()
    try:
        mirror = ItemMirror(state, parts.layout, store)
        mirror.renew()
        parts.clock.observe(max((meta.clock for meta in mirror.metas.values()), default=0))
        compiler = SurfaceCompiler(definition, parts.artifacts)
        compiled = Published(compiler, parts.artifacts).first()
        engine = engine_of(
            definition,
            compiler,
            intake=_NoIntake(),
            reading=RemoteState(state, parts.layout, parts.clock),
            live=LiveWorld(store, ItemColumns(definition.schema, definition.reader), parts.clock, compiled),
            clock=parts.clock,
        )
        try:
            yield engine
        finally:
            engine.close()
    finally:
        store.close()
        state.close()
