"""The state is a fold of the log: whenever it cannot be trusted it is made anew, equal to a fresh one."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

import penchant as pc
from flow.world import HOUR, NOW, contents, film, films, folded_at_once, made_up, opened, records_of, viewer
from penchant.assembly import Embedded
from penchant.core.clock import ManualClock
from penchant.core.errors import NotFound
from penchant.core.events import Interaction

ITEMS, USERS = 50, 20
MORE = """
[features.likes_3d]
entity = "item"
of = "like"
window = "3d"

[features.like_sum]
entity = ["user", "creator"]
of = "like"
window = "30d"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with opened(tmp_path / "films", clock=ManualClock(NOW)) as engine:
        rng = np.random.default_rng(23)
        engine.send([film(number) for number in range(ITEMS)] + [viewer(number) for number in range(USERS)])
        engine.send(list(itertools.islice(made_up(rng, NOW, users=USERS, items=ITEMS, prefix="x", erase=False), 600)))
        engine.settle()
        for number in range(20):
            engine.recommend(pc.Request(user_id=f"u{number}", n=5))
        engine.settle()
    return tmp_path / "films"


def _equals_fresh(engine: Embedded) -> None:
    parts = engine.parts
    assert parts.store.position() == parts.log.end()
    assert contents(parts.store) == contents(folded_at_once(parts.definition, records_of(parts.log)))


def test_a_start_without_change_rebuilds_nothing(folder: Path) -> None:
    with opened(folder, clock=ManualClock(NOW)) as engine:
        assert not engine.parts.store.was_rebuilt  # type: ignore[attr-defined]
        _equals_fresh(engine)


def test_another_definition_is_another_state(folder: Path) -> None:
    with opened(folder, clock=ManualClock(NOW)) as engine:
        before = contents(engine.parts.store)
        plain = engine.item("f1")
    with opened(folder, films(MORE), clock=ManualClock(NOW)) as engine:
        assert engine.parts.store.was_rebuilt  # type: ignore[attr-defined]
        _equals_fresh(engine)
        changed = engine.item("f1")
        assert changed.counters == plain.counters
        assert "likes_3d" in changed.features
        assert {name: changed.features[name] for name in plain.features} == plain.features
        assert engine.recommend(pc.Request(user_id="u1", n=5, record=False)).items
    with opened(folder, clock=ManualClock(NOW)) as engine:
        assert contents(engine.parts.store) == before, "and back"


def test_another_view_needs_no_other_state(folder: Path) -> None:
    text = films(replaced=[('of = "click"\nwindow = "1h"', 'of = "click"\nwindow = "1h" # the same')])
    with opened(folder, text, clock=ManualClock(NOW)) as engine:
        assert not engine.parts.store.was_rebuilt  # type: ignore[attr-defined]
    text = films(replaced=[("prior = [1.0, 20.0]", "prior = [2.0, 50.0]")])
    with opened(folder, text, clock=ManualClock(NOW)) as engine:
        assert not engine.parts.store.was_rebuilt, "smoothing is of the reader"  # type: ignore[attr-defined]
        _equals_fresh(engine)


def test_a_deleted_state_is_made_again(folder: Path) -> None:
    with opened(folder, clock=ManualClock(NOW)) as engine:
        before, slate = contents(engine.parts.store), engine.recommend(pc.Request(user_id="u1", record=False), "same")
    for path in folder.glob("state.sqlite*"):
        path.unlink()
    with opened(folder, clock=ManualClock(NOW)) as engine:
        assert contents(engine.parts.store) == before
        again = engine.recommend(pc.Request(user_id="u1", record=False), "same")
        assert [(item.item_id, item.score) for item in again.items] == [(i.item_id, i.score) for i in slate.items]


def test_an_older_copy_of_the_state_catches_up(folder: Path) -> None:
    shutil.copy(folder / "state.sqlite", folder / "copy")
    with opened(folder, clock=ManualClock(NOW + HOUR)) as engine:
        engine.send([Interaction(user_id="u1", item_id="f1", action="click")])
        engine.settle()
    for path in folder.glob("state.sqlite*"):
        path.unlink()
    (folder / "copy").rename(folder / "state.sqlite")
    with opened(folder, clock=ManualClock(NOW + HOUR)) as engine:
        assert not engine.parts.store.was_rebuilt  # type: ignore[attr-defined]
        _equals_fresh(engine)


def test_a_state_ahead_of_its_log_is_made_again(folder: Path) -> None:
    """The log was put back to an older copy: the state knows of records that are gone."""
    shutil.copy(folder / "log.sqlite", folder / "copy")
    with opened(folder, clock=ManualClock(NOW + HOUR)) as engine:
        end = engine.parts.log.end()
        engine.send([Interaction(user_id="lost", item_id=f"f{number}", action="like") for number in range(30)])
        engine.settle()
        assert engine.user("lost").counters["like"] == 30
    for path in folder.glob("log.sqlite*"):
        path.unlink()
    (folder / "copy").rename(folder / "log.sqlite")
    with opened(folder, clock=ManualClock(NOW + HOUR)) as engine:
        assert engine.parts.log.end() == end
        _equals_fresh(engine)
        with pytest.raises(NotFound, match="lost"):
            engine.user("lost")


def test_another_log_is_another_state(folder: Path, tmp_path: Path) -> None:
    """As many records in a log of its own: the state is not taken for this log's."""
    with opened(tmp_path / "other", clock=ManualClock(NOW)) as engine:
        rng = np.random.default_rng(99)
        engine.send(list(itertools.islice(made_up(rng, NOW, users=USERS, items=ITEMS, prefix="y", erase=False), 900)))
        engine.settle()
    for path in (tmp_path / "other").glob("log.sqlite*"):
        shutil.copy(path, folder / path.name)
    with opened(folder, clock=ManualClock(NOW)) as engine:
        assert engine.parts.store.was_rebuilt  # type: ignore[attr-defined]
        _equals_fresh(engine)
