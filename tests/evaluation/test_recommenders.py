"""The baselines against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.evaluation.datasets import Unsuited
from penchant.evaluation.offline import Cases, Learner, Log, Recommender
from penchant.evaluation.recommenders import BASELINES, MODELS, Ease, ItemKnn, Popularity, RecentPopularity
from penchant.evaluation.recommenders import item_knn as item_knn_module
from penchant.retrieval.linear import fit_ease


def made(seed: int, n: int = 400, users: int = 30, items: int = 20, timed: bool = False) -> Log:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 30 * 86_400_000, n)) if timed else None
    who, what = rng.integers(0, users, n), rng.integers(0, items, n)
    return Log(who.astype(np.int32), what.astype(np.int32), users, items + 1, times)


def asked(*histories: list[int]) -> Cases:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in histories])])
    items = np.array([item for one in histories for item in one], np.int32)
    return Cases(np.full(len(histories), -1, np.int32), items, offsets.astype(np.int64))


CASES = asked([1, 2, 3], [], [4, 4, 5, 4], [0])


@pytest.mark.parametrize("name", [name for name in MODELS if name != "sequence"])  # trains for long: see its own test
def test_every_model_of_the_registry_keeps_to_the_interface(name: str) -> None:
    model = MODELS[name](7)
    assert isinstance(model, Recommender)
    assert model.name == name
    log = made(0)
    model.fit(log)
    scores = model.scores(CASES)
    assert (scores.shape, scores.dtype) == ((4, 21), np.float32)
    assert not np.isnan(scores).any()
    before = scores.copy()
    model.fit(made(1))
    model.fit(log)
    assert np.array_equal(model.scores(CASES), before)  # nothing is left of an earlier fit
    one = np.concatenate([model.scores(asked(history)) for history in ([1, 2, 3], [], [4, 4, 5, 4], [0])])
    assert np.allclose(one, before, rtol=1e-5, atol=1e-7)
    assert set(BASELINES) < set(MODELS)


@pytest.mark.parametrize("timed", [False, True])
def test_recent_popularity_is_a_sum_of_halvings(timed: bool) -> None:
    log = made(2, timed=timed)
    model = RecentPopularity(half_life_ms=5 * 86_400_000, share=0.2)
    model.fit(log)
    ages = log.times[-1] - log.times if log.times is not None else len(log) - 1 - np.arange(len(log))
    half_life = 5 * 86_400_000 if timed else 0.2 * len(log)
    counts = np.array([(0.5 ** (ages[log.items == item] / half_life)).sum() for item in range(21)])
    row = model.scores(CASES)[0]
    assert row[20] == -np.inf
    assert np.allclose(row[:20], counts[:20] / counts.max(), rtol=1e-5)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("model", [Popularity(), RecentPopularity()])
def test_what_is_learned_in_parts_is_what_is_learned_at_once(model: Learner, timed: bool) -> None:
    log = made(3, timed=timed)
    if isinstance(model, RecentPopularity):
        model.share = 40 / 300 if not timed else 0.1
    model.fit(log.take(slice(0, 300)))
    for begin in range(300, 400, 33):
        model.learn(log.take(slice(begin, min(begin + 33, 400))))
    model.learn(log.take(slice(0, 0)))
    parts = model.scores(CASES)
    if isinstance(model, RecentPopularity):
        model.share = 40 / 400 if not timed else 0.1
    model.fit(log)
    assert np.allclose(parts, model.scores(CASES), rtol=1e-5)


def cosines(log: Log, shrink: float) -> NDArray[np.float64]:
    has = np.zeros((log.n_users, log.n_items))
    has[log.users, log.items] = 1
    both = has.T @ has
    size = np.sqrt(np.diag(both))
    similar = both / (np.outer(size, size) + shrink)
    np.fill_diagonal(similar, 0)
    return similar


@pytest.mark.parametrize("neighbours", [2, 5, 100])
@pytest.mark.parametrize("cells", [50, 8_000_000])
def test_item_knn_is_a_sum_over_nearest_neighbours(
    neighbours: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_knn_module, "_CELLS", cells)
    log = made(4, n=150)
    model = ItemKnn(neighbours=neighbours, shrink=3.0)
    model.fit(log)
    similar = cosines(log, 3.0).astype(np.float32)
    expected = np.full((4, 21), -np.inf)
    for case, history in enumerate(([1, 2, 3], [], [4, 5], [0])):
        for item in range(21):
            near = sorted((-similar[item, other], other) for other in range(21) if similar[item, other] > 0)
            total = sum(-value for value, other in near[:neighbours] if other in history)
            if total > 0:
                expected[case, item] = total
    found = model.scores(CASES)
    # Cosines that are equal but for rounding may stand in either order: then the neighbours at the edge differ.
    assert (np.isclose(found, expected, rtol=1e-5) | (found == expected)).mean() > (0.95 if neighbours < 100 else 0.999)


def test_ease_sums_rows_and_decays_by_the_newest_visit() -> None:
    log = made(5)
    weights = fit_ease(log.matrix(), np.arange(21, dtype=np.int64), 50.0).weights
    plain, decayed = Ease(reg=50.0), Ease(reg=50.0, decay=0.5)
    plain.fit(log)
    decayed.fit(log)
    assert np.allclose(plain.scores(CASES)[2], weights[4] + weights[5], atol=1e-6)
    assert np.allclose(plain.scores(CASES)[1], 0)
    assert np.allclose(decayed.scores(CASES)[2], weights[4] + 0.5 * weights[5], atol=1e-6)
    assert np.allclose(decayed.scores(CASES)[0], weights[3] + 0.5 * weights[2] + 0.25 * weights[1], atol=1e-6)


def test_sparse_ease_is_ease_where_all_is_kept() -> None:
    log = made(6)
    dense, sparse, short = Ease(), Ease(dense_limit=5, keep=20), Ease(dense_limit=5, keep=3)
    for model in (dense, sparse, short):
        model.fit(log)
    assert np.allclose(dense.scores(CASES), sparse.scores(CASES), atol=1e-6)
    assert np.count_nonzero(short.scores(asked([1]))) == 3
    assert short.scores(CASES).dtype == np.float32


def test_ease_says_when_it_would_not_fit_into_memory() -> None:
    log = Log(np.zeros(2, np.int32), np.arange(2, dtype=np.int32), 1, 10_000_000)
    with pytest.raises(Unsuited, match="10,000,000 items need"):
        Ease().fit(log)
