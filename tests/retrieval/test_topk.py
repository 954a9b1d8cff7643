"""The heap against sorting everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penchant.retrieval.topk import best_first, top_listed, top_mapped, top_rows
from penchant.testing.oracles.retrieval import best_rows

few = st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, 3.0, np.nan, np.inf, -np.inf])
columns = st.integers(0, 60).flatmap(
    lambda n: st.tuples(arrays(np.float32, n, elements=few | st.floats(-5, 5, width=32)), arrays(np.bool_, n))
)


@settings(deadline=None, max_examples=200)
@given(columns, st.integers(-1, 70), st.sampled_from([-np.inf, 0.0, 1.0]), st.integers(-1, 5), st.randoms())
def test_gives_what_sorting_gives(drawn, limit, above, without, random) -> None:
    scores, mask = drawn
    expected = best_rows(scores, mask, limit, above, without)
    rows, best = top_rows(scores, mask, limit, above, without)
    assert rows.tolist() == expected
    assert best.tobytes() == scores[expected].tobytes()

    listed = np.arange(len(scores), dtype=np.int32)
    random.shuffle(listed)
    rows, best = top_listed(listed, scores, mask, limit, above, without)
    assert rows.tolist() == expected
    assert best.tobytes() == scores[expected].tobytes()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32), st.integers(1, 40_000), st.integers(1, 400), st.sampled_from([0.0, 0.5, 0.99, 0.9999]),
    st.sampled_from([1.0, 0.3, 0.002]), st.integers(1, 30),
)  # fmt: skip
def test_many_rows_give_what_sorting_gives(seed, n, limit, zeros, eligible, levels) -> None:
    """Sizes at which a floor is guessed first, also where the guess is too high: few eligible rows, many ties."""
    rng = np.random.default_rng(seed)
    scores = np.floor(rng.random(n) * 2**levels).astype(np.float32)
    scores[rng.random(n) < zeros] = 0.0
    mask = rng.random(n) < eligible
    expected = best_rows(scores, mask, limit, 0.0, -1)
    rows, best = top_rows(scores, mask, limit, 0.0, -1)
    assert rows.tolist() == expected
    assert best.tobytes() == scores[expected].tobytes()
    to_row = rng.permutation(n).astype(np.int32)
    rows, best = top_mapped(scores[to_row], to_row, mask, limit, 0.0, -1)
    assert rows.tolist() == expected
    assert best.tobytes() == scores[expected].tobytes()


@given(st.lists(st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0]), max_size=60))
def test_best_first_is_a_stable_descending_order(scores):
    given = np.array(scores, np.float32)
    assert best_first(given).tolist() == np.argsort(-given, kind="stable").tolist()
