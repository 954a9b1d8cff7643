"""Recorded history into a deployment on several machines: through the outbox, as a collector takes events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.cluster.relaying import Relaying
from penchant.assembly.cluster.streaming import Folding
from penchant.core.clock import Clock, Millis
from penchant.core.errors import LogFull, LogUnavailable, PenchantError, StateUnavailable
from penchant.core.events import Event
from penchant.core.outbox import Taken
from penchant.core.partitions import META_KEY, Meta, Partition, Place, decode_meta
from penchant.serving.remote import has
from penchant.serving.tokens import Places
from penchant.settings import Settings, duration
from penchant.telemetry import logger

Tell = Callable[[str, int, int], None]
_PAUSE_S = 0.2
_LOOK_S = 3.0
"""How often it looks whether anybody folds."""


class OutboxTarget:
    """The outbox that the settings name. Relays it where no other process does, and folds where nobody does."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._parts = ClusterParts.of(folder, settings)
        self._outbox = self._parts.outbox()
        self._state = self._parts.state()
        self._places: dict[Partition, Place] = {}
        self._folding = _Own(self._parts)
        self._observe()
        self._relaying = Relaying(self._parts, self._outbox, self._state)

    @property
    def clock(self) -> Clock:
        """The one that the settings name."""
        return self._parts.clock

    def refusal(self, oldest: Millis) -> str | None:
        """Kafka's time is the arrival, unless time follows the events."""
        settings = self._parts.settings
        if settings.clock.source == "events":
            return None
        if self.clock.now() - oldest <= duration(settings.log.lateness, "log.lateness"):
            return None
        day = datetime.fromtimestamp(oldest / 1_000, UTC).date().isoformat()
        return (
            f"nothing was taken: the history begins on {day}, and what comes through Kafka arrives with Kafka's time: "
            f"all that is older than \\[log] lateness ({settings.log.lateness}) would be late: kept, never counted. "
            "Before live events begin, import it into a folder without these addresses and move that: penchant import "
            "… --dir NEW, then penchant migrate. Or let time follow the events, in every service: \\[clock] source = "
            '"events". Or take it all the same with --late'
        )

    def append(self, events: Sequence[Event]) -> Taken:
        """Into the outbox, as soon as it has room."""
        told = False
        while True:
            try:
                taken = self._outbox.append(events)
                break
            except LogFull as error:
                if not self._outbox.depth().pending:
                    raise  # what nothing can make room for
                if not told:
                    logger.warning("%s; waiting for room", error)
                    told = True
                self._folding.look()
                time.sleep(_PAUSE_S)
        for partition, place in taken.places.items():
            self._places[partition] = max(place, self._places.get(partition, place))
        return taken

    def fold(self, tell: Tell) -> None:
        """Wait until all of it is relayed and folded; what others send meanwhile is not waited for."""
        self._parts.ensure_topics()
        reader = self._parts.reader()
        partitions = self._parts.layout.all()
        items = [partition for partition in partitions if partition.side == "items"]
        most, deeds = 0, None
        try:
            while True:
                self._folding.look()
                pending = self._outbox.depth().pending
                most = max(most, pending)
                tell("relay", most - pending, most)
                ends = reader.ends(partitions)
                views = self._state.read([(partition, [META_KEY]) for partition in partitions])
                fences = dict(zip(partitions, (view.position for view in views), strict=True))
                metas = {p: decode_meta(view.values[0]) for p, view in zip(partitions, views, strict=True)}
                lag = sum(max(0, ends[partition] - fences[partition]) for partition in partitions)
                total = sum(ends.values())
                tell("fold", total - lag, total)
                if deeds is None and self._has(fences, metas):
                    deeds = reader.ends(items)  # what the people's partitions tell was sent before they were committed
                if deeds is not None and all(fences[partition] >= deeds[partition] for partition in items):
                    return
                time.sleep(_PAUSE_S)
        except (LogUnavailable, StateUnavailable) as error:
            raise PenchantError(f"{error}; what was taken is in the outbox or the log: services go on") from None
        finally:
            reader.close()

    def position(self) -> str:
        """The token of all that was taken."""
        return str(Places(self._outbox.name, self._places))

    def close(self) -> None:
        """Finish the batches in hand; what is not relayed stays in the outbox."""
        self._folding.close()
        self._relaying.close()
        self._outbox.close()
        self._state.close()

    def _has(self, fences: Mapping[Partition, int], metas: Mapping[Partition, Meta]) -> bool:
        wanted = Places(self._outbox.name, self._places)
        return all(has(fences[partition], metas[partition], wanted, partition) for partition in self._places)

    def _observe(self) -> None:
        """Where time follows the events, it is as far as the state: what comes before may be too late."""
        partitions = self._parts.layout.all()
        try:
            views = self._state.read([(partition, [META_KEY]) for partition in partitions])
        except StateUnavailable as error:
            logger.warning("the outbox takes events; the state is away: %s", error)
            return
        self.clock.observe(max(decode_meta(view.values[0]).clock for view in views))


class _Own:
    """A fold in this process, begun when nobody else folds; it then archives and copies as any worker does."""

    def __init__(self, parts: ClusterParts) -> None:
        self._parts = parts
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = float("-inf")
        self._failed: PenchantError | None = None

    def look(self) -> None:
        """Begin to fold if nobody does; raises `PenchantError` when that fold has ended."""
        if self._thread is not None and not self._thread.is_alive():
            raise PenchantError(f"the fold ended: {self._failed or 'its process says why'}")
        if self._thread is not None or time.monotonic() - self._looked < _LOOK_S:
            return
        if not self._parts.is_folded():
            logger.info("no penchant stream runs: folding here")
            self._thread = threading.Thread(target=self._run, name="fold", daemon=True)
            self._thread.start()
        self._looked = time.monotonic()

    def close(self) -> None:
        """Finish the batch in hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            folding = Folding(self._parts)
            try:
                folding.run(self._stop)
            finally:
                folding.close()
        except PenchantError as error:  # told by `look`
            self._failed = error
