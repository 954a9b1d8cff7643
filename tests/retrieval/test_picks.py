"""What somebody new sees of the kinds that they picked."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.items import Items
from penchant.core.query import Query, UserState
from penchant.core.stages import Source
from penchant.retrieval.picks import Picks
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import generators, make_items, make_query, random_items

GENRES = ["drama", "comedy", "crime", "war", "news", "opera"]


def picking(rng: np.random.Generator, query: Query) -> Query:
    likes = [str(value) for value in rng.choice(GENRES, int(rng.integers(0, 4)))]
    return dataclasses.replace(query, user=dataclasses.replace(query.user, attributes={"likes": likes}))


class TestPicks(SourceContract):
    def make(self, items: Items) -> Source:
        return Picks("onboarding", "likes", "genres", 5)

    def query(self, rng: np.random.Generator, items: Items, *, seeded: bool) -> Query:
        return picking(rng, super().query(rng, items, seeded=seeded))


class TestPicksOfACategory(SourceContract):
    def make(self, items: Items) -> Source:
        return Picks("onboarding", "likes", "category")

    def query(self, rng: np.random.Generator, items: Items, *, seeded: bool) -> Query:
        query = super().query(rng, items, seeded=seeded)
        return dataclasses.replace(query, user=UserState(position=1, attributes={"likes": ["a", "c"]}))


def world(source: Source) -> Items:
    return make_items(
        6,
        tags={"genres": [["war"], ["war"], ["war", "opera"], ["opera"], ["news"], []]},
        features={"popularity": [9, 8, 7, 1, 99, 50]},
        sources=[source],
    )


def test_kinds_take_turns() -> None:
    source = Picks("onboarding", "likes", "genres")
    user = UserState(position=1, attributes={"likes": ["war", "opera", "nothing"]})
    found = source.retrieve(make_query(world(source), user=user), 10)
    # war: 0, 1, 2; opera: 2, 3. The first of each, then the second of each.
    assert found.rows.tolist() == [0, 2, 1, 3]
    assert found.scores.tolist() == [1, 1, 0.5, 0.5]


def test_it_falls_silent_once_there_is_a_history() -> None:
    source = Picks("onboarding", "likes", "genres", until=2)
    items = world(source)
    user = UserState(position=1, attributes={"likes": ["war"]})
    assert len(source.retrieve(make_query(items, user=user, history=[4]), 10).rows) == 3
    query = make_query(items, user=user, history=[4, 3])
    assert len(source.retrieve(query, 10).rows) == 0
    assert np.isnan(source.score_rows(query, np.arange(6, dtype=np.int32))).all()


def test_what_is_popular_now_comes_before_what_many_took() -> None:
    source = Picks("onboarding", "likes", "genres", counts=("total_click", "total_watch", "total_none"))
    items = make_items(
        6,
        tags={"genres": [["war"]] * 6},
        features={
            "popularity": [0, 1, 2, 0, np.nan, 0],
            "total_click": [3, 50, 3, 50, np.nan, 5],
            "total_watch": [2, 2, 0, 0, 60, 0],
        },
        sources=[source],
    )
    query = make_query(items, user=UserState(position=1, attributes={"likes": ["war"]}))
    assert source.retrieve(query, 10).rows.tolist() == [2, 1, 4, 3, 0, 5]


@settings(deadline=None, max_examples=60)
@given(rng=generators(), limit=st.integers(0, 30))
def test_it_is_the_plain_ranking(rng: np.random.Generator, limit: int) -> None:
    source = Picks("onboarding", "likes", "genres")
    items = random_items(rng, 30, sources=[source])
    query = picking(rng, make_query(items))
    likes = query.user.attributes["likes"]
    assert isinstance(likes, list)
    popularity = items.column("popularity")

    def rank(row: int) -> tuple[float, float, int]:
        known = popularity[row] > 0
        return -float(popularity[row]) if known else 0.0, -float(items.listed_at[row]), row

    tags, best = items.tags["genres"], dict[int, int]()
    for value in likes:
        code = tags.vocabulary.codes.get(value)
        having = [row for row in range(30) if code in tags.codes[tags.offsets[row] : tags.offsets[row + 1]].tolist()]
        positive = [row for row in having if popularity[row] > 0]
        others = [row for row in having if not popularity[row] > 0]
        inside = [row for row in sorted(positive, key=lambda row: (rank(row)[0], row)) if items.listed[row]]
        inside += [row for row in sorted(others, key=lambda row: rank(row)[1:]) if items.listed[row]]
        for place, row in enumerate(inside):
            best[row] = min(best.get(row, place), place)
    expected = sorted(best, key=lambda row: (best[row], row))[:limit]
    assert source.retrieve(query, limit).rows.tolist() == expected
