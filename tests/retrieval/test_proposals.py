"""What each source proposes, in examples one can read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.retrieval.content import Content, _score_forward, _score_inverted
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.popular import Popular
from penchant.testing.strategies import NOW, generators, make_items, make_query, random_items, random_query

DAY = 86_400_000
NORTH, SOUTH = hash_id("north"), hash_id("south")


def popular_world(source: Popular) -> Items:
    return make_items(
        6,
        listed_at=[NOW - age * DAY for age in (9, 8, 7, 1, 5, 6)],
        features={"popularity": [3, 9, 5, 0, np.nan, 9]},
        keyed={"popularity_segment": [{NORTH: 2}, {}, {NORTH: 7, SOUTH: 1}, {SOUTH: 4}, {}, {}]},
        sources=[source],
    )


def test_popular_comes_by_popularity_and_leaves_out_what_has_none() -> None:
    items = popular_world(source := Popular("popular"))
    assert source.retrieve(make_query(items), 10).rows.tolist() == [1, 5, 2, 0]
    assert np.isnan(source.score_rows(make_query(items), np.array([3, 4], np.int32))).all()


def test_filled_the_rest_follows_newest_first() -> None:
    items = popular_world(source := Popular("popular", fill=True))
    rows, scores = source.retrieve(make_query(items), 10)
    assert rows.tolist() == [1, 5, 2, 0, 3, 4]
    assert (scores[:4] > 0).all()
    assert (scores[4:] < 0).all()


def test_a_segment_comes_first_and_everywhere_fills_up() -> None:
    items = popular_world(source := Popular("near", segmented=True))
    assert source.retrieve(make_query(items, segment=NORTH), 10).rows.tolist() == [2, 0, 1, 5]
    assert source.retrieve(make_query(items, segment=NORTH), 1).rows.tolist() == [2]
    assert source.retrieve(make_query(items, segment=SOUTH), 10).rows.tolist() == [3, 2, 1, 5, 0]
    assert source.retrieve(make_query(items, segment=hash_id("west")), 10).rows.tolist() == [1, 5, 2, 0]
    assert source.retrieve(make_query(items), 10).rows.tolist() == [1, 5, 2, 0]


def test_popular_walks_on_until_a_narrow_request_is_full() -> None:
    source = Popular("popular")
    items = make_items(1_000, features={"popularity": np.arange(1_000, 0, -1)}, sources=[source])
    eligible = np.zeros(1_000, np.bool_)
    eligible[[3, 700, 999]] = True
    assert source.retrieve(make_query(items, eligible=eligible), 3).rows.tolist() == [3, 700, 999]


def test_fresh_is_what_came_out_in_the_window() -> None:
    ages = [40, 1, 29, 30, 31]
    source = Fresh("fresh", 30 * DAY)
    items = make_items(5, listed_at=[NOW - age * DAY for age in ages], sources=[source])
    assert source.retrieve(make_query(items), 10).rows.tolist() == [1, 2]
    assert source.retrieve(make_query(items, now=NOW + 2 * DAY), 10).rows.tolist() == [1]


def test_fresh_goes_by_the_release_where_there_is_one() -> None:
    source = Fresh("fresh", 30 * DAY, "released_at")
    items = make_items(
        4,
        listed_at=[NOW - DAY] * 4,
        timestamps={"released_at": [NOW - 50 * DAY, -1, NOW - 2 * DAY, NOW + DAY]},
        sources=[source],
    )
    assert source.retrieve(make_query(items), 10).rows.tolist() == [1, 2]
    assert source.retrieve(make_query(items, now=NOW + DAY), 10).rows.tolist() == [3, 1, 2]


def test_covisit_weighs_common_visits_against_how_common_they_are() -> None:
    source = Covisit("covisit", decay=0.5, damping=0.5)
    counts = [{1: 4, 2: 4}, {0: 4}, {0: 4, 3: 12}, {2: 12}]
    items = make_items(4, neighbours=counts, sources=[source])
    rows, scores = source.retrieve(make_query(items, history=[0]), 10)
    assert rows.tolist() == [1, 2]
    np.testing.assert_allclose(scores, [4 / np.sqrt(8 * 4), 4 / np.sqrt(8 * 16)], rtol=1e-6)
    rows, scores = source.retrieve(make_query(items, history=[3, 0]), 10)
    assert rows.tolist() == [2, 1]
    np.testing.assert_allclose(scores[0], 12 / np.sqrt(12 * 16) + 0.5 * 4 / np.sqrt(8 * 16), rtol=1e-6)
    assert source.retrieve(make_query(items, history=[3], seed_row=1), 10).rows.tolist() == [0]


@pytest.fixture
def films() -> Items:
    return make_items(
        6,
        texts={"title": ["The Heat of the Night", "Heat", "Ronin", None, "Spice World", "HEAT: the making-of"]},
        tags={"genres": [["crime"], ["crime", "drama"], ["crime"], ["drama"], ["music"], []]},
        categories={"country": ["us", "us", "fr", None, "uk", "us"]},
        sources=[Content("content"), Content("genres", {"title": 0, "country": 0})],
    )


def test_content_finds_what_shares_words_tags_and_categories(films: Items) -> None:
    rows, scores = Content("content").retrieve(make_query(films, seed_row=1), 10)
    assert set(rows.tolist()) == {0, 2, 3, 5}
    assert scores.max() < 1
    only_genres = Content("genres", {"title": 0, "country": 0})
    assert only_genres.retrieve(make_query(films, seed_row=4), 10).rows.tolist() == []
    assert only_genres.retrieve(make_query(films, seed_row=0), 10).rows.tolist() == [2, 1]


def test_content_works_from_one_click_and_turns_from_what_was_hidden(films: Items) -> None:
    source = Content("content")
    liked = source.score_rows(make_query(films, history=[1]), np.arange(6, dtype=np.int32))
    np.testing.assert_allclose(liked[1], 1.0, rtol=1e-6)
    torn = source.score_rows(make_query(films, history=[1], hidden=[2]), np.arange(6, dtype=np.int32))
    assert torn[2] < liked[2]
    assert len(source.retrieve(make_query(films, hidden=[2]), 10).rows) == 0


@settings(deadline=None, max_examples=50)
@given(generators())
def test_both_ways_round_the_index_give_the_same_bits(rng: np.random.Generator) -> None:
    source = Content("content")
    items = random_items(rng, 30, sources=[source])
    table = items.tables["content"]
    profile = source._profile(table, random_query(rng, items))
    if profile is None:
        return
    everything = np.ones(30, np.bool_)
    forward = _score_forward(table.offsets, table.terms, table.values, profile, everything)
    terms = np.flatnonzero(profile)
    inverted = _score_inverted(table.starts, table.rows, table.weights, profile, terms, 30)
    assert forward.tobytes() == inverted.tobytes()


@settings(deadline=None, max_examples=50)
@given(generators())
def test_a_changed_text_gives_the_table_of_a_fresh_start(rng: np.random.Generator) -> None:
    source = Content("content")
    items = random_items(rng, 20)
    source.prepare(items)
    changed = list(items.texts["title"])
    changed[int(rng.integers(20))] = "brand new word1"
    items = dataclasses.replace(items, texts={"title": changed})
    warm, cold = source.prepare(items), Content("content").prepare(items)
    for field in dataclasses.fields(warm):
        assert getattr(warm, field.name).tobytes() == getattr(cold, field.name).tobytes()


def test_a_common_term_is_left_out_when_the_budget_is_spent() -> None:
    tags = [["all", f"pair{row // 2}"] for row in range(100)]
    source = Content("content", postings=50)
    items = make_items(100, tags={"tags": tags}, sources=[source])
    assert source.retrieve(make_query(items, history=[0]), 10).rows.tolist() == [0, 1]
