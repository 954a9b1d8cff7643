"""What recorded history is imported into: the log of a folder, or the outbox of a deployment on several machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from penchant.assembly.cluster.parts import is_distributed
from penchant.assembly.parts import open_parts
from penchant.core.clock import Clock, EventClock, Millis
from penchant.core.events import Event
from penchant.core.log import Appended
from penchant.core.outbox import Taken
from penchant.settings import Settings
from penchant.stream.runner import StreamRunner

Tell = Callable[[str, int, int], None]
_FOLD_AT_ONCE = 5_000


class Target(Protocol):
    """Where history goes; `clock` is what lateness is measured by."""

    @property
    def clock(self) -> Clock: ...

    def refusal(self, oldest: Millis) -> str | None:
        """Why history that begins at `oldest` would be too late to count, known before any of it is taken."""

    def append(self, events: Sequence[Event]) -> Appended | Taken:
        """Make the events durable, in order, each id once."""

    def fold(self, tell: Tell) -> None:
        """Return when the state has all that was appended."""

    def position(self) -> int | str:
        """Where that is: the position of the log, or a token."""

    def close(self) -> None: ...


def open_target(folder: Path, settings: Settings) -> Target:
    """What the settings name."""
    if is_distributed(settings):
        from penchant.assembly.cluster.importing import OutboxTarget

        return OutboxTarget(folder, settings)
    return FolderTarget(folder, settings)


class FolderTarget:
    """The log in a folder, with a clock that follows the data."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.clock: Clock = EventClock()
        self._parts = open_parts(folder, settings, clock=self.clock)
        self._folded = False

    def refusal(self, oldest: Millis) -> str | None:
        """Nothing is known before the log has said so."""
        del oldest
        return None

    def append(self, events: Sequence[Event]) -> Appended:
        """As the log's."""
        return self._parts.log.append(events)

    def fold(self, tell: Tell) -> None:
        """Bring the state to the end of the log."""
        runner = StreamRunner(self._parts.log, self._parts.store, self._parts.definition.folds(), batch=_FOLD_AT_ONCE)
        start, end = runner.position, self._parts.log.end()
        while runner.step():
            end = max(end, runner.position)
            tell("fold", runner.position - start, end - start)
        self._folded = True

    def position(self) -> int:
        """The state's, once it was folded."""
        return self._parts.store.position() if self._folded else self._parts.log.end()

    def close(self) -> None:
        """Close the folder."""
        self._parts.close()
