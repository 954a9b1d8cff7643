from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from penchant.settings import Training
from penchant.training.examples import Examples, read_examples
from penchant.training.gbdt import Ranker, train_ranker
from penchant.training.publish import examination, gate
from training.world import HOUR, NAMES, SCHEMA, clicking_log

FEW = Training(trees=60, leaves=7, learning_rate=0.1)


@pytest.fixture(scope="module")
def halves() -> tuple[Examples, Examples]:
    return read_examples(clicking_log(700), SCHEMA, names=NAMES, attribution_ms=24 * HOUR).split(0.4)


@pytest.fixture(scope="module")
def good(halves: tuple[Examples, Examples]) -> Ranker:
    return train_ranker(halves[0], FEW, SCHEMA)


@pytest.fixture(scope="module")
def bad(halves: tuple[Examples, Examples]) -> Ranker:
    """Learnt from labels that say the opposite."""
    older = halves[0]
    turned = replace(older, X=older.X * np.array([-1, 1, 1], np.float32))
    return train_ranker(turned, FEW, SCHEMA)


def test_the_first_model_is_compared_with_the_order_that_was_served(halves, good: Ranker) -> None:
    verdict = gate(good, None, halves[1])
    assert verdict.published
    assert verdict.baseline == "served order"
    assert verdict.interval[0] > 0
    assert verdict.candidate_ndcg > verdict.live_ndcg + 0.1
    assert 100 < verdict.n <= halves[1].requests


def test_a_worse_model_is_refused_unless_forced(halves, good: Ranker, bad: Ranker) -> None:
    verdict = gate(bad, good, halves[1])
    assert not verdict.published
    assert verdict.baseline == "live model"
    assert verdict.reason.startswith("worse")
    assert verdict.interval[1] < 0
    forced = gate(bad, good, halves[1], force=True)
    assert forced.published
    assert forced.forced
    assert "forced although worse" in forced.reason
    assert gate(good, bad, halves[1]).published


def test_the_same_model_again_may_serve(halves, good: Ranker) -> None:
    verdict = gate(good, good, halves[1])
    assert verdict.published
    assert verdict.interval == (0.0, 0.0)


def test_a_live_model_of_other_columns_is_no_baseline(halves, good: Ranker) -> None:
    assert gate(good, replace(good, columns="others"), halves[1]).baseline == "served order"


def test_too_few_requests_judge_nothing(halves, good: Ranker) -> None:
    verdict = gate(good, None, halves[1].slice(0, 20))
    assert not verdict.published
    assert "are needed to judge" in verdict.reason


def test_chances_that_are_far_off_are_refused(halves, good: Ranker) -> None:
    older = halves[0]
    often = {**older.labels, "like": np.ones_like(older.labels["like"])}
    often["like"][::4] = 0
    wrong = train_ranker(replace(older, labels=often), FEW, SCHEMA)
    verdict = gate(wrong, None, halves[1])
    assert not verdict.published
    assert "times as often as it happens" in verdict.reason


def test_values_that_are_not_finite_cannot_be_forced(halves, good: Ranker) -> None:
    verdict = gate(replace(good, weights={"click": np.nan, "like": 0.0, "hide": 0.0}), None, halves[1], force=True)
    assert not verdict.published
    assert "not finite" in verdict.reason


def test_a_model_that_only_orders_is_judged_by_rank_alone(halves, bad: Ranker) -> None:
    ordering = train_ranker(halves[0], FEW, SCHEMA, objective="lambdarank")
    assert examination(ordering, halves[1]).tolist() == [1.0] * int(halves[1].ranks.max())
    assert gate(ordering, bad, halves[1]).published


def test_ranks_further_down_were_looked_at_less(halves, good: Ranker) -> None:
    seen = examination(good, halves[1])
    assert seen[0] == 1.0
    assert (np.diff(seen) <= 0).all()
    assert (seen >= 0.05).all()
