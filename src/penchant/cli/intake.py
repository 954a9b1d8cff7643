"""How recorded history gets into a log: merged by time, in batches, stopped where it would be too late to count."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from penchant.assembly.importing import open_target
from penchant.cli.importers import Import
from penchant.cli.progress import Tell
from penchant.core.clock import Millis, SystemClock
from penchant.core.events import Event, Impression, Interaction
from penchant.settings import Settings, duration

_LOOK = 100_000
"""So many events may come before the first that could be late, which tells when the history begins."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source under its path."""

    path: Path
    source: Import

    @property
    def hint(self) -> str:
        return self.source.settings_toml_hint


class History:
    """Several sources as one, by time; what has no time stays behind what stood before it in its source."""

    def __init__(self, opened: Sequence[Opened]) -> None:
        self._opened = opened
        totals = [one.source.total for one in opened]
        self.total = None if None in totals else sum(total or 0 for total in totals)

    def __iter__(self) -> Iterator[Event]:
        timed = [_timed(one.source.events) for one in self._opened]
        return (event for _, event in heapq.merge(*timed, key=lambda pair: pair[0]))

    @property
    def rejected(self) -> int:
        return sum(one.source.rejected.count for one in self._opened)

    def figures(self, shown: int) -> dict[str, Any]:
        """The refused, and the first of them."""
        first = [
            {"source": str(one.path), "place": r.place, "field": r.field, "reason": r.reason, "message": r.message}
            for one in self._opened
            for r in one.source.rejected.first
        ]
        return {"rejected": self.rejected, "first_rejected": first[:shown]}


class Intake:
    """What history is imported into, by a clock that follows the data, and the counts of what it took.

    An event that arrives more than `[log] lateness` behind the newest one is late for good: it would be kept and never
    count, also when imported again. Unless late ones are to be kept, appending therefore goes on in steps that begin
    with a single such event and double as long as they turn out to be duplicates, and stops at the first late one.
    """

    def __init__(self, folder: Path, settings: Settings, *, keep_late: bool, batch: int) -> None:
        self._target = open_target(folder, settings)
        self._clock = self._target.clock
        self._lateness = duration(settings.log.lateness, "log.lateness")
        self._keep_late = keep_late
        self._batch = batch
        self.read = self.accepted = self.duplicates = self.late = 0
        self.stopped: str | None = None
        """Why not all was taken."""
        self._seconds = 0.0
        self._folded: float | None = None

    def take(self, history: History, tell: Tell) -> None:
        """Append all of it; every batch is durable before the next is read."""
        begun = time.monotonic()
        events = self._begun(iter(history))
        allowed = 1
        try:
            while self.stopped is None and (batch := list(islice(events, self._batch))):
                while batch and self.stopped is None:
                    chunk = len(batch) if self._keep_late else self._until(batch, allowed)
                    allowed = self._append(batch[:chunk], allowed)
                    del batch[:chunk]
                    done = self.read + history.rejected
                    tell("events", done, max(done, history.total or 0))
        finally:
            self._seconds = time.monotonic() - begun

    def fold(self, tell: Tell) -> None:
        """Bring the state up to all that was taken."""
        begun = time.monotonic()
        self._target.fold(tell)
        self._folded = time.monotonic() - begun

    def figures(self) -> dict[str, Any]:
        """The counts, for people and for programs."""
        return {
            "events": self.read,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "late": self.late,
            "position": self._target.position(),
            "seconds": round(self._seconds, 3),
            "events_per_second": round(self.read / self._seconds) if self._seconds else 0,
            "folded_seconds": None if self._folded is None else round(self._folded, 3),
            "stopped": self.stopped,
        }

    def close(self) -> None:
        """Close what was opened."""
        self._target.close()

    def _begun(self, events: Iterator[Event]) -> Iterator[Event]:
        """All the events, unless it is clear before the first that they would be late."""
        if self._keep_late:
            return events
        head: list[Event] = []
        for event in islice(events, _LOOK):
            head.append(event)
            ts = event_time(event)
            if isinstance(event, Interaction | Impression) and ts is not None:
                self.stopped = self._target.refusal(ts)
                break
        return chain(head, events)

    def _append(self, events: Sequence[Event], allowed: int) -> int:
        """Append and count; returns how many late ones the next step may risk."""
        risky = self._risky(events)
        if self._clock.now() == 0 and any(isinstance(event, Interaction) and event.ts is None for event in events):
            self._clock.observe(SystemClock().now())  # nothing said when: then they happened now
        taken = self._target.append(events)
        self.read += len(events)
        self.accepted += taken.accepted
        self.duplicates += taken.duplicates
        self.late += taken.late
        if taken.late and not self._keep_late:
            self.stopped = self._too_late(events)
        return allowed * 2 if risky else allowed

    def _until(self, events: Sequence[Event], allowed: int) -> int:
        """How many to append so that at most `allowed` of them may turn out late."""
        now = self._clock.now()
        for count, event in enumerate(events):
            now = max(now, event_time(event) or 0)
            if self._is_risky(event, now):
                if not allowed:
                    return count
                allowed -= 1
        return len(events)

    def _risky(self, events: Iterable[Event]) -> bool:
        now = self._clock.now()
        return any(self._is_risky(event, now) for event in events)

    def _is_risky(self, event: Event, now: Millis) -> bool:
        return isinstance(event, Interaction | Impression) and event.ts is not None and now - event.ts > self._lateness

    def _too_late(self, events: Sequence[Event]) -> str:
        oldest = min(event_time(event) or 0 for event in events if isinstance(event, Interaction | Impression))
        return (
            f"stopped: the log already holds events of {_day(self._clock.now())}, so that those of {_day(oldest)} are "
            f"late: kept, but never counted ({self.late:,} so far). Either import all history at once into a new "
            'folder, before anything newer (sources named together are merged by time; [clock] source = "events" for '
            f"replays), or raise \\[log] lateness above {(self._clock.now() - oldest) // 86_400_000 + 1}d and import "
            "again, or take them all the same with --late"
        )


def event_time(event: Event) -> Millis | None:
    """When the event says it happened."""
    ts: Millis | None = getattr(event, "ts", None)
    return ts


def _timed(events: Iterable[Event]) -> Iterator[tuple[Millis, Event]]:
    last = 0
    for event in events:
        ts = event_time(event)
        last = last if ts is None else ts
        yield last, event


def _day(ts: Millis) -> str:
    return datetime.fromtimestamp(ts / 1_000, UTC).date().isoformat()
