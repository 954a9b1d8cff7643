"""The freshness curve: what quality is lost when parts of an engine are renewed late."""

from __future__ import annotations

from penchant.evaluation.freshness.curve import COMPONENTS, Curve, Point
from penchant.evaluation.freshness.frequent import Frequent
from penchant.evaluation.freshness.intervals import Interval, parse, seen
from penchant.evaluation.freshness.measure import PLAN, Plan, best_counters, measure
from penchant.evaluation.freshness.walk import Engine, Variant, walk

__all__ = [
    "COMPONENTS",
    "PLAN",
    "Curve",
    "Engine",
    "Frequent",
    "Interval",
    "Plan",
    "Point",
    "Variant",
    "best_counters",
    "measure",
    "parse",
    "seen",
    "walk",
]
