"""iALS on the offline interface, against one history at a time."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.evaluation.offline import Cases, Log, Recommender
from penchant.evaluation.recommenders.ials import Ials
from penchant.retrieval.factors import fold_in

ITEMS = 25


def log(seed: int = 0) -> Log:
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 50, 400).astype(np.int32)
    items = rng.integers(0, ITEMS - 2, 400).astype(np.int32)  # two that nobody has
    return Log(users, items, 50, ITEMS)


def test_each_history_is_folded_in_by_itself() -> None:
    model = Ials(dim=6, epochs=2)
    assert isinstance(model, Recommender)
    model.fit(log())
    cases = Cases(
        np.array([-1, 3, 7, -1], np.int32),
        np.array([4, 9, 4, 1, ITEMS - 1], np.int32),  # one item twice: it counts once
        np.array([0, 3, 4, 4, 5], np.int64),
    )
    found = model.scores(cases)
    assert found.dtype == np.float32
    assert found.shape == (4, ITEMS)
    assert model.model is not None
    for at, past in ((0, [4, 9]), (1, [1])):
        expected = model.model.factors @ fold_in(model.model, np.array(past, np.int32))
        np.testing.assert_allclose(found[at, : ITEMS - 2], expected[: ITEMS - 2], atol=1e-6)
    assert (found[:, ITEMS - 2 :] == -np.inf).all()
    assert (found[2:] == -np.inf).all()  # no history, or none that says anything


def test_a_fit_forgets_and_a_seed_repeats() -> None:
    model, other = Ials(dim=6, epochs=2), Ials(dim=6, epochs=2)
    model.fit(log(1))
    model.fit(log(2))
    other.fit(log(2))
    assert model.model is not None
    assert other.model is not None
    assert model.model.factors.tobytes() == other.model.factors.tobytes()


def test_scores_need_a_fit() -> None:
    with pytest.raises(AssertionError, match="fit comes first"):
        Ials().scores(Cases(np.array([0], np.int32), np.array([1], np.int32), np.array([0, 1], np.int64)))
