"""`penchant collect`: events into the outbox, and the relay from there into the log."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.cluster.relaying import Relaying
from penchant.assembly.cluster.standing import UNKNOWN, Calm, ends_of, status_of, wait_for
from penchant.core.errors import LogUnavailable, NotFound
from penchant.serving import wire
from penchant.serving.ingest import Ingest
from penchant.serving.intake import OutboxIntake
from penchant.serving.remote import RemoteState


class Collector:
    """Takes events; what was accepted is in the outbox when `send` returns. Needs neither log nor state for that."""

    def __init__(self, parts: ClusterParts) -> None:
        self._outbox = parts.outbox()
        self._state = parts.state()
        intake = OutboxIntake(self._outbox)
        self._ingest = Ingest(intake, parts.definition.schema)
        self._relaying = Relaying(parts, self._outbox, self._state)
        self._reading = RemoteState(self._state, parts.layout, parts.clock, ends_of(parts), pending=intake.pending)
        self._status = Calm(lambda: status_of(self._reading), UNKNOWN)
        self._missing = Calm(self._look, ["the outbox has not answered yet"])

    def send(self, raw_events: Sequence[object]) -> wire.Accepted:
        """Make the good events durable and say which are bad; raises `LogFull`."""
        return self._ingest.send(raw_events)

    def status(self) -> wire.Status:
        """Where the log stands, as last known while it is away."""
        return self._status()

    def ready(self) -> list[str]:
        """Whether events can be taken."""
        return self._missing()

    def recommend(self, request: wire.Request, *, request_id: str) -> wire.Answer:
        """Not here."""
        del request, request_id
        raise NotFound("this service takes events only; ask penchant serve")

    def rows(self, user_id: str, n: int, size: int, where: wire.Where, *, request_id: str) -> wire.Rows:
        """Not here."""
        del n, size, where, request_id
        raise NotFound(f"this service takes events only; ask penchant serve for rows of {user_id!r}")

    def item(self, item_id: str) -> wire.ItemAnswer:
        """Not here."""
        raise NotFound(f"this service takes events only; ask penchant serve for {item_id!r}")

    def user(self, user_id: str) -> wire.UserAnswer:
        """Not here."""
        raise NotFound(f"this service takes events only; ask penchant serve for {user_id!r}")

    def wait(self, position: str, wait_ms: int) -> bool:
        """Whether the fold reaches a token within `wait_ms`."""
        return wait_for(self._reading, position, wait_ms)

    def close(self) -> None:
        """Finish the batch in hand; what is not relayed stays in the outbox."""
        self._relaying.close()
        self._outbox.close()
        self._state.close()

    def _look(self) -> list[str]:
        try:
            self._outbox.depth()
        except LogUnavailable as error:
            return [str(error)]
        return []
