"""Ranking metrics over many requests at once; every definition that people disagree on has a name.

Scores that are not finite rank last. Among equal scores the relevant item ranks last (conservative), so that a
constant score earns nothing by chance. A request for which a metric is undefined (nothing relevant) is NaN in the
result: `mean` leaves it out, and callers say how many there were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Gains in the order of a ranking, request after request; 0 is not relevant.

    Request `g` was given `gains[offsets[g]:offsets[g + 1]]`, best first. `ideal`, with its own offsets, has all
    gains that could have been had, highest first, also those of items that were not ranked.
    """

    gains: Floats
    offsets: Ints
    ideal: Floats
    ideal_offsets: Ints

    @property
    def requests(self) -> int:
        """How many."""
        return len(self.offsets) - 1

    @property
    def relevant(self) -> Ints:
        """How many items would have been relevant, by request."""
        return _sums(self.ideal > 0, self.ideal_offsets).astype(np.int64)


def rank(scores: NDArray[np.floating], gains: NDArray[np.floating] | NDArray[np.integer], offsets: Ints) -> Ranked:
    """The items of each request ordered by their scores: `scores` and `gains` in rows, requests as runs of rows.

    Negative gains raise ValueError: clip them, or take another metric.
    """
    known = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float64)
    worth = np.asarray(gains, np.float64)
    if len(worth) and worth.min() < 0:
        raise ValueError("gains must not be negative")
    request = _owners(offsets)
    order = np.lexsort((worth, -known, request))
    best = np.lexsort((-worth, request))
    return Ranked(worth[order], offsets, worth[best], offsets)


def listed(recommended: Ints, relevant: Ints, offsets: Ints) -> Ranked:
    """Lists of items, best first, judged by sets of relevant items (binary).

    `recommended` is int64[requests, n], padded with -1 at the end; the items relevant to request `g` are
    `relevant[offsets[g]:offsets[g + 1]]`, each once.
    """
    requests, width = recommended.shape
    owner = np.repeat(np.arange(requests), width)
    flat = recommended.ravel()
    kept = flat >= 0
    top = int(max(flat.max(initial=0), relevant.max(initial=0))) + 1
    hits = np.isin(owner[kept] * top + flat[kept], _owners(offsets) * top + relevant)
    lengths = (recommended >= 0).sum(axis=1)
    return Ranked(
        hits.astype(np.float64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.ones(len(relevant)),
        offsets,
    )


def ndcg(ranked: Ranked, k: int | None = 10, gain: Literal["linear", "exponential"] = "linear") -> Floats:
    """Discounted gain at `k` (None: all) over the best possible; discount 1/log2(rank + 1).

    `exponential` takes 2**gain - 1 in the place of the gain; binary gains are the same under both.
    """
    return _ratio(
        _discounted(ranked.gains, ranked.offsets, k, gain), _discounted(ranked.ideal, ranked.ideal_offsets, k, gain)
    )


def hit_rate(ranked: Ranked, k: int = 10) -> Floats:
    """1 where something relevant is among the first `k`."""
    return _defined(ranked, (_hits(ranked, k) > 0).astype(np.float64))


def recall(ranked: Ranked, k: int = 10, over: Literal["relevant", "attainable"] = "relevant") -> Floats:
    """Relevant items among the first `k` over all that are relevant, or over min(k, relevant) (`attainable`)."""
    count = ranked.relevant
    return _ratio(_hits(ranked, k), count if over == "relevant" else np.minimum(count, k))


def precision(ranked: Ranked, k: int = 10) -> Floats:
    """Relevant items among the first `k` over `k`, also where fewer were given."""
    return _defined(ranked, _hits(ranked, k) / k)


def mrr(ranked: Ranked, k: int | None = None) -> Floats:
    """One over the rank of the first relevant item, 0 where there is none among the first `k`."""
    places = _places(ranked.offsets)
    worth = np.where((ranked.gains > 0) & (places <= (k or np.inf)), 1.0 / places, 0.0)
    first = np.zeros(ranked.requests)
    np.maximum.at(first, _owners(ranked.offsets), worth)
    return _defined(ranked, first)


def mean_reciprocal(ranked: Ranked) -> Floats:
    """One over the rank, averaged over all relevant items: `mrr_score` of MIND's evaluation, which others call MRR.

    Of one relevant item it is `mrr`; of several it is lower, .33 where `mrr` has .38 on MIND. One that was not ranked
    counts 0.
    """
    worth = np.where(ranked.gains > 0, 1.0 / _places(ranked.offsets), 0.0)
    return _ratio(_sums(worth, ranked.offsets), ranked.relevant)


def auc(scores: NDArray[np.floating], gains: NDArray[np.floating] | NDArray[np.integer], offsets: Ints) -> Floats:
    """How often a relevant item has a higher score than one that is not, in each request; equal scores count half.

    Rows as in `rank`; scores that are not finite are equal and lowest. NaN where a request lacks either kind. Source:
    Mann and Whitney 1947.
    """
    known = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float64)
    right = np.asarray(gains) > 0
    request = _owners(offsets)
    order = np.lexsort((known, request))
    by, of = known[order], request[order]
    begins = np.flatnonzero((np.diff(of, prepend=-1) != 0) | (by != np.concatenate([[np.nan], by[:-1]])))
    sizes = np.diff(begins, append=len(by))
    middle = np.empty(len(by))
    middle[order] = np.repeat(begins + (sizes + 1) / 2, sizes)  # of equals, the mean of their ranks from 1
    middle -= np.repeat(offsets[:-1], np.diff(offsets))
    positives = _sums(right, offsets)
    negatives = np.diff(offsets) - positives
    return _ratio(_sums(middle * right, offsets) - positives * (positives + 1) / 2, positives * negatives)


def average_precision(
    ranked: Ranked, k: int | None = None, over: Literal["relevant", "attainable"] = "attainable"
) -> Floats:
    """The precision at the rank of each relevant item among the first `k`, summed; its mean over requests is MAP.

    Over min(k, relevant) (`attainable`), so that a perfect list has 1, or over all relevant (`relevant`, as trec_eval).
    """
    places, hit = _places(ranked.offsets), ranked.gains > 0
    so_far = np.cumsum(hit)
    before = np.concatenate([[0], so_far])[ranked.offsets[:-1]]
    found = so_far - np.repeat(before, np.diff(ranked.offsets))
    worth = np.where(hit & (places <= (k or np.inf)), found / places, 0.0)
    count = ranked.relevant
    return _ratio(_sums(worth, ranked.offsets), count if k is None or over == "relevant" else np.minimum(count, k))


def mean(values: Floats) -> float:
    """The mean over requests for which the metric is defined, NaN when there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def coverage(recommended: Ints, catalogue: int) -> float:
    """Share of a catalogue of that many items that was recommended to somebody; -1 pads."""
    return len(np.unique(recommended[recommended >= 0])) / catalogue if catalogue else float("nan")


def surprise(counts: Ints, out_of: int | None = None) -> Floats:
    """Of each item -log2 of the share of interactions that it has; one that has none counts as having one.

    With `out_of` users and `counts` of users by item it is the share of users instead (Zhou et al., PNAS 2010).
    """
    bits: Floats = -np.log2(np.maximum(counts, 1) / max(int(counts.sum()) if out_of is None else out_of, 1))
    return bits


def novelty(recommended: Ints, counts: Ints, out_of: int | None = None) -> float:
    """Mean `surprise` of what was recommended, every shown item counting once for each time that it is shown."""
    shown = recommended[recommended >= 0]
    return float(surprise(counts, out_of)[shown].mean()) if len(shown) else float("nan")


def gini(counts: Ints) -> float:
    """How unevenly exposure is spread over items: 0 all equal, towards 1 all on one item."""
    ordered = np.sort(counts).astype(np.float64)
    total, n = ordered.sum(), len(ordered)
    if not n or not total:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def _owners(offsets: Ints) -> Ints:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _places(offsets: Ints) -> Ints:
    """Ranks from 1, in each request anew."""
    places: Ints = np.arange(1, int(offsets[-1]) + 1) - np.repeat(offsets[:-1], np.diff(offsets))
    return places


def _sums(values: NDArray[np.floating] | NDArray[np.bool_], offsets: Ints) -> Floats:
    totals: Floats = np.bincount(_owners(offsets), values, minlength=len(offsets) - 1).astype(np.float64)
    return totals


def _hits(ranked: Ranked, k: int) -> Floats:
    return _sums((ranked.gains > 0) & (_places(ranked.offsets) <= k), ranked.offsets)


def _discounted(gains: Floats, offsets: Ints, k: int | None, gain: str) -> Floats:
    places = _places(offsets)
    worth = gains if gain == "linear" else np.exp2(gains) - 1
    return _sums(np.where(places <= (k or np.inf), worth / np.log2(places + 1), 0.0), offsets)


def _ratio(above: Floats, below: Floats | Ints) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio


def _defined(ranked: Ranked, values: Floats) -> Floats:
    defined: Floats = np.where(ranked.relevant > 0, values, np.nan)
    return defined
