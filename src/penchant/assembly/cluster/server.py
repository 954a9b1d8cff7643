"""`penchant serve`: recommendations from the state in Redis and the mapped pictures of the items."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.cluster.pictures import nothing, shared_pictures
from penchant.assembly.cluster.relaying import Relaying
from penchant.assembly.cluster.standing import UNKNOWN, Calm, ends_of, wait_for
from penchant.assembly.cluster.world import SharedWorld
from penchant.assembly.engines import engine_of, views_of
from penchant.assembly.published import Published
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.assembly.warmup import WarmUp
from penchant.core.errors import StateUnavailable
from penchant.serving import wire
from penchant.serving.call import new_request_id
from penchant.serving.ingest import Ingest
from penchant.serving.intake import OutboxIntake
from penchant.serving.live import Compiled, Refresher
from penchant.serving.remote import RemoteState
from penchant.settings import duration
from penchant.stores.guarded import GuardedState
from penchant.telemetry import logger

_LOOK_S = 0.05
"""How often a worker looks for a newer picture."""
_PATIENCE_S = 120.0
"""For so long impressions wait for an outbox that is away."""


_NO_PICTURE = "no picture of the items yet (made from the state in Redis by this host's pictures process)"


class Server:
    """Answers; keeps nothing but what is in the state, the pictures and the artifacts. Starts before all of them."""

    def __init__(self, parts: ClusterParts) -> None:
        definition = parts.definition
        settings = definition.settings
        self._state = parts.state(duration(settings.state.timeout, "state.timeout"))
        self._outbox = parts.outbox()
        intake = OutboxIntake(self._outbox)
        # The fold's time-outs: a relay may wait, and so may who asks whether a place has been reached.
        self._joins = parts.state()
        self._relaying = Relaying(parts, self._outbox, self._joins)
        self._patient = RemoteState(self._joins, parts.layout, parts.clock)
        self._guarded = GuardedState(self._state)
        self._reading = RemoteState(self._guarded, parts.layout, parts.clock, ends_of(parts), pending=intake.pending)
        compiler = SurfaceCompiler(definition, parts.artifacts)
        self._published = Published(compiler, parts.artifacts)
        self._warm_up = WarmUp(definition)
        compiled = self._published.first()
        self.world = SharedWorld(shared_pictures(parts), nothing(parts), compiled, parts.clock)
        self.engine = engine_of(
            definition,
            compiler,
            intake=intake,
            reading=self._reading,
            live=self.world,
            clock=parts.clock,
            patience=_PATIENCE_S,
        )
        self.views = views_of(definition, reading=self._reading, live=self.world, clock=parts.clock)
        self._status = Calm(self.views.status, UNKNOWN)
        self._ingest = Ingest(intake, definition.schema)
        self.world.refresh()
        self._warm(compiled)
        self._refresher = Refresher(self._renew, _LOOK_S, lambda error: logger.error("refresh: %s", error))

    def recommend(self, request: wire.Request, request_id: str | None = None) -> wire.Answer:
        """The slate for a request."""
        return self.engine.recommend(request, request_id or new_request_id())

    def rows(
        self, user_id: str, n: int = 3, size: int = 10, where: wire.Where | None = None, request_id: str | None = None
    ) -> wire.Rows:
        """Rows about what a user took."""
        return self.engine.rows(user_id, n, size, where or {}, request_id or new_request_id())

    def send(self, raw_events: Sequence[object]) -> wire.Accepted:
        """Into the outbox."""
        return self._ingest.send(raw_events)

    def item(self, item_id: str) -> wire.ItemAnswer:
        """An item's live state."""
        return self.views.item(item_id)

    def user(self, user_id: str) -> wire.UserAnswer:
        """A user's live state."""
        return self.views.user(user_id)

    def status(self) -> wire.Status:
        """Where the engine stands, as last known while the state is away."""
        return self._status()

    def wait(self, position: str, wait_ms: int) -> bool:
        """Whether state and picture reach a token within `wait_ms`."""
        return wait_for(self._patient, position, wait_ms, also=self.world.catch_up)

    def ready(self) -> list[str]:
        """What is missing before requests can be answered.

        Once there is a picture nothing is: without the state a slate is worth less, but no slate is worth nothing.
        """
        try:
            if self._guarded.breaker.open:  # a probe must not wait for what requests do not wait for
                return [] if self.world.ready else [_NO_PICTURE]
            active = self._state.active()
        except StateUnavailable as error:
            return [] if self.world.ready else [_NO_PICTURE, str(error)]
        if active not in (None, self._state.gid):
            return ["the state of these settings, which another serves for: penchant rebuild makes it"]
        return [] if self.world.ready else [_NO_PICTURE]

    def close(self) -> None:
        """Write what is queued and close the connections."""
        self._refresher.close()
        self.engine.close()
        self._relaying.close()
        self._outbox.close()
        self._state.close()
        self._joins.close()

    def _renew(self) -> None:
        compiled = self._published.newer(self.world.current.compiled)
        if compiled is None:
            self.world.refresh()
            return
        self._warm(compiled)
        self.world.swap(compiled)

    def _warm(self, compiled: Compiled) -> None:
        self._warm_up.run(compiled, self.world.current.items)
