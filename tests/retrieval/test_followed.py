"""The newest of followed creators, whichever way the follow is known."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.query import Query, UserState
from penchant.core.stages import Source
from penchant.retrieval.followed import Followed
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import NOW, generators, make_items, make_query, random_items

DAY = 86_400_000


def following(rng: np.random.Generator, query: Query, values: list[str]) -> Query:
    """The query of somebody who follows some of the values by an attribute, and some by an action."""
    told = [str(value) for value in rng.choice([*values, "nobody"], int(rng.integers(0, 4)))]
    keys = np.sort(np.array([hash_id(value) for value in values], np.int64))
    user = dataclasses.replace(
        query.user, attributes={"follows": told}, keyed=((keys[:0], keys[:0]), (keys, rng.integers(0, 2, len(keys))))
    )
    return dataclasses.replace(query, user=user)


class TestFollowed(SourceContract):
    def make(self, items: Items) -> Source:
        return Followed("followed", "category", 30 * DAY, "follows", 1)

    def query(self, rng: np.random.Generator, items: Items, *, seeded: bool) -> Query:
        return following(rng, super().query(rng, items, seeded=seeded), list("abcd"))


class TestFollowedTags(SourceContract):
    def make(self, items: Items) -> Source:
        return Followed("followed", "genres", 7 * DAY, "follows", 1, "released_at")

    def query(self, rng: np.random.Generator, items: Items, *, seeded: bool) -> Query:
        return following(rng, super().query(rng, items, seeded=seeded), ["drama", "comedy", "war"])


class TestFollowedWithoutTheAttribute(SourceContract):
    def make(self, items: Items) -> Source:
        return Followed("followed", "nothing", DAY, "follows")


def test_the_newest_of_followed_creators_comes_first() -> None:
    source = Followed("followed", "author", 10 * DAY, "follows")
    items = make_items(
        6,
        categories={"author": ["ann", "bob", "ann", "cy", "bob", "ann"]},
        listed_at=[NOW - 30 * DAY, NOW - DAY, NOW, NOW, NOW - 10 * DAY, NOW + DAY],
        sources=[source],
    )
    user = UserState(position=1, attributes={"follows": ["ann", "bob", "zoe"]})
    found = source.retrieve(make_query(items, user=user), 10)
    assert found.rows.tolist() == [2, 1, 4, 0]
    np.testing.assert_allclose(found.scores, [1, 1 / 1.1, 1 / 2, 1 / 4], rtol=1e-6)


def test_follows_may_come_from_the_context_or_from_an_action() -> None:
    source = Followed("followed", "author", DAY, "follows", 0)
    items = make_items(3, categories={"author": ["ann", "bob", "cy"]}, sources=[source])
    keys = np.sort([hash_id(name) for name in ("ann", "bob")])
    times = (keys == hash_id("bob")).astype(np.int64)
    user = UserState(position=1, keyed=((keys, times),))
    assert source.retrieve(make_query(items, user=user), 5).rows.tolist() == [1]
    query = make_query(items, context={"follows": ["cy"]}, user=user)
    assert source.retrieve(query, 5).rows.tolist() == [1, 2]


@settings(deadline=None, max_examples=60)
@given(rng=generators(), limit=st.integers(0, 20))
def test_it_is_the_plain_sort(rng: np.random.Generator, limit: int) -> None:
    source = Followed("followed", "genres", 9 * DAY, "follows", 1, "released_at")
    items = random_items(rng, 25, sources=[source])
    query = following(rng, make_query(items, now=NOW), ["drama", "comedy", "crime"])
    names = query.user.attributes["follows"]
    assert isinstance(names, list)
    keys, times = query.user.keyed[1]
    wanted = {hash_id(name) for name in names} | {int(key) for key, n in zip(keys, times, strict=True) if n}
    scored = []
    tags = items.tags["genres"]
    for row in range(25):
        codes = tags.codes[tags.offsets[row] : tags.offsets[row + 1]]
        released = int(items.timestamps["released_at"][row])
        born = released if released >= 0 else int(items.listed_at[row])
        if items.listed[row] and 0 < born <= NOW and wanted & {int(tags.vocabulary.hashes[code]) for code in codes}:
            scored.append((-np.float32(1 / (1 + (NOW - born) / (9 * DAY))), row))
    assert source.retrieve(query, limit).rows.tolist() == [row for _, row in sorted(scored)][:limit]
