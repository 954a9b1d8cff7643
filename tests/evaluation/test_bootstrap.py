from __future__ import annotations

import math

import numpy as np

from penchant.evaluation.bootstrap import paired_bootstrap


def test_equal_seed_equal_answer() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random(200), rng.random(200)
    assert paired_bootstrap(one, other, seed=3) == paired_bootstrap(one, other, seed=3)
    assert paired_bootstrap(one, other, seed=3) != paired_bootstrap(one, other, seed=4)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        base = rng.normal(size=80)
        found = paired_bootstrap(base + 0.1 + rng.normal(0, 0.5, 80), base, seed=trial, draws=400, confidence=0.9)
        inside += found.low <= 0.1 <= found.high
    assert 165 <= inside <= 195


def test_pairs_that_are_not_defined_are_left_out() -> None:
    found = paired_bootstrap(np.array([1.0, np.nan, 0.5]), np.array([0.0, 1.0, np.nan]), seed=0)
    assert (found.n, found.mean, found.low, found.high) == (1, 1.0, 1.0, 1.0)
    assert math.isnan(paired_bootstrap(np.array([np.nan]), np.array([0.0]), seed=0).mean)


def test_requests_of_one_user_count_as_one_draw() -> None:
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(30), 20)
    delta = rng.normal(size=30)[users]
    alone = paired_bootstrap(delta, np.zeros(600), seed=0)
    together = paired_bootstrap(delta, np.zeros(600), seed=0, clusters=users)
    assert together.high - together.low > 3 * (alone.high - alone.low)
    assert together.mean == alone.mean
