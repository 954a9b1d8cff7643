"""The request path as one would write it with NumPy, SciPy and LightGBM's own `predict`: what ours is held against.

It answers from the same picture with the same sources, columns, model and selection, and gives the same matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from penchant.core.items import Category, Items
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.features.plan import Plan
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.linear import Ease

DAY = 86_400_000


class StockPath:
    """Sources → merge → filters → columns → LightGBM → MMR with caps, one NumPy call after another."""

    def __init__(self, items: Items, sources: tuple[Ease, Covisit], plan: Plan, schema: Schema, model: str) -> None:
        n = items.count
        ease = sources[0].model
        assert ease is not None
        self.sources = sources
        self.items, self.plan, self.schema = items, plan, schema
        self.booster = lightgbm.Booster(model_str=model)
        m = len(ease.items)
        self.ease = sp.csr_matrix((ease.weights, ease.columns, ease.offsets), shape=(m, m))
        self.ease_rows = np.array([items.rows[item] for item in ease.items.tolist()])
        self.ease_index = np.full(n, -1)
        self.ease_index[self.ease_rows] = np.arange(m)
        near = items.neighbours
        assert near is not None
        counts = sp.csr_matrix((near.values.astype(np.float32), near.keys, near.offsets), shape=(n, n))
        scale = sp.diags(np.asarray(counts.sum(axis=1)).ravel() ** -0.5)
        self.near = (scale @ counts @ scale).tocsr().astype(np.float32)
        popularity = items.column("popularity")
        self.popular = np.argsort(-popularity, kind="stable")
        self.newest = np.argsort(-items.listed_at, kind="stable")
        self.sets: dict[str, sp.csr_matrix] = {}
        for name, attribute in schema.item.items():
            if attribute.kind == "category":
                self.sets[name] = _one_hot(items.categories[name], n)
            elif attribute.kind == "tags":
                tags = items.tags[name]
                ones = np.ones(len(tags.codes), np.int64)
                self.sets[name] = sp.csr_matrix(
                    (ones, tags.codes, tags.offsets), shape=(n, len(tags.vocabulary.values))
                )

    def run(self, query: Query, quotas: Sequence[int]) -> list[int]:
        """The rows of the slate."""
        rows, matrix = self.candidates(query, quotas)
        value = self.booster.predict(matrix, num_threads=1)
        return self._slate(rows, np.asarray(value), query.size)

    def candidates(self, query: Query, quotas: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The rows after the filters, and their columns."""
        ease, covisit = self.ease_scores(query), self.covisit_scores(query)
        proposals = [
            _top(ease, query.eligible, quotas[0]),
            _top(covisit, query.eligible, quotas[1]),
            self.popular[query.eligible[self.popular]][: quotas[2]],
            self.newest[query.eligible[self.newest]][: quotas[3]],
        ]
        turns = np.concatenate([np.arange(1, len(rows) + 1) / n for rows, n in zip(proposals, quotas, strict=True)])
        rows = np.concatenate(proposals)[np.argsort(turns, kind="stable")]
        rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
        rows = rows[~np.isin(rows, query.seen) & ~np.isin(rows, query.hidden) & self.items.listed[rows]][:500]
        return rows, self.describe(query, rows, ease, covisit)

    def ease_scores(self, query: Query) -> NDArray[np.float32]:
        past = self.ease_index[query.history]
        past = past[past >= 0]
        told = self.ease[past].T @ self._shares(self.sources[0].decay, len(past))
        scores = np.zeros(self.items.count, np.float32)
        scores[self.ease_rows] = told
        return scores

    def covisit_scores(self, query: Query) -> NDArray[np.float32]:
        covisit = self.sources[1]
        past = query.history[: covisit.seeds]
        return self.near[past].T @ self._shares(covisit.decay, len(past))

    @staticmethod
    def _shares(decay: float, n: int) -> NDArray[np.float32]:
        return (decay ** np.arange(n)).astype(np.float32)

    def describe(
        self, query: Query, rows: NDArray[Any], ease: NDArray[np.float32], covisit: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        items, n = self.items, len(rows)
        columns: list[Any] = [*items.features[rows].T]
        for name, attribute in self.schema.item.items():
            if attribute.kind == "number":
                columns.append(items.numbers[name][rows])
            elif attribute.kind == "category":
                held = items.categories[name]
                codes = held.codes[rows]
                columns.append(np.where(codes < 0, np.nan, (held.vocabulary.hashes >> 39)[codes]))
        columns += [(query.now - times[rows]) / DAY for times in items.timestamps.values()]
        for cross, (keys, values) in zip(self.plan.cross, query.user.keyed, strict=True):
            vocabulary = (items.tags.get(cross.attribute) or items.categories[cross.attribute]).vocabulary
            place = np.minimum(np.searchsorted(keys, vocabulary.hashes), len(keys) - 1)
            vector = np.where(keys[place] == vocabulary.hashes, values[place], 0)
            columns.append((self.sets[cross.attribute][rows] @ vector) / cross.divisor)
        past = query.history[:50]
        for held in self.sets.values():
            mine, theirs = held[rows], held[past]
            counts = np.asarray(theirs.sum(axis=0)).ravel()
            newest = np.full(held.shape[1] + 1, np.inf)
            owners = np.repeat(np.arange(len(past)), np.diff(theirs.indptr))
            np.minimum.at(newest, theirs.indices, owners)
            sizes = np.diff(mine.indptr)
            columns.append(np.where(sizes > 0, (mine @ counts) / np.maximum(sizes * len(past), 1), np.nan))
            first = np.full(n, np.inf)
            owner = np.repeat(np.arange(n), sizes)
            np.minimum.at(first, owner, newest[mine.indices])
            columns.append(np.where(np.isinf(first), np.nan, first))
        columns.append(np.where(self.ease_index[rows] < 0, np.nan, ease[rows]))
        columns.append(np.where(covisit[rows] == 0, np.nan, covisit[rows]))
        columns += [np.full(n, value) for value in query.user.features]
        columns.append(np.full(n, len(query.history)))
        columns.append(np.full(n, query.now // 3_600_000 % 24))
        columns.append(np.full(n, (query.now // DAY + 3) % 7))
        return np.stack(columns, axis=1).astype(np.float32)

    def _slate(self, rows: NDArray[Any], value: NDArray[np.float64], size: int) -> list[int]:
        """MMR over the best 100 by Jaccard similarity of tags and categories, at most two of a creator."""
        best = np.argsort(-value, kind="stable")[:100]
        sets = sp.hstack([held[rows[best]] for held in self.sets.values()]).tocsr()
        both = (sets @ sets.T).toarray()
        sizes = np.diff(sets.indptr)
        similar = both / np.maximum(sizes[:, None] + sizes[None, :] - both, 1)
        scaled = value[best] - value[best].min()
        scaled /= max(scaled.max(), 1e-12)
        creators = self.items.categories["creator"].codes[rows[best]]
        nearest, free, shown = np.zeros(len(best)), np.ones(len(best), np.bool_), []
        while len(shown) < size and free.any():
            gain = np.where(free, 0.7 * scaled - 0.3 * nearest, -np.inf)
            choice = int(gain.argmax())
            shown.append(choice)
            free[choice] = False
            if (creators[shown] == creators[choice]).sum() >= 2:
                free[creators == creators[choice]] = False
            nearest = np.maximum(nearest, similar[choice])
        return [int(rows[best[index]]) for index in shown]


def _one_hot(held: Category, n: int) -> sp.csr_matrix:
    known = held.codes >= 0
    offsets = np.concatenate([[0], np.cumsum(known)])
    codes = held.codes[known]
    return sp.csr_matrix((np.ones(len(codes), np.int64), codes, offsets), shape=(n, len(held.vocabulary.values)))


def _top(scores: NDArray[np.float32], eligible: NDArray[np.bool_], limit: int) -> NDArray[Any]:
    rows = np.flatnonzero(eligible & (scores > 0))
    if len(rows) > limit:
        rows = rows[np.argpartition(-scores[rows], limit)[:limit]]
    return rows[np.argsort(-scores[rows], kind="stable")]
