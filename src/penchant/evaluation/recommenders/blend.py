"""Several models as one: their scores on one scale, with weights learned on a part of the log that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.evaluation.offline import Cases, Log, Recommender, Sparing

STEPS = 20
"""Shares that are tried lie a twentieth apart."""
_CELLS = 8_000_000
"""How many scores are held at a time for each model: 32 MB."""


@dataclass(slots=True, eq=False)
class Blend:
    """The sum of the z-scores of several models, with weights of NDCG@`k` on a part of the log.

    `tune` fits the models once and learns the weights by the cases that it is given. `fit` holds cases out itself: of
    at most `people` users, drawn with the seed, the `last` item of each, or at `random` a `share` of each one's items
    (at least one) where the log has no order; then it fits the models on everything. Scores are standardised in each
    case over the items that the model proposes; the others stand where its lowest does. What no model proposes is not
    proposed. Weights are looked for among the `pool` best items of each model, by `learn_shares`; all are equal where
    nobody has two items.
    """

    models: Sequence[Recommender]
    seed: int = 0
    hold: Literal["last", "random"] = "last"
    filter_seen: bool = True
    """Whether the histories' own items are left out of the lists that are judged, as in the protocol to come."""
    k: int = 20
    people: int = 5_000
    share: float = 0.1
    pool: int = 200
    name: str = ""
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """float64[models], none below zero, of sum 1; after `fit` or `tune`."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("a blend needs a model")
        self.name = self.name or "blend:" + "+".join(model.name for model in self.models)

    @property
    def spared_s(self) -> float:
        return sum(model.spared_s for model in self.models if isinstance(model, Sparing))

    def fit(self, log: Log) -> None:
        self.weights = np.full(len(self.models), 1 / len(self.models))
        rest, cases, answers, first = held_out(
            log, self.hold, people=self.people, share=self.share, filter_seen=self.filter_seen, seed=self.seed
        )
        if len(cases) and len(self.models) > 1:
            self.tune(rest, cases, answers, first)
        for model in self.models:
            model.fit(log)

    def tune(self, log: Log, cases: Cases, answers: NDArray[np.int32], first: NDArray[np.int64]) -> None:
        for model in self.models:
            model.fit(log)
        self.weights = learn_shares(*self._pooled(cases, answers, first, log.n_items), self.k)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found: NDArray[np.float32] | None = None
        proposed: NDArray[np.bool_] | None = None
        for model, weight in zip(self.models, self.weights, strict=True):
            if weight > 0:
                one = model.scores(cases)
                able = np.isfinite(one)
                one = standardised(one) * np.float32(weight)
                found = one if found is None else found + one
                proposed = able if proposed is None else proposed | able
        assert found is not None, "fit comes first"
        assert proposed is not None
        found[~proposed] = -np.inf
        return found

    def _pooled(
        self, cases: Cases, answers: NDArray[np.int32], first: NDArray[np.int64], n_items: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """What `learn_shares` reads: z-scores of the best items of each model, case after case."""
        step = max(1, _CELLS // max(n_items, 1))
        values, right, sizes = [], [], []
        for begin in range(0, len(cases), step):
            end = min(begin + step, len(cases))
            span = slice(cases.offsets[begin], cases.offsets[end])
            part = Cases(
                cases.users[begin:end], cases.items[span], cases.offsets[begin : end + 1] - cases.offsets[begin]
            )
            wanted = np.zeros((end - begin, n_items), bool)
            stacked = []
            for model in self.models:
                scores = model.scores(part)
                z = standardised(scores)
                if self.filter_seen:
                    scores[part.owners(), part.items] = -np.inf
                most = min(self.pool, n_items)
                top = np.argpartition(-scores, most - 1, axis=1)[:, :most]
                np.put_along_axis(wanted, top, np.isfinite(np.take_along_axis(scores, top, axis=1)), axis=1)
                stacked.append(z)
            # Only those in the pool are ranked; an item that is right and in nobody's pool is a miss for any weights.
            rows, items = np.nonzero(wanted)
            values.append(np.stack([z[rows, items] for z in stacked], axis=1))
            good = np.zeros((end - begin, n_items), bool)
            owners = np.repeat(np.arange(begin, end), np.diff(first[begin : end + 1]))
            good[owners - begin, answers[first[begin] : first[end]]] = True
            right.append(good[rows, items])
            sizes.append(np.bincount(rows, minlength=end - begin))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
        return np.concatenate(values), np.concatenate(right), offsets, np.diff(first)


def standardised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Less the mean and over the deviation of the finite scores of each row; what is not finite is at the lowest.

    A row without two different finite scores is zero.

    >>> standardised(np.array([[1, 3, -np.inf, 2, 2]], np.float32)).astype(float).round(3).tolist()
    [[-1.414, 1.414, -1.414, 0.0, 0.0]]
    """
    able = np.isfinite(scores)
    count = np.maximum(able.sum(axis=1, keepdims=True), 1)
    mean = np.where(able, scores, 0).sum(axis=1, keepdims=True, dtype=np.float64) / count
    found = np.where(able, scores - mean.astype(np.float32), np.float32(0))
    deviation = np.sqrt(np.einsum("ij,ij->i", found, found, dtype=np.float64)[:, None] / count)
    spread = deviation > 1e-6 * np.abs(mean)
    found *= np.where(spread, 1 / np.where(spread, deviation, 1), 0).astype(np.float32)
    np.copyto(found, found.min(axis=1, keepdims=True), where=~able)
    return np.asarray(found, np.float32)


def held_out(
    log: Log, hold: Literal["last", "random"], *, people: int, share: float, filter_seen: bool, seed: int
) -> tuple[Log, Cases, NDArray[np.int32], NDArray[np.int64]]:
    """The rest of the log, cases over it, and their answers: `answers[first[c]:first[c + 1]]` for case `c`.

    Asked are at most `people` users with two different items or more, drawn with the seed. Where `filter_seen`, all
    visits to an item that is held out are; else the last alone (`last`).
    """
    order = np.argsort(log.users, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(log.users, minlength=log.n_users))])
    distinct = np.diff(log.matrix().indptr)
    rng = np.random.default_rng(seed)
    able = np.flatnonzero(distinct >= 2)
    users = np.sort(rng.choice(able, people, replace=False)) if len(able) > people else able
    out = np.zeros(len(log), bool)
    answers: list[NDArray[np.int32]] = []
    for user in users:
        rows = order[offsets[user] : offsets[user + 1]]
        items = log.items[rows]
        if hold == "last":
            chosen = items[-1:]
        else:
            own = np.unique(items)
            chosen = np.sort(rng.permutation(own)[: max(1, min(len(own) - 1, round(share * len(own))))])
        answers.append(chosen)
        gone = rows[np.isin(items, chosen)] if filter_seen or hold == "random" else rows[-1:]
        out[gone] = True
    rest = log.take(~out)
    kept = order[~out[order]]
    kept = kept[np.isin(log.users[kept], users)]
    lengths = np.bincount(log.users[kept], minlength=log.n_users)[users]
    cases = Cases(users.astype(np.int32), log.items[kept], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    first = np.concatenate([[0], np.cumsum([len(one) for one in answers])]).astype(np.int64)
    return rest, cases, np.concatenate([np.empty(0, np.int32), *answers]).astype(np.int32), first


def learn_shares(
    values: NDArray[np.float32],
    right: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    relevant: NDArray[np.int64],
    k: int,
) -> NDArray[np.float64]:
    """Weights, float64[models], of the highest mean NDCG@k that coordinate ascent finds; none below zero, of sum 1.

    Case `c` has the items `values[offsets[c]:offsets[c + 1]]`, float32[items, models], of which those in `right` are
    right; `relevant[c]` counts all that are right, listed or not. Begins with the best model alone; then each model in
    turn gets the share of the whole, in steps of 1/`STEPS`, that is best while the others keep their proportions,
    until none gains. Equal outcomes leave things as they are.
    """
    models = values.shape[1]

    def worth(weights: NDArray[np.float64]) -> float:
        return float(_mean_ndcg(values, right, offsets, relevant, weights, k))

    alone = np.eye(models)
    found = [worth(one) for one in alone]
    weights: NDArray[np.float64] = alone[int(np.argmax(found))]
    best = max(found)
    gained = True
    while gained:
        gained = False
        for model in range(models):
            others = np.where(np.arange(models) == model, 0.0, weights)
            if not others.any():
                continue
            kept = weights
            for step in range(STEPS + 1):
                share = step / STEPS
                tried = (1 - share) * others / others.sum() + share * alone[model]
                told = worth(tried)
                if told > best + 1e-12:
                    best, kept, gained = told, tried, True
            weights = kept
    return weights


@kernel
def _mean_ndcg(
    values: NDArray[np.float32],
    right: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    relevant: NDArray[np.int64],
    weights: NDArray[np.float64],
    k: int,
) -> float:
    """Among equal scores those that are right stand last, as the protocols have it."""
    total = 0.0
    for case in range(len(relevant)):
        begin, end = offsets[case], offsets[case + 1]
        scores = np.zeros(end - begin)
        for at in range(begin, end):
            for model in range(len(weights)):
                scores[at - begin] += weights[model] * values[at, model]
        gain = 0.0
        for at in range(begin, end):
            if not right[at]:
                continue
            rank = 1
            for to in range(begin, end):
                above = scores[to - begin] > scores[at - begin]
                if above or (scores[to - begin] == scores[at - begin] and (not right[to] or to < at)):
                    rank += to != at
            if rank <= k:
                gain += 1 / np.log2(rank + 1)
        ideal = 0.0
        for rank in range(1, min(k, relevant[case]) + 1):
            ideal += 1 / np.log2(rank + 1)
        if ideal > 0:
            total += gain / ideal
    return total / max(len(relevant), 1)
