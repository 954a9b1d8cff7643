from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.evaluation import metrics
from penchant.evaluation.metrics import listed, rank
from penchant.testing.oracles import metrics as oracle

scores = st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0, math.nan, math.inf, -math.inf])
requests = st.lists(st.lists(st.tuples(scores, st.integers(0, 3)), max_size=7), min_size=1, max_size=6)


def _columns(drawn: list[list[tuple[float, int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = [pair for request in drawn for pair in request]
    offsets = np.concatenate([[0], np.cumsum([len(request) for request in drawn])]).astype(np.int64)
    return np.array([s for s, _ in flat], float), np.array([g for _, g in flat], float), offsets


@given(requests, st.integers(1, 8))
def test_every_metric_equals_its_definition(drawn: list[list[tuple[float, int]]], k: int) -> None:
    ranked = rank(*_columns(drawn))
    slow = [oracle.slow_order([s for s, _ in r], [g for _, g in r]) for r in drawn]
    count = [sum(gain > 0 for gain in request) for request in slow]

    def same(fast: np.ndarray, expected: list[float]) -> None:
        np.testing.assert_allclose(fast, expected, rtol=1e-12)

    same(metrics.ndcg(ranked, k), [oracle.slow_ndcg(r, r, k) for r in slow])
    same(metrics.ndcg(ranked, k, "exponential"), [oracle.slow_ndcg(r, r, k, exponential=True) for r in slow])
    for over in ("relevant", "attainable"):
        expected = [
            oracle.slow_recall(r, n, k, attainable=over == "attainable") for r, n in zip(slow, count, strict=True)
        ]
        same(metrics.recall(ranked, k, over), expected)
    same(metrics.mrr(ranked, k), [oracle.slow_mrr(r, n, k) for r, n in zip(slow, count, strict=True)])
    same(
        metrics.average_precision(ranked, k),
        [oracle.slow_average_precision(r, n, k) for r, n in zip(slow, count, strict=True)],
    )
    same(
        metrics.average_precision(ranked, k, "relevant"),
        [oracle.slow_average_precision(r, n, k, attainable=False) for r, n in zip(slow, count, strict=True)],
    )
    same(metrics.mean_reciprocal(ranked), [oracle.slow_mean_reciprocal(r, n) for r, n in zip(slow, count, strict=True)])
    same(metrics.auc(*_columns(drawn)), [oracle.slow_auc([s for s, _ in r], [g for _, g in r]) for r in drawn])
    hits = [math.nan if not n else sum(g > 0 for g in r[:k]) for r, n in zip(slow, count, strict=True)]
    same(metrics.precision(ranked, k), [hit / k for hit in hits])
    same(metrics.hit_rate(ranked, k), [hit if math.isnan(hit) else min(hit, 1) for hit in hits])


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 9), unique=True, max_size=5), st.sets(st.integers(0, 9), max_size=4)),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 5),
)
def test_lists_are_judged_by_sets(drawn: list[tuple[list[int], set[int]]], k: int) -> None:
    given_lists = np.full((len(drawn), 5), -1, np.int64)
    for row, (items, _) in zip(given_lists, drawn, strict=True):
        row[: len(items)] = items
    offsets = np.concatenate([[0], np.cumsum([len(wanted) for _, wanted in drawn])]).astype(np.int64)
    wanted = np.array([item for _, items in drawn for item in sorted(items)], np.int64)
    ranked = listed(given_lists, wanted, offsets)
    hits = [[float(item in relevant) for item in items] for items, relevant in drawn]
    expected = [oracle.slow_ndcg(h, [1.0] * len(r), k) for h, (_, r) in zip(hits, drawn, strict=True)]
    np.testing.assert_allclose(metrics.ndcg(ranked, k), expected, rtol=1e-12)
    expected = [oracle.slow_recall(h, len(r), k, attainable=False) for h, (_, r) in zip(hits, drawn, strict=True)]
    np.testing.assert_allclose(metrics.recall(ranked, k), expected, rtol=1e-12)


def test_a_constant_score_earns_nothing_by_chance() -> None:
    ranked = rank(np.zeros(10), np.eye(1, 10)[0], np.array([0, 10]))
    assert metrics.hit_rate(ranked, 9).tolist() == [0.0]
    assert metrics.mrr(ranked).tolist() == [0.1]


def test_known_value() -> None:
    ranked = rank(np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.0, 2.0]), np.array([0, 3]))
    assert metrics.ndcg(ranked)[0] == pytest.approx((1 + 2 / 2) / (2 + 1 / math.log2(3)))
    assert metrics.ndcg(ranked, 10, "exponential")[0] == pytest.approx((1 + 3 / 2) / (3 + 1 / math.log2(3)))


def test_the_mean_leaves_out_what_is_not_defined() -> None:
    assert metrics.mean(np.array([1.0, np.nan, 0.0])) == 0.5
    assert math.isnan(metrics.mean(np.array([np.nan])))


def test_negative_gains_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        rank(np.zeros(1), np.array([-1.0]), np.array([0, 1]))


@given(st.lists(st.integers(0, 20), max_size=12))
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    np.testing.assert_allclose(metrics.gini(np.array(counts, np.int64)), oracle.slow_gini(counts), atol=1e-12)


def test_coverage_and_novelty() -> None:
    shown = np.array([[0, 1], [1, -1]])
    assert metrics.coverage(shown, 4) == 0.5
    counts = np.array([4, 2, 2, 0])
    assert metrics.novelty(shown, counts) == pytest.approx((1 + 2 + 2) / 3)
    assert metrics.novelty(np.array([[3]]), counts) == pytest.approx(3.0)
    assert metrics.novelty(shown, counts, out_of=8) == pytest.approx((1 + 2 + 2) / 3)
