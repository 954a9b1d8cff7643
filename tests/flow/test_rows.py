"""Rows about what somebody took, asked of a whole engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flow.world import NOW, film, films, opened
from penchant.assembly import Embedded
from penchant.core.clock import ManualClock
from penchant.core.errors import InvalidRequest
from penchant.core.events import Interaction
from penchant.core.log import START
from penchant.serving import wire


def started(folder: Path, text: str) -> Embedded:
    """Thirty films, and people who took six each; u1 of the odd ones."""
    engine = opened(folder, text, clock=ManualClock(NOW))
    rng = np.random.default_rng(3)
    engine.send([film(number, adult=False) for number in range(30)])
    engine.send(
        [
            Interaction(user_id=f"u{user}", item_id=f"f{2 * item + user % 2}", action="click")
            for user in range(40)
            for item in rng.choice(15, 6, replace=False)
        ]
    )
    engine.settle()
    return engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Embedded]:
    with started(tmp_path / "films", films()) as engine:
        yield engine


def about(rows: wire.Rows) -> list[str | None]:
    return [row.reason.item_id for row in rows.rows]


def test_rows_are_about_the_newest_items_and_share_none(engine: Embedded) -> None:
    found = engine.rows("u1", n=3, size=5)
    taken = [
        record.event.item_id
        for record in engine.parts.log.read(START, 1_000)
        if isinstance(record.event, Interaction) and record.event.user_id == "u1"
    ]
    assert about(found) == taken[:-4:-1]
    shown = [item.item_id for row in found.rows for item in row.slate.items]
    assert len(shown) == len(set(shown)) >= 9
    assert not set(shown) & set(taken)
    assert len({row.slate.request_id for row in found.rows}) == 3
    assert all(item.reason.kind == "because" for row in found.rows for item in row.slate.items)


def test_no_row_is_about_what_was_hidden(engine: Embedded) -> None:
    newest, next_one = about(engine.rows("u1", n=2))
    engine.send([Interaction(user_id="u1", item_id=newest or "", action="hide")])
    engine.settle()
    assert about(engine.rows("u1", n=2))[0] == next_one


def test_nothing_fills_what_is_about_liked_items(engine: Embedded) -> None:
    assert engine.rows("nobody") == wire.Rows(user_id="nobody", rows=[])
    answer = engine.recommend(wire.Request(user_id="nobody", surface="because", n=5))
    assert answer.items == []
    assert answer.degraded == ["no_seed"]


@pytest.mark.parametrize("user", ["u1", "nobody"])
def test_conditions_are_checked_for_everybody(user: str, engine: Embedded) -> None:
    with pytest.raises(InvalidRequest, match="not declared"):
        engine.rows(user, where={"nope": 1})


@pytest.mark.parametrize("kind", ["user", "item"])
def test_a_surface_about_something_else_makes_no_rows(kind: str, tmp_path: Path) -> None:
    text = films(replaced=[('[surfaces.because]\nabout = "liked"', f'[surfaces.because]\nabout = "{kind}"')])
    with started(tmp_path / "films", text) as engine, pytest.raises(InvalidRequest, match='about = "liked"'):
        engine.rows("u1")
