from __future__ import annotations

import numpy as np

from penchant.core.candidates import Retrieved
from penchant.pipeline.executor import SurfacePipeline
from penchant.rerank.filters import Listed, Seen
from penchant.rerank.selector import SlateSelector
from penchant.settings import Select
from penchant.testing.strategies import make_items, make_query
from ranking.worlds import SCHEMA


class Only:
    """Proposes the rows it was given, as far as they are eligible."""

    def __init__(self, name, rows):
        self.name = name
        self.rows = np.array(rows, np.int32)
        self.asked = 0

    def prepare(self, items):
        return None

    def retrieve(self, query, limit):
        self.asked += 1
        rows = self.rows[query.eligible[self.rows]][:limit]
        return Retrieved(rows, np.linspace(1, 0, len(rows)).astype(np.float32))


def pipeline(source, reserve):
    return SurfacePipeline(
        "home",
        [(source, 10)],
        [Listed(), Seen()],
        None,
        None,
        SlateSelector(Select(), SCHEMA, sources=[source.name, reserve.name]),
        reserve=reserve,
    )


def test_a_slate_is_short_only_where_no_more_is_allowed():
    items = make_items(8)
    reserve = Only("popular", [5, 4, 3, 2, 1, 0])
    query = make_query(items, size=4, seen=[5])
    outcome = pipeline(Only("trending", [2, 5]), reserve).run(query)
    assert outcome.slate.rows.tolist() == [2, 4, 3, 1]  # the source first, then the reserve in its order
    assert [reason.kind for reason in outcome.slate.reasons] == ["popular"] * 4
    assert outcome.source_names == ("trending", "popular")


def test_the_reserve_is_not_asked_while_there_is_enough():
    reserve = Only("popular", [5, 4])
    outcome = pipeline(Only("trending", [2, 3, 1]), reserve).run(make_query(make_items(8), size=3))
    assert outcome.slate.rows.tolist() == [2, 3, 1]
    assert reserve.asked == 0


def test_given_items_are_not_topped_up():
    reserve = Only("popular", [5, 4])
    query = make_query(make_items(8), size=2, rank_only=np.array([7, 6], np.int32))
    outcome = pipeline(Only("trending", [2]), reserve).run(query)
    assert sorted(outcome.slate.rows.tolist()) == [6, 7]
    assert reserve.asked == 0
