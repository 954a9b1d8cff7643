"""Beyond accuracy: how alike the items of a list are, and how popular beside what people had before.

All of them give a value for each list, NaN where it is not defined, so that intervals can be drawn over people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """The cosine between items: rows of length one, as int64 offsets, int32 columns and float64 weights."""

    offsets: Ints
    columns: NDArray[np.int32]
    weights: Floats
    width: int

    @classmethod
    def of(cls, rows: sparse.csr_matrix) -> Likeness:
        """From a row for each item: its attributes, its vector, or the people who took it (co-occurrence).

        An item whose row is empty or zero is like no other.
        """
        kept = rows.tocsr()
        owner = np.repeat(np.arange(kept.shape[0]), np.diff(kept.indptr))
        values = kept.data.astype(np.float64)
        length = np.sqrt(np.bincount(owner, values * values, minlength=kept.shape[0]))
        weights = np.divide(values, length[owner], out=np.zeros(len(values)), where=length[owner] > 0)
        return cls(kept.indptr.astype(np.int64), kept.indices.astype(np.int32), weights, int(kept.shape[1]))


def diversity(recommended: Ints, like: Likeness) -> Floats:
    """Intra-list diversity: the mean over pairs of items of a list of 1 - cosine; NaN of fewer than two items.

    `recommended` is int64[requests, n], padded with -1 at the end; an item stands in a list once. 0 when all are
    alike, 1 when no two share anything. Sources: Smyth and McClave 2001; Ziegler et al., WWW 2005.
    """
    found: Floats = _diversity(recommended, like.offsets, like.columns, like.weights, like.width)
    return found


def mean_popularity(items: NDArray[Any], offsets: Ints, counts: Ints) -> Floats:
    """ARP: the mean over the items of each run, `items[offsets[g]:offsets[g + 1]]`, of their counts; NaN of none."""
    sizes = np.diff(offsets)
    totals = np.bincount(np.repeat(np.arange(len(sizes)), sizes), counts[items], minlength=len(sizes))
    means: Floats = np.divide(totals, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    return means


def popularity_lifts(shown: Floats, had: Floats) -> Floats:
    """Of each person what was shown (`mean_popularity`) over the mean of what people had; their mean is the lift.

    Those of whom either is not defined are NaN and left out of both means.
    """
    both = ~(np.isnan(shown) | np.isnan(had))
    base = float(had[both].mean()) if both.any() else 0.0
    return np.where(both, shown / base, np.nan) if base > 0 else np.full(len(shown), np.nan)


def popularity_lift(shown: Floats, had: Floats) -> float:
    """Mean popularity of what is recommended over that of histories: 1 keeps to people's taste, 2 doubles it.

    Less 1 it is delta-GAP. Sources: Abdollahpouri et al. 2019 (group average popularity); Yin et al. 2012 (ARP).
    """
    lifts = popularity_lifts(shown, had)
    known = lifts[~np.isnan(lifts)]
    return float(known.mean()) if len(known) else float("nan")


def delta_gap(shown: Floats, had: Floats) -> float:
    """By which share recommendations are more popular than histories; `popularity_lift` less 1."""
    return popularity_lift(shown, had) - 1.0


@kernel
def _diversity(
    lists: NDArray[np.int64],
    offsets: NDArray[np.int64],
    columns: NDArray[np.int32],
    weights: NDArray[np.float64],
    width: int,
) -> NDArray[np.float64]:
    """Pairs are summed column by column: what an item adds meets the sum of those before it."""
    rows, n = lists.shape
    found = np.full(rows, np.nan)
    held = np.zeros(width)
    for row in range(rows):
        count = 0
        alike = 0.0
        for at in range(n):
            item = lists[row, at]
            if item < 0:
                break
            count += 1
            for place in range(offsets[item], offsets[item + 1]):
                alike += held[columns[place]] * weights[place]
                held[columns[place]] += weights[place]
        for at in range(count):
            item = lists[row, at]
            for place in range(offsets[item], offsets[item + 1]):
                held[columns[place]] = 0.0
        if count > 1:
            found[row] = 1.0 - alike / (count * (count - 1) / 2)
    return found
