"""Lists that people wrote: their order, their time, and items in several of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.items import Items
from penchant.core.stages import Source
from penchant.retrieval.editorial import Curated, Editorial
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import NOW, generators, make_items, make_query


class TestEditorial(SourceContract):
    def make(self, items: Items) -> Source:
        return Editorial("editorial", (
            Curated(("item-3", "item-1", "nowhere", "item-7", "item-1"), NOW + 1),
            Curated(tuple(f"item-{row}" for row in range(0, 40, 3)), until=NOW + 1),
            Curated(("item-7", "item-2", "item-9")),
        ))  # fmt: skip


class TestEditorialWithoutLists(SourceContract):
    def make(self, items: Items) -> Source:
        return Editorial("editorial")


def test_lists_keep_their_order_and_follow_one_another() -> None:
    source = Editorial("editorial", (Curated(("i4", "i2", "gone")), Curated(("i2", "i0", "i4", "i1"))))
    items = make_items(6, sources=[source])
    found = source.retrieve(make_query(items), 10)
    assert found.rows.tolist() == [4, 2, 0, 1]
    assert found.scores.tolist() == [np.float32(1 - k / 7) for k in (0, 1, 4, 6)]
    assert source.retrieve(make_query(items), 2).rows.tolist() == [4, 2]


def test_a_list_runs_from_since_on_and_before_until() -> None:
    source = Editorial("editorial", (Curated(("i1",), NOW, NOW + 10), Curated(("i2", "i1"))))
    items = make_items(3, sources=[source])
    shown = [source.retrieve(make_query(items, now=NOW + after), 5).rows.tolist() for after in (-1, 0, 9, 10)]
    assert shown == [[2, 1], [1, 2], [1, 2], [2, 1]]


@settings(deadline=None, max_examples=60)
@given(rng=generators(), limit=st.integers(0, 12))
def test_it_is_the_plain_walk(rng: np.random.Generator, limit: int) -> None:
    lists = tuple(
        Curated(tuple(f"i{row}" for row in rng.integers(0, 12, rng.integers(0, 8))), NOW + int(rng.integers(-2, 2)),
                NOW + int(rng.integers(-1, 3)))
        for _ in range(int(rng.integers(0, 5)))
    )  # fmt: skip
    source = Editorial("editorial", lists)
    items = make_items(9, sources=[source])
    query = make_query(items, eligible=rng.random(9) < 0.8)
    expected: dict[int, float] = {}
    total, place = sum(len(one.items) for one in lists), 0
    for one in lists:
        for item in one.items:
            row = items.row(item)
            if row >= 0 and one.since <= NOW < one.until and row not in expected:
                expected[row] = 1 - place / total
            place += 1
    shown = [row for row in expected if query.eligible[row]][:limit]
    assert source.retrieve(query, limit).rows.tolist() == shown
    scores = source.score_rows(query, np.arange(9, dtype=np.int32))
    wanted = [np.float32(expected.get(row, np.nan)) for row in range(9)]
    np.testing.assert_array_equal(scores, wanted)
