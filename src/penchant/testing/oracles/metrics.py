"""Ranking metrics of one request, written down as their definitions say."""

from __future__ import annotations

import math
from collections.abc import Sequence


def slow_order(scores: Sequence[float], gains: Sequence[float]) -> list[float]:
    """The gains in the order of the ranking: higher score first, not finite last, among equals the lower gain first."""
    known = [score if math.isfinite(score) else -math.inf for score in scores]
    return [gains[i] for i in sorted(range(len(scores)), key=lambda i: (-known[i], gains[i]))]


def slow_ndcg(ranked: Sequence[float], ideal: Sequence[float], k: int, *, exponential: bool = False) -> float:
    """Discounted cumulative gain over that of the ideal order; NaN without gain."""

    def dcg(gains: Sequence[float]) -> float:
        total = 0.0
        for place, gain in enumerate(gains[:k], start=1):
            total += (2**gain - 1 if exponential else gain) / math.log2(place + 1)
        return total

    best = dcg(sorted(ideal, reverse=True))
    return dcg(ranked) / best if best > 0 else math.nan


def slow_recall(ranked: Sequence[float], relevant: int, k: int, *, attainable: bool) -> float:
    """Relevant among the first `k` over all relevant, or over as many as fit."""
    if relevant == 0:
        return math.nan
    return sum(gain > 0 for gain in ranked[:k]) / (min(relevant, k) if attainable else relevant)


def slow_mrr(ranked: Sequence[float], relevant: int, k: int) -> float:
    """One over the rank of the first that is relevant."""
    if relevant == 0:
        return math.nan
    for place, gain in enumerate(ranked[:k], start=1):
        if gain > 0:
            return 1 / place
    return 0.0


def slow_average_precision(ranked: Sequence[float], relevant: int, k: int) -> float:
    """Mean over min(k, relevant) of the precision at the rank of each relevant item."""
    if relevant == 0:
        return math.nan
    total = 0.0
    for place in range(1, min(k, len(ranked)) + 1):
        if ranked[place - 1] > 0:
            total += sum(gain > 0 for gain in ranked[:place]) / place
    return total / min(k, relevant)


def slow_gini(counts: Sequence[int]) -> float:
    """Mean absolute difference of all pairs over twice the mean."""
    n, total = len(counts), sum(counts)
    if not n or not total:
        return math.nan
    return sum(abs(a - b) for a in counts for b in counts) / (2 * n * total)
