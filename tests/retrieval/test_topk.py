"""The heap against sorting everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penchant.retrieval.topk import top_listed, top_rows
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
