"""What the demo counted on its side of the wire, to be held against what the engine says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penchant.experiments.intervals import newcombe, wilson

ARMS = ("personalised", "popularity")


@dataclass(slots=True)
class Arm:
    """Slates of one arm: how many, how many clicked at least once, which films were shown."""

    slates: int = 0
    clicked: int = 0
    films: set[str] = field(default_factory=set)


class Tally:
    """Counts by the client. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        self.accepted = 0
        self.repeated = 0
        self.duplicates = 0
        self.failed = 0
        self.actions: Counter[tuple[str, str]] = Counter()
        self.requests: list[float] = []
        self.fresh: list[float] = []
        self.arms = {name: Arm() for name in ARMS}

    def send(self, events: Sequence[Mapping[str, object]], accepted: int, duplicates: int) -> None:
        """Events that were sent for the first time."""
        with self._lock:
            self.sent += len(events)
            self.accepted += accepted
            self.duplicates += duplicates
            for event in events:
                if event["type"] == "interaction":
                    self.actions[str(event["item_id"]), str(event["action"])] += 1

    def repeat(self, events: int, duplicates: int) -> None:
        """Events that were sent again on purpose: all of them must be duplicates."""
        with self._lock:
            self.repeated += events
            self.duplicates += duplicates

    def slate(self, arm: str, films: Sequence[str], seconds: float, *, clicked: bool) -> None:
        """A slate that was answered, and whether it was clicked."""
        with self._lock:
            told = self.arms[arm]
            told.slates += 1
            told.clicked += clicked
            told.films.update(films)
            self.requests.append(seconds)

    def freshness(self, seconds: float) -> None:
        """How long after its 202 a click changed the slate."""
        with self._lock:
            self.fresh.append(seconds)

    def failure(self) -> None:
        """A request that was not answered."""
        with self._lock:
            self.failed += 1

    def figures(self, catalogue: int) -> dict[str, Any]:
        """Everything as JSON; times in milliseconds, rates with 95 % intervals."""
        with self._lock:
            one, base = (self.arms[name] for name in ARMS)
            lift = newcombe(one.clicked, one.slates, base.clicked, base.slates)
            return {
                "events": {
                    "sent": self.sent,
                    "accepted": self.accepted,
                    "repeated": self.repeated,
                    "duplicates": self.duplicates,
                    "lost": self.sent - self.accepted,
                    "doubled": max(0, self.repeated - self.duplicates),
                },
                "requests": {"answered": len(self.requests), "failed": self.failed, **_percentiles(self.requests)},
                "freshness": {"clicks": len(self.fresh), **_percentiles(self.fresh)},
                "click_rate": {
                    name: dict(zip(("rate", "low", "high"), wilson(arm.clicked, arm.slates), strict=True))
                    | {"slates": arm.slates}
                    for name, arm in self.arms.items()
                },
                "lift": dict(zip(("difference", "low", "high"), lift, strict=True)),
                "coverage": {name: len(arm.films) / max(catalogue, 1) for name, arm in self.arms.items()},
            }


def _percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {"p50_ms": None, "p99_ms": None}
    p50, p99 = np.percentile(np.array(seconds) * 1_000, [50, 99])
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}
