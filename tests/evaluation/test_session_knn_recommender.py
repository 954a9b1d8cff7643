"""Session-kNN behind the offline interface."""

from __future__ import annotations

import numpy as np

from penchant.evaluation.offline import Cases, Learner, Log
from penchant.evaluation.recommenders.session_knn import SessionKnn
from penchant.retrieval.session_knn import NearestSessions
from penchant.retrieval.sessions import Sessions

ITEMS = 30


def log_of(seed: int, n: int = 400, *, timed: bool = True) -> Log:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 10_000, n)) if timed else None
    return Log(rng.integers(0, 60, n, np.int32), rng.integers(0, ITEMS, n, np.int32), 60, ITEMS, times)


CASES = Cases(np.array([-1, 7, -1], np.int32), np.array([3, 9, 4, 4], np.int32), np.array([0, 2, 4, 4], np.int64))


def test_learning_is_fitting_on_more() -> None:
    for timed in (True, False):
        log = log_of(0, timed=timed)
        model = NearestSessions(fade=5_000.0 if timed else 200.0)
        whole, rest = SessionKnn(model=model), SessionKnn(model=model)
        assert isinstance(whole, Learner)
        whole.fit(log)
        rest.fit(log_of(1))  # forgotten
        rest.fit(log.take(slice(0, 250)))
        assert rest.scores(CASES).tobytes() != whole.scores(CASES).tobytes()
        for start in range(250, 400, 50):
            rest.learn(log.take(slice(start, start + 50)))
        rest.learn(log.take(slice(0, 0)))
        assert rest.scores(CASES).tobytes() == whole.scores(CASES).tobytes()


def test_scores_are_those_of_the_model() -> None:
    log = log_of(2)
    model = NearestSessions(reach=2.0, onward=0.3)
    asked = SessionKnn(model=model)
    asked.fit(log)
    found = asked.scores(CASES)
    assert found.shape == (3, ITEMS)
    assert found.dtype == np.float32
    assert log.times is not None
    sample = Sessions()
    sample.extend(log.users.astype(np.int64), log.items, log.times)
    items, scores = model.scores(sample, CASES.items[2:4], int(log.times[-1]), without=7)
    row = np.full(ITEMS, -np.inf, np.float32)
    row[items] = scores
    assert found[1].tobytes() == row.tobytes()
    assert np.isneginf(found[2]).all()  # no history, no proposals


def test_its_own_session_is_nobodys_neighbour() -> None:
    log = Log(np.array([0, 0], np.int32), np.array([1, 2], np.int32), 1, 3)
    asked = SessionKnn(model=NearestSessions())
    asked.fit(log)
    history = np.array([1], np.int32), np.array([0, 1], np.int64)
    assert np.isneginf(asked.scores(Cases(np.array([0], np.int32), *history))).all()
    assert asked.scores(Cases(np.array([-1], np.int32), *history))[0, 2] > 0
