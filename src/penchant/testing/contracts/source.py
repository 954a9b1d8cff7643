"""What every source must do."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penchant.core.candidates import Retrieved
from penchant.core.items import LISTED, REMOVED, UNLISTED, Items
from penchant.core.query import Query
from penchant.core.stages import RowScorer, Source
from penchant.testing.strategies import generators, make_items, make_query, random_items, random_query

_INHERITED = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.differing_executors])
"""One test method runs in many subclasses here, on purpose."""


def _frozen(value: Any) -> Any:
    """A deep copy of columns that can be compared by `==`."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _frozen(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _frozen(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_frozen(entry) for entry in value]
    return copy.deepcopy(value)


class SourceContract:
    """Subclass it, and make the source; `items` and `query` may be overridden where a source needs more of its world.

    Proposals are eligible rows, each once, best first (ties: lower row first), finite, at most `limit`, never the seed;
    the same for the same query, whatever was asked before; and nothing that was passed in changes.
    """

    def make(self, items: Items) -> Source:
        """The source under test, fit for this picture but not prepared."""
        raise NotImplementedError

    def items(self, rng: np.random.Generator, count: int) -> Items:
        """A picture of `count` items."""
        return random_items(rng, count)

    def query(self, rng: np.random.Generator, items: Items, *, seeded: bool) -> Query:
        """A request over it."""
        return random_query(rng, items, seeded=seeded)

    def prepared(self, items: Items) -> Source:
        """The source, with its table in the picture."""
        source = self.make(items)
        items.tables[source.name] = source.prepare(items)
        return source

    def check(self, query: Query, found: Retrieved, limit: int) -> None:
        """The promises that hold for one answer."""
        rows, scores = found
        assert rows.dtype == np.int32
        assert scores.dtype == np.float32
        assert rows.shape == scores.shape
        assert rows.ndim == 1
        assert len(rows) <= max(limit, 0)
        assert len(set(rows.tolist())) == len(rows)
        assert np.isfinite(scores).all()
        assert query.eligible[rows].all()
        assert query.seed_row not in rows
        order = list(zip((-scores).tolist(), rows.tolist(), strict=True))
        assert order == sorted(order)

    @_INHERITED
    @given(rng=generators(), count=st.integers(0, 40), limit=st.integers(0, 50), seeded=st.booleans())
    def test_an_answer_keeps_the_promises(self, rng: np.random.Generator, count: int, limit: int, seeded: bool) -> None:
        items = self.items(rng, count)
        source = self.prepared(items)
        query = self.query(rng, items, seeded=seeded)
        before = _frozen(query)

        first = source.retrieve(query, limit)
        self.check(query, first, limit)

        assert _frozen(query) == before
        again = source.retrieve(query, limit)
        assert first.rows.tobytes() == again.rows.tobytes()
        assert first.scores.tobytes() == again.scores.tobytes()

    @_INHERITED
    @given(rng=generators(), count=st.integers(1, 40), limit=st.integers(0, 50), seeded=st.booleans())
    def test_fewer_are_the_first_of_more(self, rng: np.random.Generator, count: int, limit: int, seeded: bool) -> None:
        items = self.items(rng, count)
        source = self.prepared(items)
        query = self.query(rng, items, seeded=seeded)
        all_of_them = source.retrieve(query, count)
        some = source.retrieve(query, limit)
        assert some.rows.tolist() == all_of_them.rows[:limit].tolist()
        assert some.scores.tobytes() == all_of_them.scores[:limit].tobytes()

    @_INHERITED
    @given(rng=generators(), count=st.integers(1, 40), seeded=st.booleans())
    def test_a_narrower_request_keeps_the_order(self, rng: np.random.Generator, count: int, seeded: bool) -> None:
        items = self.items(rng, count)
        source = self.prepared(items)
        query = self.query(rng, items, seeded=seeded)
        narrow = dataclasses.replace(query, eligible=query.eligible & (rng.random(count) < 0.5))
        wide_rows, wide_scores = source.retrieve(query, count)
        rows, scores = source.retrieve(narrow, count)
        kept = narrow.eligible[wide_rows]
        assert rows.tolist() == wide_rows[kept].tolist()
        assert scores.tobytes() == wide_scores[kept].tobytes()

    @_INHERITED
    @given(rng=generators(), count=st.integers(1, 40), seeded=st.booleans())
    def test_rows_score_what_they_scored_when_proposed(
        self, rng: np.random.Generator, count: int, seeded: bool
    ) -> None:
        items = self.items(rng, count)
        source = self.prepared(items)
        if not isinstance(source, RowScorer):
            pytest.skip("does not score rows")
        query = self.query(rng, items, seeded=seeded)
        before = _frozen(query)
        rows, scores = source.retrieve(query, count)
        everything = rng.permutation(count).astype(np.int32)
        given_scores = source.score_rows(query, everything)
        assert given_scores.dtype == np.float32
        assert given_scores.shape == everything.shape
        assert not np.isinf(given_scores).any()
        by_row = np.empty(count, np.float32)
        by_row[everything] = given_scores
        assert by_row[rows].tobytes() == scores.tobytes()
        assert len(source.score_rows(query, everything[:0])) == 0
        assert _frozen(query) == before

    @settings(_INHERITED, max_examples=10)
    @given(rng=generators(), count=st.integers(0, 20))
    def test_preparing_is_pure(self, rng: np.random.Generator, count: int) -> None:
        items = self.items(rng, count)
        before = _frozen(items)
        source = self.make(items)
        table = source.prepare(items)
        assert _frozen(items) == before
        assert _frozen(source.prepare(items)) == _frozen(table)
        assert _frozen(self.make(items).prepare(items)) == _frozen(table)

    @settings(_INHERITED, max_examples=10)
    @given(rng=generators(), counts=st.lists(st.integers(0, 12), max_size=4))
    def test_pictures_prepared_before_leave_no_trace(self, rng: np.random.Generator, counts: list[int]) -> None:
        items = self.items(rng, 12)
        fresh = self.make(items).prepare(items)
        used = self.make(items)
        for count in counts:
            used.prepare(self.items(rng, count))
        assert _frozen(used.prepare(items)) == _frozen(fresh)

    def test_an_empty_catalogue_gives_nothing(self) -> None:
        items = make_items(0)
        source = self.prepared(items)
        assert len(source.retrieve(make_query(items), 10).rows) == 0

    def test_nothing_eligible_gives_nothing(self) -> None:
        rng = np.random.default_rng(1)
        items = self.items(rng, 20)
        source = self.prepared(items)
        query = dataclasses.replace(self.query(rng, items, seeded=False), eligible=np.zeros(20, np.bool_))
        assert len(source.retrieve(query, 10).rows) == 0

    def test_a_new_user_is_no_error(self) -> None:
        items = self.items(np.random.default_rng(2), 20)
        source = self.prepared(items)
        query = make_query(items)
        self.check(query, source.retrieve(query, 10), 10)

    def test_unlisted_and_removed_items_are_not_proposed(self) -> None:
        rng = np.random.default_rng(3)
        items = self.items(rng, 30)
        status = np.array([LISTED, UNLISTED, REMOVED], np.uint8)[np.arange(30) % 3]
        items = dataclasses.replace(items, status=status, listed=status == LISTED, tables={})
        source = self.prepared(items)
        query = make_query(items, history=np.arange(8))
        assert (items.status[source.retrieve(query, 30).rows] == LISTED).all()
