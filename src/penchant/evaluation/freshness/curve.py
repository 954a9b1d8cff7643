"""What a freshness curve says: points of components and intervals, as a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.bootstrap import Difference
from penchant.evaluation.freshness.intervals import Interval

COMPONENTS = ("counters", "tables", "user state", "models", "everything")


@dataclass(frozen=True, slots=True)
class Point:
    """One component renewed at one interval."""

    component: str
    interval: Interval
    figures: dict[str, float]
    """Of the whole engine."""
    behind: dict[str, Difference]
    """By measure: this minus the fresh engine."""
    alone: dict[str, float]
    """Of the component without the others; of `user state` that of the model. Empty for `everything`."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "component": self.component,
            "every": self.interval.name,
            "figures": self.figures,
            "minus fresh, 95 %": {name: [one.mean, one.low, one.high] for name, one in self.behind.items()},
            "alone": self.alone,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The whole of it, and how it was made."""

    data: str
    unit: str
    part: str
    k: int
    seed: int
    share: float
    cases: int
    users: int
    interactions: int
    filter_seen: bool
    days: float | None
    """Between the first and the last row judged; None: without times."""
    parts: tuple[str, ...]
    """The models that are counters, tables and model."""
    weights: tuple[float, float, float]
    refit: Interval
    """What stands for 0 for models."""
    fits: int
    fit_s: float
    seconds: float
    points: tuple[Point, ...]

    def made(self) -> str:
        """How, in a sentence or two."""
        days = "" if self.days is None else f" over {self.days:,.0f} days"
        asked = "items the user did not have" if self.filter_seen else "all items"
        shares = ", ".join(f"{share:g} {name}" for share, name in zip(self.weights, self.parts, strict=True))
        scale = "" if self.unit == "time" else " Staleness is in events, as the order alone is known."
        return (
            f"{self.data}, {self.part}: the newest {self.share:.0%} of {self.interactions:,} interactions{days}, "
            f"{self.cases:,} asked for just before they happen, of {self.users:,} users; {asked} are ranked, ties go "
            f"against the engine. Engine: {shares}. One component is renewed late, the others at once, the model "
            f"every {self.refit.name}.{scale} Bands: 95 % paired bootstrap over users of the difference to fresh. "
            f"Seed {self.seed}."
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "protocol": "freshness",
            "version": 1,
            "made": self.made(),
            "data": self.data,
            "unit": self.unit,
            "part": self.part,
            "k": self.k,
            "seed": self.seed,
            "share": self.share,
            "cases": self.cases,
            "users": self.users,
            "interactions": self.interactions,
            "filter_seen": self.filter_seen,
            "parts": list(self.parts),
            "weights": list(self.weights),
            "models_every": self.refit.name,
            "fits": self.fits,
            "fit_s": round(self.fit_s, 1),
            "seconds": round(self.seconds, 1),
            "points": [one.document() for one in self.points],
        }


def gains(ranks: NDArray[np.int64], k: int) -> dict[str, NDArray[np.float64]]:
    """HR, NDCG and MRR at `k` of each case with one right item at these ranks, 0 for a miss."""
    hit = (ranks > 0) & (ranks <= k)
    places = np.maximum(ranks, 1).astype(np.float64)
    return {
        f"HR@{k}": hit.astype(np.float64),
        f"NDCG@{k}": np.where(hit, 1.0 / np.log2(places + 1.0), 0.0),
        f"MRR@{k}": np.where(hit, 1.0 / places, 0.0),
    }
