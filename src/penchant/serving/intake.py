"""The way into a log in partitions: an outbox, and the token that its answer makes."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.core.errors import LogFull, LogUnavailable
from penchant.core.events import Event
from penchant.core.outbox import Outbox
from penchant.serving.reading import Taken
from penchant.serving.tokens import Places


class OutboxIntake:
    """The `Intake` of an outbox: taken means durable there; the relay sees to the rest."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def take(self, events: Sequence[Event]) -> Taken:
        """Append; an outbox that is away is full as far as callers go: nothing was taken, try again."""
        try:
            taken = self._outbox.append(events)
            return Taken(taken.accepted, taken.duplicates, str(Places(self._outbox.name, taken.places)))
        except LogUnavailable as error:
            raise LogFull(str(error)) from error

    def present(self) -> str:
        """A token that holds at once: nothing was taken that one could wait for."""
        try:
            return str(Places(self._outbox.name, {}))
        except LogUnavailable as error:
            raise LogFull(str(error)) from error

    def pending(self) -> int:
        """How many events wait for the log."""
        return self._outbox.depth().pending
