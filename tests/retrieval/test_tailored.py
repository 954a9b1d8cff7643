"""New items by the taste of a user."""

from __future__ import annotations

import numpy as np

from penchant.core.items import Items
from penchant.core.stages import Source
from penchant.retrieval.content import Content
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.tailored import NewForYou
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import NOW, make_items, make_query

DAY = 86_400_000


def source_of() -> NewForYou:
    return NewForYou("new_for_you", Fresh("new_for_you", 30 * DAY), Content("content"))


class TestNewForYou(SourceContract):
    def make(self, items: Items) -> Source:
        return source_of()

    def prepared(self, items: Items) -> Source:
        items.tables["content"] = Content("content").prepare(items)
        return super().prepared(items)


def test_new_items_come_by_taste_and_age() -> None:
    source, content = source_of(), Content("content")
    items = make_items(
        6,
        tags={"genres": [["war"], ["war"], ["war"], ["opera"], ["war"], ["opera"]]},
        listed_at=[NOW - 90 * DAY, NOW - 15 * DAY, NOW - DAY, NOW - DAY, NOW - 40 * DAY, NOW],
        sources=[source, content],
    )
    query = make_query(items, history=[0])
    found = source.retrieve(query, 10)
    assert found.rows.tolist() == [2, 1]  # 4 is of the taste and too old, 3 and 5 are new and not of it
    taste = content.score_rows(query, found.rows)
    np.testing.assert_allclose(found.scores, taste * np.array([29 / 30, 0.5]), rtol=1e-6)
    assert source.contributor(query, found.rows).tolist() == [0, 0]


def test_without_a_history_there_is_nothing() -> None:
    source = source_of()
    items = make_items(3, tags={"genres": [["war"]] * 3}, sources=[source, Content("content")])
    assert len(source.retrieve(make_query(items), 5).rows) == 0
