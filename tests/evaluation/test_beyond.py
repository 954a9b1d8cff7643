from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from penchant.evaluation.beyond import (
    Likeness,
    delta_gap,
    diversity,
    mean_popularity,
    popularity_lift,
    popularity_lifts,
)
from penchant.testing.oracles import metrics as oracle

ITEMS = 8


def padded(lists: list[list[int]]) -> np.ndarray:
    rows = np.full((len(lists), 5), -1, np.int64)
    for row, items in zip(rows, lists, strict=True):
        row[: len(items)] = items
    return rows


def runs(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return np.array([item for one in lists for item in one], np.int64), offsets


lists = st.lists(st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=5), min_size=1, max_size=6)
vectors = st.lists(
    st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, -1.5]), min_size=4, max_size=4), min_size=ITEMS, max_size=ITEMS
)


@settings(deadline=None)  # the kernel is compiled first
@given(lists, vectors)
def test_diversity_is_the_mean_over_pairs(shown: list[list[int]], rows: list[list[float]]) -> None:
    found = diversity(padded(shown), Likeness.of(sparse.csr_matrix(np.array(rows))))
    np.testing.assert_allclose(found, [oracle.slow_diversity(one, rows) for one in shown], atol=1e-12)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, ITEMS - 1), max_size=5), st.lists(st.integers(0, ITEMS - 1))), min_size=1
    )
)
def test_popularity_lift_is_a_ratio_of_means(drawn: list[tuple[list[int], list[int]]]) -> None:
    counts = np.arange(ITEMS, dtype=np.int64) ** 2
    shown, had = (mean_popularity(*runs([one[side] for one in drawn]), counts) for side in (0, 1))
    expected = oracle.slow_popularity_lift([one[0] for one in drawn], [one[1] for one in drawn], counts.tolist())
    np.testing.assert_allclose(popularity_lift(shown, had), expected, rtol=1e-12)
    np.testing.assert_allclose(delta_gap(shown, had), expected - 1, atol=1e-12)
    lifts = popularity_lifts(shown, had)
    if not math.isnan(expected):
        assert np.nanmean(lifts) == pytest.approx(expected, rel=1e-12)
        assert np.isnan(lifts).tolist() == [not (a and b) for a, b in drawn]


def test_known_values() -> None:
    films = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]))
    like = Likeness.of(films)
    assert diversity(np.array([[0, 1], [0, 2], [0, 3], [2, -1]]), like)[:3] == pytest.approx([0, 1, 1 - math.sqrt(0.5)])
    assert math.isnan(diversity(np.array([[2, -1]]), like)[0])
    assert popularity_lift(np.array([30.0, 10.0]), np.array([10.0, np.nan])) == 3.0
