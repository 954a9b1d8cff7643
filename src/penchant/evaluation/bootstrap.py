"""How sure a difference is: the paired bootstrap over requests or users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWN = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of candidate minus mean of baseline with the interval of that difference; `n` pairs were compared."""

    mean: float
    low: float
    high: float
    n: int
    confidence: float


def paired_bootstrap(
    candidate: NDArray[np.float64],
    baseline: NDArray[np.float64],
    *,
    seed: int,
    draws: int = 1_000,
    confidence: float = 0.95,
    clusters: NDArray[np.int64] | None = None,
) -> Difference:
    """The percentile interval of the mean difference between two measures of the same requests.

    Pairs with a NaN on either side are left out. With `clusters` (the user of each request) whole clusters are drawn,
    because requests of one person resemble each other. Equal input and seed, equal answer. Source: Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
    """
    known = ~(np.isnan(candidate) | np.isnan(baseline))
    delta = (candidate - baseline)[known]
    if not len(delta):
        return Difference(mean=float("nan"), low=float("nan"), high=float("nan"), n=0, confidence=confidence)
    owners = np.arange(len(delta)) if clusters is None else np.unique(clusters[known], return_inverse=True)[1]
    totals, sizes = np.bincount(owners, delta), np.bincount(owners).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, _DRAWN // len(totals))
    for start in range(0, draws, step):
        drawn = rng.integers(0, len(totals), (min(step, draws - start), len(totals)))
        means[start : start + len(drawn)] = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(mean=float(delta.mean()), low=float(low), high=float(high), n=len(delta), confidence=confidence)


def paired_bootstraps(
    deltas: NDArray[np.float64],
    clusters: NDArray[np.int64],
    *,
    seed: int,
    draws: int = 1_000,
    confidence: float = 0.95,
) -> list[Difference]:
    """`paired_bootstrap` of many measures of the same requests, all from the same draws: float64[requests, measures].

    NaN: that measure of that request is left out. A column without any has NaN all over.
    """
    known = ~np.isnan(deltas)
    owners = np.unique(clusters, return_inverse=True)[1]
    n = int(owners.max(initial=-1)) + 1
    held = [np.bincount(owners, np.where(known, deltas, 0.0)[:, m], minlength=n) for m in range(deltas.shape[1])]
    held += [np.bincount(owners, known[:, m], minlength=n) for m in range(deltas.shape[1])]
    totals = np.stack(held, axis=1)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, totals.shape[1]))
    step = max(1, _DRAWN // max(n, 1))
    for start in range(0, draws, step):
        drawn = rng.integers(0, max(n, 1), (min(step, draws - start), n))
        often = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(np.float64)
        sums[start : start + len(drawn)] = often @ totals
    told = []
    for m, count in enumerate(known.sum(axis=0).tolist()):
        above, below = sums[:, m], sums[:, m + deltas.shape[1]]
        means = above[below > 0] / below[below > 0]
        low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(means) else (np.nan, np.nan)
        mean = float(deltas[known[:, m], m].mean()) if count else float("nan")
        told.append(Difference(mean=mean, low=float(low), high=float(high), n=count, confidence=confidence))
    return told
