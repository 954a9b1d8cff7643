"""Blends against plain loops: one scale, what is held out, weights, and the command line's word for them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from penchant.evaluation.datasets import Dataset
from penchant.evaluation.offline import Cases, Log, Recommender
from penchant.evaluation.protocols import Options, judge
from penchant.evaluation.protocols.leave_one_out import LOO_FULL
from penchant.evaluation.protocols.rounds import Round
from penchant.evaluation.recommenders import Ease, Popularity
from penchant.evaluation.recommenders.blend import Blend, held_out, learn_shares, standardised
from penchant.evaluation.recommenders.shared import Shared
from penchant.testing.strategies import generators


def made(seed: int, n: int = 600, users: int = 40, items: int = 30) -> Log:
    rng = np.random.default_rng(seed)
    who, what = rng.integers(0, users, n), (items * rng.random(n) ** 2).astype(int)
    return Log(who.astype(np.int32), what.astype(np.int32), users + 1, items + 1)


def asked(*histories: list[int]) -> Cases:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in histories])]).astype(np.int64)
    return Cases(np.full(len(histories), -1, np.int32), np.array([*itertools.chain(*histories)], np.int32), offsets)


@dataclass(slots=True, eq=False)
class Fixed:
    """Gives each user the same scores whatever it was fitted on, and remembers the logs."""

    table: NDArray[np.float32]
    name: str = "fixed"
    logs: list[Log] = field(default_factory=list)

    def fit(self, log: Log) -> None:
        self.logs.append(log)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        return self.table[cases.users].copy()


@given(generators())
@settings(max_examples=50, deadline=None)
def test_scores_are_standardised_case_by_case(rng: np.random.Generator) -> None:
    scores = rng.normal(rng.normal(0, 10), 3, (4, 7)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    scores[2] = -np.inf
    scores[3] = np.where(np.isfinite(scores[3]), 5, -np.inf)
    found = standardised(scores)
    for row, told in zip(scores, found, strict=True):
        finite = [float(value) for value in row if math.isfinite(value)]
        mean = sum(finite) / max(len(finite), 1)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in finite) / max(len(finite), 1))
        if len(set(finite)) < 2:
            assert not told.any()
            continue
        least = (min(finite) - mean) / deviation
        expected = [(value - mean) / deviation if math.isfinite(value) else least for value in row.tolist()]
        np.testing.assert_allclose(told, expected, atol=1e-4)


@pytest.mark.parametrize("hold", ["last", "random"])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_what_is_held_out(hold: Literal["last", "random"], filter_seen: bool) -> None:
    log = made(1)
    rest, cases, answers, first = held_out(log, hold, people=25, share=0.2, filter_seen=filter_seen, seed=3)
    assert len(cases) == 25
    for case, user in enumerate(cases.users):
        before, after = log.items[log.users == user].tolist(), rest.items[rest.users == user].tolist()
        held = answers[first[case] : first[case + 1]].tolist()
        history = cases.items[cases.offsets[case] : cases.offsets[case + 1]].tolist()
        assert history == after
        if hold == "random":
            assert len(held) == max(1, round(0.2 * len(set(before))))
            assert after == [item for item in before if item not in held]
        else:
            assert held == before[-1:]
            assert after == ([item for item in before if item not in held] if filter_seen else before[:-1])
    others = ~np.isin(log.users, cases.users)
    assert np.array_equal(log.items[others], rest.items[~np.isin(rest.users, cases.users)])
    again = held_out(log, hold, people=25, share=0.2, filter_seen=filter_seen, seed=3)
    assert np.array_equal(again[1].items, cases.items)


def ndcg(scores: list[float], right: list[bool], relevant: int, k: int) -> float:
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], right[at]))
    gain = sum(1 / math.log2(place + 2) for place, at in enumerate(order[:k]) if right[at])
    return gain / sum(1 / math.log2(place + 2) for place in range(min(k, relevant)))


@given(generators())
@settings(max_examples=20, deadline=None)
def test_two_models_get_the_best_weight_of_the_grid(rng: np.random.Generator) -> None:
    sizes = rng.integers(1, 15, 12)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    # Rows that are drawn more than once: ties whatever the weights, and none that hang on rounding.
    values = rng.standard_normal((offsets[-1], 2)).astype(np.float32)[rng.integers(0, offsets[-1], offsets[-1])]
    right = rng.random(offsets[-1]) < 0.3
    relevant = np.array([right[a:b].sum() + rng.integers(0, 2) or 1 for a, b in itertools.pairwise(offsets)], np.int64)

    def worth(share: float) -> float:
        weights = (1 - share, share)
        total = 0.0
        for case, (a, b) in enumerate(itertools.pairwise(offsets)):
            mixed = [sum(w * float(v) for w, v in zip(weights, row, strict=True)) for row in values[a:b]]
            total += ndcg([round(one, 12) for one in mixed], right[a:b].tolist(), int(relevant[case]), 5)
        return total / len(relevant)

    found = learn_shares(values, right, offsets, relevant, 5)
    assert found.sum() == pytest.approx(1)
    assert worth(found[1]) == pytest.approx(max(worth(step / 20) for step in range(21)), abs=1e-12)


def test_the_weight_of_a_case_that_is_known() -> None:
    """One model knows the answers, one is noise, one knows half of them and is as sure of the rest."""
    rng = np.random.default_rng(0)
    log = made(2)
    last = {int(user): int(log.items[log.users == user][-1]) for user in np.unique(log.users)}
    noise = rng.random((41, 31)).astype(np.float32)
    knows = rng.random((41, 31)).astype(np.float32)
    for user, item in last.items():
        knows[user, item] = 9
    wise = Blend([Fixed(noise), Fixed(knows)], k=5)
    wise.fit(log)
    assert wise.weights[1] >= 0.5
    assert wise.name == "blend:fixed+fixed"
    half, other = noise.copy(), noise.copy()
    for user, item in last.items():
        (half if user % 2 else other)[user, item] = 9
    both = Blend([Fixed(half), Fixed(other), Fixed(noise * 0)], k=5)
    both.fit(log)
    assert both.weights[:2].min() > 0.1
    assert both.weights[2] == 0  # a model of no opinion gains nothing


def test_models_see_the_rest_and_then_everything() -> None:
    log = made(3)
    models = [Fixed(np.zeros((41, 31), np.float32)), Fixed(np.ones((41, 31), np.float32))]
    Blend(models, people=10).fit(log)
    for model in models:
        rest, whole = model.logs
        assert whole is log
        assert len(whole) - len(rest) >= 10
    single = Fixed(np.zeros((41, 31), np.float32))
    Blend([single]).fit(log)
    assert single.logs == [log]  # nothing to learn
    nobody = Log(np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32), 5, 5)
    pair = Blend([Popularity(), Ease()])
    pair.fit(nobody)
    assert pair.weights.tolist() == [0.5, 0.5]


def test_scores_are_the_weighted_sum_and_nothing_is_left_of_an_earlier_fit() -> None:
    log, cases = made(4), asked([1, 2, 3], [], [4, 4, 5], [0])
    blend = Blend([Popularity(), Ease(reg=20.0)], hold="random", seed=5)
    assert isinstance(blend, Recommender)
    blend.fit(log)
    found = blend.scores(cases)
    assert (found.shape, found.dtype) == ((4, 31), np.float32)
    parts = [model.scores(cases) for model in blend.models]
    expected = sum(weight * standardised(part) for weight, part in zip(blend.weights, parts, strict=True))
    proposed = np.any([np.isfinite(p) for p, w in zip(parts, blend.weights, strict=True) if w > 0], axis=0)
    np.testing.assert_allclose(found[proposed], np.asarray(expected)[proposed], atol=1e-5)
    assert (found[~proposed] == -np.inf).all()
    weights = blend.weights.copy()
    blend.fit(made(5))
    blend.fit(log)
    assert np.array_equal(blend.weights, weights)
    assert np.array_equal(blend.scores(cases), found)


def test_a_blend_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model"):
        Blend([])


def test_under_leave_one_out_a_blend_is_fitted_once_and_chooses_by_the_validation() -> None:
    rng = np.random.default_rng(6)
    log = Log(np.repeat(np.arange(30), 8).astype(np.int32), rng.integers(0, 12, 240).astype(np.int32), 30, 12)
    data = Dataset("made", log)
    judged = next(iter(LOO_FULL.rounds(data, Options()).rounds))
    assert judged.tuning is not None
    test, validation = (round_of(data, part).asked for part in ("test", "validation"))
    assert judged.tuning.answers.tolist() == validation.answers.tolist()
    assert judged.asked.answers.tolist() == test.answers.tolist()
    noise, knows = (rng.random((30, 12)).astype(np.float32) for _ in range(2))
    for case, user in enumerate(validation.users):
        knows[user, validation.answers[validation.first[case]]] = 9
    models = [Fixed(noise), Fixed(knows)]
    blend = Blend(models)
    judge(LOO_FULL, data, [blend])
    assert blend.weights[1] >= 0.5
    assert [len(model.logs) for model in models] == [1, 1]
    assert len(models[0].logs[0]) == len(judged.train)
    # On the validation part itself nothing may be chosen by what is judged.
    assert round_of(data, "validation").tuning is None


def test_a_model_alone_and_in_blends_is_fitted_once() -> None:
    log = made(3)
    data = Dataset("made", log)

    def models(one: Recommender) -> list[Recommender]:
        return [Blend([one, Popularity()]), one, Popularity()]

    alone, shared = (judge(LOO_FULL, data, models(one)) for one in (Ease(), Shared(Ease())))
    assert [row.figures for row in shared.rows] == [row.figures for row in alone.rows]
    both = Shared(Ease())
    report = judge(LOO_FULL, data, models(both))
    assert both.spared_s > 0
    assert report.rows[1].fit_s >= both.spared_s  # what it costs, whoever paid


def test_a_shared_model_forgets_one_log_for_another() -> None:
    model = Fixed(np.zeros((4, 4), np.float32))
    shared, log = Shared(model), made(0)
    for asked_for in (log, made(0), made(1), log, log.take(slice(0, 500)), log):
        shared.fit(asked_for)
    assert len(model.logs) == 5
    times = Log(log.users, log.items, log.n_users, log.n_items, np.arange(len(log)))
    shared.fit(times)
    assert len(model.logs) == 6
    shared.fit(Log(log.users, log.items, log.n_users, log.n_items, np.arange(len(log))))
    assert len(model.logs) == 6


def round_of(data: Dataset, part: Literal["test", "validation"]) -> Round:
    return next(iter(LOO_FULL.rounds(data, Options(part=part)).rounds))
