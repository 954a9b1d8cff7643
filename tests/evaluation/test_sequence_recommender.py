"""The sequence encoder on the offline interface, against one history at a time."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.evaluation.offline import Cases, Log, Recommender
from penchant.evaluation.recommenders.sequence import Sequence
from penchant.retrieval.sequence.encoder import encode
from penchant.retrieval.sequence.options import SequenceOptions
from penchant.retrieval.sequence.weights import Shape

ITEMS = 15
OPTIONS = SequenceOptions(
    shape=Shape(dim=8, blocks=1, length=4), epochs=1, batch=64, warm_up=0, negatives=5, dropout=0.0, rate=0.01
)


def log(seed: int) -> Log:
    rng = np.random.default_rng(seed)
    return Log(rng.integers(0, 30, 200, np.int32), rng.integers(0, ITEMS - 2, 200, np.int32), 30, ITEMS)


def test_each_history_is_encoded_by_itself_and_a_fit_forgets() -> None:
    pytest.importorskip("jax", reason="the extra neural is not installed")
    model, other = Sequence(seed=3, options=OPTIONS), Sequence(seed=3, options=OPTIONS)
    assert isinstance(model, Recommender)
    model.fit(log(1))
    model.fit(log(2))
    other.fit(log(2))
    histories = [[4, 9, 4], [], [1, 2, 3, 4, 5, 6], [ITEMS - 1]]
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.array([item for one in histories for item in one], np.int32)
    cases = Cases(np.array([-1, 3, 7, -1], np.int32), items, offsets)
    found = model.scores(cases)
    assert (found.dtype, found.shape) == (np.float32, (4, ITEMS))
    assert found.tobytes() == other.scores(cases).tobytes()
    assert model.model is not None
    for at, past in enumerate(histories):
        if past:
            expected = model.model.factors @ encode(model.model, np.array([past], np.int32)).states[0]
            np.testing.assert_allclose(found[at, : ITEMS - 2], expected[: ITEMS - 2], atol=1e-5)
    assert (found[:, ITEMS - 2 :] == -np.inf).all()  # nobody has them
    assert (found[1] == -np.inf).all()  # no history


def test_scores_need_a_fit() -> None:
    with pytest.raises(AssertionError, match="fit comes first"):
        Sequence().scores(Cases(np.array([0], np.int32), np.array([1], np.int32), np.array([0, 1], np.int64)))
