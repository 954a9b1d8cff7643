"""Intervals of rates and of their differences that hold for few observations and rates near 0 and 1."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate with its bounds."""

    estimate: float
    low: float
    high: float


def wilson(hits: float, n: float, confidence: float = 0.95) -> Interval:
    """The score interval of a rate; the whole of [0, 1] without observations.

    Source: Wilson, JASA 22 (1927).

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.8, 0.4902, 0.9433]
    """
    if n <= 0:
        return Interval(float("nan"), 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def newcombe(hits: float, n: float, base_hits: float, base_n: float, confidence: float = 0.95) -> Interval:
    """The interval of a rate minus a base rate, from the Wilson intervals of both.

    Source: Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10.

    >>> [round(x, 4) for x in newcombe(56, 70, 48, 80)]
    [0.2, 0.0524, 0.3339]
    """
    one, base = wilson(hits, n, confidence), wilson(base_hits, base_n, confidence)
    if n <= 0 or base_n <= 0:
        return Interval(float("nan"), -1.0, 1.0)
    delta = one.estimate - base.estimate
    return Interval(
        delta,
        delta - sqrt((one.estimate - one.low) ** 2 + (base.high - base.estimate) ** 2),
        delta + sqrt((one.high - one.estimate) ** 2 + (base.estimate - base.low) ** 2),
    )
