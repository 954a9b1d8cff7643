"""Items that go are gone from every way to a slate at once; items that come or change are there at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import penchant as pc
from flow.world import DAY, NOW, film, films, opened, viewer
from penchant.assembly import Embedded
from penchant.assembly.training import Trainer
from penchant.core.clock import ManualClock
from penchant.core.errors import NotFound
from penchant.core.events import Interaction, ItemRemoved, ItemUpdate

ITEMS, USERS = 40, 30
ALL = [f"f{number}" for number in range(ITEMS)]
SURFACES = ("home", "similar", "because", "trending")
EXTRA = """
[training]
trees = 5
leaves = 4
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Embedded]:
    clock = ManualClock(NOW)
    with opened(tmp_path / "films", films(EXTRA), clock=clock) as engine:
        rng = np.random.default_rng(3)
        engine.send([film(number, adult=False) for number in range(ITEMS)])
        engine.send([viewer(number) for number in range(USERS)])
        engine.send(
            [
                Interaction(user_id=f"u{user}", item_id=f"f{item}", action="click")
                for user in range(USERS)
                for item in rng.choice(ITEMS, 8, replace=False)
            ]
        )
        engine.settle()
        yield engine


def _ids(answer: pc.Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def _everywhere(engine: Embedded) -> set[str]:
    """All that any surface shows to anyone, asked in every way."""
    shown: set[str] = set()
    for surface in SURFACES:
        for user in ("u1", "u2", "nobody", None):
            for seed in (None, "f1", "f5") if surface in ("similar", "because") else (None,):
                shown.update(
                    _ids(
                        engine.recommend(pc.Request(user_id=user, surface=surface, n=1_000, item_id=seed, record=False))
                    )
                )
    shown.update(_ids(engine.recommend(pc.Request(user_id="u1", items=ALL, record=False))))
    for number in range(40):  # exploration draws by the id of the request
        shown.update(_ids(engine.recommend(pc.Request(user_id="u3", n=30, record=False), f"draw {number}")))
    return shown


@pytest.mark.parametrize("trained", [False, True], ids=["no artifact", "artifact"])
@pytest.mark.parametrize("how", ["removed", "unlisted"])
def test_what_goes_is_gone_everywhere(engine: Embedded, how: str, trained: bool) -> None:
    if trained:
        trainer = Trainer(engine.parts)
        assert trainer.publish(trainer.train(simulate=60, force=True))
        assert engine.renew_artifact()
    before = _everywhere(engine)
    assert before == set(ALL)
    gone = {"f5", "f7", "f9"}
    if how == "removed":
        engine.send([ItemRemoved(item_id=item) for item in gone])
    else:
        engine.send([ItemUpdate(item_id=item, attributes={}, merge=True, listed=False) for item in gone])
    position = engine.parts.log.end()
    while engine.runner.step():
        pass
    # Not renewed by hand: `after` alone must do.
    first = engine.recommend(pc.Request(user_id="u1", n=1_000, after=str(position), record=False))
    assert not gone & set(_ids(first))
    if how == "removed":
        assert "f5" not in _everywhere_but_seed(engine)
        with pytest.raises(NotFound):
            engine.item("f5")
    assert not gone & _everywhere_but_seed(engine)
    assert _everywhere_but_seed(engine) == set(ALL) - gone
    engine.settle()
    engine.send([Interaction(user_id="u4", item_id="f5", action="click")])
    engine.send([ItemUpdate(item_id="f5", attributes={"title": "Back"}, merge=True, listed=None)])
    engine.settle()
    assert "f5" not in _everywhere_but_seed(engine), "neither interactions nor a merge bring it back"
    engine.send([ItemUpdate(item_id="f5", attributes={"title": "Back"})])
    engine.settle()
    assert ("f5" in _everywhere_but_seed(engine)) == (how == "unlisted")


def _everywhere_but_seed(engine: Embedded) -> set[str]:
    return _everywhere(engine)


def test_a_fallback_knows_what_is_gone(engine: Embedded) -> None:
    surfaces = engine.live.current.compiled.surfaces
    good = _ids(engine.recommend(pc.Request(user_id="u1", n=20, record=False)))

    class Broken:
        name = "broken"

        def keep(self, query: object, candidates: object) -> object:
            raise ZeroDivisionError("on purpose")

    surfaces["home"].pipeline._filters = (Broken(),)  # type: ignore[assignment]
    engine.send([ItemRemoved(item_id=good[0]), ItemUpdate(item_id=good[1], attributes={}, listed=False)])
    engine.settle()
    for user in ("u1", "u2"):  # the first has a cached slate
        answer = engine.recommend(pc.Request(user_id=user, n=1_000, record=False))
        assert answer.items
        assert answer.degraded[0] == "filter:broken"
        assert not {good[0], good[1]} & set(_ids(answer))


def test_a_new_item_is_there_at_once_and_a_change_too(engine: Embedded) -> None:
    told = engine.send([film(100, genres=["opera"])])
    engine.runner.step()
    asked = pc.Request(
        user_id="u1", n=50, where={"genres": "opera"}, after=told.position, record=False, fields=["genres", "title"]
    )
    answer = engine.recommend(asked)
    assert _ids(answer) == ["f100"]
    assert answer.items[0].attributes == {"genres": ["opera"], "title": "Film 100"}
    told = engine.send([ItemUpdate(item_id="f100", attributes={"genres": ["ballet"]}, merge=True)])
    engine.runner.step()
    assert _ids(engine.recommend(pc.Request(user_id="u1", where={"genres": "opera"}, after=told.position))) == []
    answer = engine.recommend(
        pc.Request(user_id="u1", where={"genres": "ballet"}, after=told.position, fields=["title"])
    )
    assert _ids(answer) == ["f100"]
    assert answer.items[0].attributes == {"title": "Film 100"}, "a merge keeps what it does not name"
    told = engine.send([ItemUpdate(item_id="f100", attributes={"genres": ["ballet"]})])
    engine.runner.step()
    assert engine.item("f100").attributes == {"genres": ["ballet"]}, "without a merge it is replaced"
    told = engine.send([ItemUpdate(item_id="f100", attributes={"genres": None}, merge=True)])
    engine.runner.step()
    assert engine.item("f100").attributes == {}, "null in a merge takes it away"


def test_where_holds_on_every_surface(engine: Embedded) -> None:
    where = {"year": {"gte": 1980, "lt": 2000}, "country": ["de", "fr"]}
    fits = {
        item
        for item in ALL
        if 1980 <= engine.item(item).attributes["year"] < 2000  # type: ignore[operator]
        and engine.item(item).attributes["country"] in ("de", "fr")
    }
    for surface in SURFACES:
        for user in ("u1", "nobody"):
            answer = engine.recommend(
                pc.Request(user_id=user, surface=surface, item_id="f1", n=100, where=where, record=False)
            )
            assert set(_ids(answer)) <= fits
    assert set(_ids(engine.recommend(pc.Request(items=ALL, where=where)))) <= fits


@pytest.mark.parametrize("implicit", [False, True])
def test_items_that_only_interactions_name(tmp_path: Path, implicit: bool) -> None:
    text = films(f"[catalog]\nimplicit = {str(implicit).lower()}\n")
    with opened(tmp_path / "films", text, clock=ManualClock(NOW)) as engine:
        told = engine.send(
            [
                Interaction(user_id=f"u{user}", item_id=f"x{item}", action="click")
                for user in range(5)
                for item in range(5)
            ]
        )
        assert told.accepted == 25
        engine.settle()
        shown = set(_ids(engine.recommend(pc.Request(user_id="nobody", surface="trending", n=50))))
        assert shown == ({f"x{item}" for item in range(5)} if implicit else set())
        assert engine.item("x1").counters["click"] == 5
        engine.send([ItemUpdate(item_id="x1", attributes={"title": "It has a name"})])
        engine.send([ItemRemoved(item_id="x2"), Interaction(user_id="u9", item_id="x2", action="click")])
        engine.settle()
        shown = set(_ids(engine.recommend(pc.Request(user_id="nobody", surface="trending", n=50))))
        assert "x1" in shown
        assert "x2" not in shown


def test_fresh_items_grow_old(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    with opened(tmp_path / "films", clock=clock) as engine:
        engine.send([film(number, adult=False) for number in range(5)])
        engine.settle()
        answer = engine.recommend(pc.Request(user_id="u1", record=False))
        assert {"fresh" in item.sources for item in answer.items} == {True}
        clock.advance(20 * DAY)
        engine.settle()
        answer = engine.recommend(pc.Request(user_id="u1", record=False))
        assert {"fresh" in item.sources for item in answer.items} == {False}
        assert len(answer.items) == 5
