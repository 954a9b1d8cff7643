from __future__ import annotations

import math

import numpy as np
import pytest

from penchant.evaluation.bootstrap import paired_bootstrap, paired_bootstraps


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


def test_many_measures_share_the_draws_of_one() -> None:
    rng = np.random.default_rng(1)
    deltas, clusters = rng.normal(size=(300, 3)), rng.integers(0, 40, 300)
    deltas[:, 2] = np.nan
    found = paired_bootstraps(deltas, clusters, seed=5)
    zeros = np.zeros(300)
    for column in (0, 1):
        alone = paired_bootstrap(deltas[:, column], zeros, seed=5, clusters=clusters)
        for part in ("mean", "low", "high", "n"):
            assert getattr(found[column], part) == pytest.approx(getattr(alone, part), abs=1e-12)
    assert found[2].n == 0
    assert np.isnan([found[2].mean, found[2].low, found[2].high]).all()


def test_what_is_not_defined_is_left_out_of_many() -> None:
    deltas = np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, np.nan], [5.0, 2.0]])
    found = paired_bootstraps(deltas, np.array([0, 0, 1, 2]), seed=1)
    assert (found[0].mean, found[0].n) == (3.0, 3)
    assert (found[1].low, found[1].high, found[1].n) == (2.0, 2.0, 3)
    assert 1.0 <= found[0].low < found[0].high <= 5.0
