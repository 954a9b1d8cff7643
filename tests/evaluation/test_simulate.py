from __future__ import annotations

from importlib import resources
from itertools import pairwise

import numpy as np
import pytest

from penchant.core.errors import NotFound
from penchant.core.parse import parse_event
from penchant.core.schema import Schema
from penchant.evaluation.simulate import START, World
from penchant.settings import parse

DAY = 86_400_000


@pytest.fixture(scope="module")
def lived() -> World:
    """A world that has its history behind it."""
    world = World(1, films=600, viewers=800, days=10)
    for _ in world.history(20_000):
        pass
    return world


def test_history_is_in_order_and_exact() -> None:
    world = World(2, films=300, viewers=200, days=5)
    events = list(world.history(5_003))
    assert sum(event["type"] == "interaction" for event in events) == 5_003
    assert {event["type"] for event in events} == {"interaction", "item"}
    assert all(left["ts"] <= right["ts"] for left, right in pairwise(events))
    assert START - 5 * DAY <= events[0]["ts"] < events[-1]["ts"] < START == world.now
    assert len({event["id"] for event in events}) == len(events)
    assert {event.get("action") for event in events} == {None, "click", "watch", "like", "hide"}


def test_a_film_is_found_only_when_it_is_out() -> None:
    world = World(3, films=100, viewers=100, days=20, arrivals=20)
    known = {event["item_id"] for event in world.item_events()}
    for event in world.history(4_000):
        if event["type"] == "item":
            known.add(event["item_id"])
        assert event["item_id"] in known
    assert known == set(world.films)
    assert len(known) > 400


def test_the_same_seed_is_the_same_world() -> None:
    def life(seed: int) -> list[dict[str, object]]:
        world = World(seed, films=100, viewers=100, days=3)
        events = [*world.item_events(), *world.user_events(), *world.history(500)]
        rng = np.random.default_rng(5)
        for _ in range(50):
            events += world.react(world.next_viewer(), world.films[:10], world.now, rng, "r")
        return events + world.advance(DAY)

    assert life(7) == life(7) != life(8)


def test_events_are_those_of_the_films_preset(lived: World) -> None:
    preset = resources.files("penchant.cli") / "presets" / "films.toml"
    schema = Schema.of(parse(preset.read_text(encoding="utf-8")))
    rng = np.random.default_rng(0)
    events = [*lived.item_events(), *lived.user_events()]
    for _ in range(300):
        events += lived.react(lived.next_viewer(), list(rng.permutation(lived.films)[:20]), lived.now, rng, "r1")
    assert len(events) > 1_500
    for event in events:
        parse_event(event, schema)


def test_titles_are_distinct() -> None:
    titles = [event["attributes"]["title"] for event in World(4, films=2_500, viewers=10).item_events()]  # type: ignore[index]
    assert len(set(titles)) == 2_500


def test_taste_beats_popularity_beats_chance(lived: World) -> None:
    films = np.array(lived.films)
    popular = films[np.argsort(-lived.popularity())[:10]].tolist()
    rng = np.random.default_rng(0)
    clicks = np.array(
        [
            [
                lived.expected_clicks(viewer, films[np.argsort(-lived.click_rates(viewer, lived.films))[:10]].tolist()),
                lived.expected_clicks(viewer, popular),
                lived.expected_clicks(viewer, rng.choice(films, 10, replace=False).tolist()),
            ]
            for viewer in (lived.next_viewer() for _ in range(200))
        ]
    )
    taste, popularity, chance = clicks.mean(axis=0)
    assert taste > 2 * popularity > 4 * chance > 0


def test_reactions_are_as_frequent_as_expected() -> None:
    world = World(5, films=300, viewers=4_000)
    rng = np.random.default_rng(1)
    expected, variance, clicks, by_rank = 0.0, 0.0, 0, np.zeros(10)
    for viewer in world.viewers:
        slate = [world.films[index] for index in rng.permutation(300)[:10]]
        rates = world.examination(10) * world.click_rates(viewer, slate)
        assert world.expected_clicks(viewer, slate) == pytest.approx(rates.sum())
        expected, variance = expected + rates.sum(), variance + (rates * (1 - rates)).sum()
        for event in world.react(viewer, slate, world.now, rng):
            if event["action"] == "click":
                clicks += 1
                by_rank[slate.index(event["item_id"])] += 1
    assert abs(clicks - expected) < 4 * np.sqrt(variance)
    # Slates were drawn blindly, so what falls with the rank is attention alone.
    slope = np.polyfit(np.log(np.arange(1, 11)), np.log(by_rank), 1, w=np.sqrt(by_rank))[0]
    assert slope == pytest.approx(-0.7, abs=0.15)


def test_what_was_watched_is_rarely_clicked_again() -> None:
    world = World(8, films=100, viewers=300)
    rng = np.random.default_rng(2)
    slate, watched = world.films[:20], 0
    for viewer in world.viewers:
        before = world.click_rates(viewer, slate)
        done = {event["item_id"] for event in world.react(viewer, slate, world.now, rng) if event["action"] == "watch"}
        after = world.click_rates(viewer, slate)
        again = np.array([film in done for film in slate])
        assert np.all(after[again] < 0.5 * before[again])
        assert np.array_equal(after[~again], before[~again])
        watched += len(done)
    assert watched > 50


def test_popularity_drifts_and_films_arrive() -> None:
    world = World(6, films=500, viewers=10, arrivals=10)
    before, out = world.popularity(), len(world.films)
    arrived = world.advance(7 * DAY)
    after = world.popularity()
    assert 30 < len(arrived) == len(world.films) - out
    assert [event["item_id"] for event in arrived] == list(world.films[out:])
    assert after[out:].mean() > after[:out].mean()
    assert 0.2 < np.corrcoef(before, after[:out])[0, 1] < 0.95
    assert world.advance(0) == []


def test_children_are_not_shown_to_like_what_is_for_adults() -> None:
    world = World(9, films=500, viewers=400)
    adult = [e["item_id"] for e in world.item_events() if e["attributes"]["adult"]]  # type: ignore[index]
    for event in world.user_events():
        if event["attributes"]["age"] < 18:  # type: ignore[index]
            assert world.click_rates(event["user_id"], adult).max() < 0.01  # type: ignore[arg-type]


def test_unknown_names_are_refused() -> None:
    world = World(1, films=20, viewers=5)
    with pytest.raises(NotFound, match="no viewer 'x'; there are v1 to v5"):
        world.click_rates("x", ["f1"])
    with pytest.raises(NotFound, match="no film 'y'"):
        world.expected_clicks("v1", ["y"])
    assert world.react("v1", [], 0, np.random.default_rng(0)) == []
