"""Recorded rankings: replayed without knowing what follows, and judged on users that the ranker never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flow.world import NOW, film, films, opened
from penchant.assembly import Embedded
from penchant.assembly.rankings import TooFew, drawn_users, judge, read_rankings
from penchant.assembly.training import Trainer
from penchant.core.clock import ManualClock
from penchant.core.events import Impression, Interaction, ShownItem

TEXT = films("\n[training]\ntrees = 20\nleaves = 4\n")
USERS, ITEMS, RANKINGS = 40, 40, 400


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Embedded]:
    """Rankings of ten films each, of which people click those with low numbers."""
    rng = np.random.default_rng(3)
    with opened(tmp_path / "films", TEXT, clock=ManualClock(NOW + 10_000_000)) as engine:
        engine.send([film(number, adult=False) for number in range(ITEMS)])
        events: list[object] = []
        for number in range(RANKINGS):
            user, ts = f"u{rng.integers(USERS)}", NOW + number * 10_000
            shown = rng.choice(ITEMS, 10, replace=False).tolist()
            items = [ShownItem(f"f{item}", rank=rank) for rank, item in enumerate(shown, start=1)]
            events.append(Impression(user_id=user, items=items, request_id=f"r{number}", ts=ts))
            events += [
                Interaction(user_id=user, item_id=f"f{item}", action="click", request_id=f"r{number}", ts=ts + 1_000)
                for item in shown
                if rng.random() < 0.7 - item / ITEMS
            ]
        assert not engine.send(events).rejected
        engine.settle()
        yield engine


def test_simulated_rankings_do_not_know_what_was_clicked(engine: Embedded) -> None:
    trained = Trainer(engine.parts).train(simulate=RANKINGS)
    examples = trained.examples
    assert trained.simulated == examples.requests == RANKINGS
    assert examples.labels["click"].any()
    score = examples.X[:, examples.names.index("score.ease")]
    assert np.isnan(score).all()  # there was nothing before the first of them that a model could be made of


def test_the_ranker_finds_what_people_click(engine: Embedded) -> None:
    examples = read_rankings(engine.parts)
    assert examples.requests == RANKINGS
    assert (np.diff(examples.groups) == 10).all()
    report = judge(examples, engine.parts, seed=1, folds=5)
    orders = {order.name: order for order in report.orders}
    assert report.orders[0].name == "ranker"
    assert report.test_users == len(np.unique(examples.users))
    assert report.judged <= report.test_rankings == RANKINGS
    assert orders["ranker"].ndcg > orders["random"].ndcg + 0.1
    assert orders["as shown"].behind is not None
    assert orders["as shown"].behind[0] > 0
    assert report.figures() == judge(examples, engine.parts, seed=1, folds=5).figures()


def test_folds_share_no_user(engine: Embedded) -> None:
    users = np.repeat(np.arange(50, dtype=np.int64), 3)
    drawn = np.stack([drawn_users(users, 0.2, 7, fold) for fold in range(5)])
    assert (drawn.sum(axis=0) == 1).all()
    assert (drawn.reshape(5, 50, 3).all(axis=2) == drawn.reshape(5, 50, 3).any(axis=2)).all()
    assert not (drawn_users(users, 0.2, 8) == drawn[0]).all()
    with pytest.raises(TooFew):
        drawn_users(users, 0.2, 7, 5)
    with pytest.raises(TooFew):
        drawn_users(np.zeros(3, np.int64), 0.2, 7)
