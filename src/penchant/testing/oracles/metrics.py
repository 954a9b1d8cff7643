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


def slow_mean_reciprocal(ranked: Sequence[float], relevant: int) -> float:
    """One over the rank of every one that is relevant, over how many there are."""
    if relevant == 0:
        return math.nan
    return sum(1 / place for place, gain in enumerate(ranked, start=1) if gain > 0) / relevant


def slow_auc(scores: Sequence[float], gains: Sequence[float]) -> float:
    """Pairs of one that is relevant and one that is not: those in the right order, and half of the equal ones."""
    known = [score if math.isfinite(score) else -math.inf for score in scores]
    right = [score for score, gain in zip(known, gains, strict=True) if gain > 0]
    wrong = [score for score, gain in zip(known, gains, strict=True) if gain <= 0]
    if not right or not wrong:
        return math.nan
    return sum((a > b) + 0.5 * (a == b) for a in right for b in wrong) / (len(right) * len(wrong))


def slow_average_precision(ranked: Sequence[float], relevant: int, k: int, *, attainable: bool = True) -> float:
    """Over min(k, relevant), or over all relevant, the precision at the rank of each relevant item."""
    if relevant == 0:
        return math.nan
    total = 0.0
    for place in range(1, min(k, len(ranked)) + 1):
        if ranked[place - 1] > 0:
            total += sum(gain > 0 for gain in ranked[:place]) / place
    return total / (min(k, relevant) if attainable else relevant)


def slow_gini(counts: Sequence[int]) -> float:
    """Mean absolute difference of all pairs over twice the mean."""
    n, total = len(counts), sum(counts)
    if not n or not total:
        return math.nan
    return sum(abs(a - b) for a in counts for b in counts) / (2 * n * total)


def slow_diversity(items: Sequence[int], vectors: Sequence[Sequence[float]]) -> float:
    """Mean over pairs of 1 - cosine; NaN of fewer than two items."""
    apart = []
    for at, one in enumerate(items):
        for other in items[:at]:
            a, b = vectors[one], vectors[other]
            length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
            apart.append(1 - (sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0))
    return sum(apart) / len(apart) if apart else math.nan


def slow_popularity_lift(
    lists: Sequence[Sequence[int]], histories: Sequence[Sequence[int]], counts: Sequence[int]
) -> float:
    """Mean over people of the mean count of what they were shown, over the same of what they had."""
    people = [(shown, had) for shown, had in zip(lists, histories, strict=True) if shown and had]
    if not people:
        return math.nan
    shown_mean = sum(sum(counts[i] for i in shown) / len(shown) for shown, _ in people) / len(people)
    had_mean = sum(sum(counts[i] for i in had) / len(had) for _, had in people) / len(people)
    return shown_mean / had_mean if had_mean else math.nan
