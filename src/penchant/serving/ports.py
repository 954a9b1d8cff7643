"""What the HTTP face needs of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penchant.serving import wire


class EnginePort(Protocol):
    """An engine as HTTP sees it. Safe to call from several threads."""

    def recommend(self, request: wire.Request, *, request_id: str) -> wire.Answer:
        """The slate, in about a millisecond unless `request.after` makes it wait; raises InvalidRequest, NotFound."""

    def rows(self, user_id: str, n: int, size: int, where: wire.Where, *, request_id: str) -> wire.Rows:
        """At most `n` rows of `size` about what the user took; none for a new user; raises InvalidRequest."""

    def send(self, raw_events: Sequence[object]) -> wire.Accepted:
        """Make the good events durable (waits for the disk) and say which are bad; raises LogFull."""

    def item(self, item_id: str) -> wire.ItemAnswer:
        """The item; raises NotFound."""

    def user(self, user_id: str) -> wire.UserAnswer:
        """The user's live state; raises NotFound for one that no event ever named."""

    def status(self) -> wire.Status: ...

    def wait(self, position: str, wait_ms: int) -> bool:
        """Block until the state reaches `position` (True) or the time is up (False); raises InvalidRequest."""

    def ready(self) -> Sequence[str]:
        """What is missing before requests can be answered; empty when ready."""
