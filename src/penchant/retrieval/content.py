"""What is like the things the user turned to, by their attributes alone: it works from an item's first second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.kept import Kept
from penchant.retrieval.terms import ContentTable, TermIndex
from penchant.retrieval.topk import NOTHING, top_rows


@dataclass(frozen=True, slots=True)
class Content:
    """Cosine-like match of TF-IDF vectors over texts, tags and categories.

    The profile is `Σ_k decay^k · v(i_k)` over the newest `depth` items of the history, less `dislike` times the same
    sum over the newest hidden items; with a seed it is the seed's vector. Only its `terms` strongest terms count,
    and of those, from the strongest on, the ones that leave the rows to visit within `postings`: that bounds the work.
    Items that share no term with it, or more with what the user hid, are not proposed.
    `weights` gives attributes another weight than 1; 0 leaves one out.
    """

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)
    depth: int = 20
    decay: float = 0.8
    dislike: float = 0.5
    terms: int = 96
    postings: int = 500_000
    _index: TermIndex = field(default_factory=TermIndex, repr=False, compare=False)
    _kept: Kept[tuple[NDArray[np.float32] | None]] = field(default_factory=Kept, repr=False, compare=False)

    def prepare(self, items: Items) -> ContentTable:
        return self._index.build(items, self.weights)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        (profile,) = self._kept.of(query, table, lambda: (self._profile(table, query),))
        if profile is None or limit <= 0:
            return NOTHING
        terms = np.flatnonzero(profile)
        visits = int((table.starts[terms + 1] - table.starts[terms]).sum())
        # A narrow request is cheaper the other way round, over the few rows that may be shown.
        if np.count_nonzero(query.eligible) * len(table.terms) < visits * len(query.eligible) // 2:
            scores = _score_forward(table.offsets, table.terms, table.values, profile, query.eligible)
        else:
            scores = _score_inverted(table.starts, table.rows, table.weights, profile, terms, len(query.eligible))
        return Retrieved(*top_rows(scores, query.eligible, limit, 0.0, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        (profile,) = self._kept.of(query, table, lambda: (self._profile(table, query),))
        if profile is None:
            return np.full(len(rows), np.nan, np.float32)
        return _score_some(table.offsets, table.terms, table.values, profile, rows)

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history whose share of the score is the largest above zero, -1 for none.

        The share of `i_k` is `decay^k · v(i_k) · v(row)` over the terms that count in the profile.
        """
        table = self._table(query)
        (profile,) = self._kept.of(query, table, lambda: (self._profile(table, query),))
        if profile is None:
            return np.full(len(rows), -1, np.int32)
        liked = query.history[: self.depth] if query.seed_row < 0 else np.array([query.seed_row], np.int32)
        found = _nearest(table.offsets, table.terms, table.values, profile, liked, self.decay, rows)
        return np.where(found >= 0, liked[found], -1).astype(np.int32)

    def _table(self, query: Query) -> ContentTable:
        table = query.items.tables[self.name]
        assert isinstance(table, ContentTable)
        return table

    def _profile(self, table: ContentTable, query: Query) -> NDArray[np.float32] | None:
        """float32[terms], zero but for the strongest; None without anything to go by."""
        if query.seed_row >= 0:
            liked, disliked = np.array([query.seed_row], np.int32), query.hidden[:0]
        else:
            liked, disliked = query.history[: self.depth], query.hidden[: self.depth]
        if len(liked) == 0 or len(table.terms) == 0:
            return None
        profile = np.zeros(len(table.starts) - 1, np.float32)
        _add_vectors(profile, table.offsets, table.terms, table.values, liked, 1.0, self.decay)
        _add_vectors(profile, table.offsets, table.terms, table.values, disliked, -self.dislike, self.decay)
        used = np.flatnonzero(profile)
        strongest = used[np.argsort(-np.abs(profile[used]), kind="stable")]
        _cut(profile, strongest, table.starts, self.terms, self.postings)
        return profile


@kernel
def _add_vectors(
    profile: NDArray[np.float32],
    offsets: NDArray[np.int64],
    terms: NDArray[np.int32],
    values: NDArray[np.float32],
    rows: NDArray[np.int32],
    weight: float,
    decay: float,
) -> None:
    for row in rows:
        share = np.float32(weight)
        for at in range(offsets[row], offsets[row + 1]):
            profile[terms[at]] += share * values[at]
        weight *= decay


@kernel
def _cut(
    profile: NDArray[np.float32],
    strongest: NDArray[np.int64],
    starts: NDArray[np.int64],
    most: int,
    postings: int,
) -> None:
    """Take the terms out of the profile that are too weak, or too common for what is left to spend."""
    for at in range(len(strongest)):
        term = strongest[at]
        length = starts[term + 1] - starts[term]
        if at < most and (at == 0 or length <= postings):
            postings -= length
        else:
            profile[term] = 0.0


@kernel
def _score_inverted(
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
    profile: NDArray[np.float32],
    terms: NDArray[np.int64],
    count: int,
) -> NDArray[np.float32]:
    """Every row's sum over shared terms, ascending: the order of additions of `_score_forward`, so the same bits."""
    scores = np.zeros(count, np.float32)
    for term in terms:
        share = profile[term]
        for at in range(starts[term], starts[term + 1]):
            scores[np.uintp(rows[at])] += share * weights[at]  # unsigned: no check for counting from the end
    return scores


@kernel
def _score_forward(
    offsets: NDArray[np.int64],
    terms: NDArray[np.int32],
    values: NDArray[np.float32],
    profile: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> NDArray[np.float32]:
    scores = np.zeros(len(mask), np.float32)
    for row in range(len(mask)):
        if mask[row]:
            score = np.float32(0.0)
            for at in range(offsets[row], offsets[row + 1]):
                score += profile[terms[at]] * values[at]
            scores[row] = score
    return scores


@kernel
def _score_some(
    offsets: NDArray[np.int64],
    terms: NDArray[np.int32],
    values: NDArray[np.float32],
    profile: NDArray[np.float32],
    rows: NDArray[np.int32],
) -> NDArray[np.float32]:
    scores = np.zeros(len(rows), np.float32)
    for index in range(len(rows)):
        row = rows[index]
        score = np.float32(0.0)
        for at in range(offsets[row], offsets[row + 1]):
            score += profile[terms[at]] * values[at]
        scores[index] = score
    return scores


@kernel
def _nearest(
    offsets: NDArray[np.int64],
    terms: NDArray[np.int32],
    values: NDArray[np.float32],
    profile: NDArray[np.float32],
    liked: NDArray[np.int32],
    decay: float,
    rows: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Per row the place in `liked` of the largest decayed product of vectors above zero, -1 for none."""
    found = np.full(len(rows), -1, np.int32)
    for index in range(len(rows)):
        best = np.float32(0.0)
        weight = 1.0
        for place in range(len(liked)):
            share = np.float32(weight)
            a, a_end = offsets[rows[index]], offsets[rows[index] + 1]
            b, b_end = offsets[liked[place]], offsets[liked[place] + 1]
            product = np.float32(0.0)
            while a < a_end and b < b_end:  # both ascend by term
                if terms[a] < terms[b]:
                    a += 1
                elif terms[a] > terms[b]:
                    b += 1
                else:
                    if profile[terms[a]] != 0:
                        product += share * values[b] * values[a]
                    a += 1
                    b += 1
            if product > best:
                best = product
                found[index] = place
            weight *= decay
    return found
