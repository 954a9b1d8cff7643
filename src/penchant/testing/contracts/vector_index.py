"""What every index of vectors must do."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.retrieval.vectors.index import Allowed, VectorIndex, VectorView

_INHERITED = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.differing_executors])
"""One test method runs in many subclasses here, on purpose."""

World = dict[int, NDArray[np.float32]]
"""What an index should have: vectors by id."""

_SIZES = st.sampled_from([1, 2, 30, 600, 3_000])
_CHANGES = st.lists(st.tuples(st.sampled_from(["add", "replace", "remove", "tidy"]), _SIZES), max_size=8)


class VectorIndexContract:
    """Subclass it and make the index. Found is what brute force over float32 finds, but for the index's rounding."""

    dimensions = 12
    margin = 0.02
    """Scores may be off by this share of `|query| * |vector|`; what is found may be worse than what is not by twice."""
    least_recall = 1.0
    """Of what is better than the worst that may be found; below 1 for an index that does not look at everything."""

    def make(self, dimensions: int) -> VectorIndex:
        """The index under test, empty."""
        raise NotImplementedError

    def vectors(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Vectors of different lengths."""
        lengths = rng.lognormal(0.0, 0.5, (count, 1))
        return (rng.standard_normal((count, self.dimensions)) * lengths).astype(np.float32)

    def filled(self, rng: np.random.Generator, count: int) -> tuple[VectorIndex, World]:
        """An index of so many items, with even ids from 0."""
        index, world = self.make(self.dimensions), dict[int, NDArray[np.float32]]()
        self.put(index, world, 2 * np.arange(count, dtype=np.int64), self.vectors(rng, count))
        return index, world

    def put(self, index: VectorIndex, world: World, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Into the index and into what it should have."""
        index.put(ids, vectors)
        world.update(zip(ids.tolist(), vectors, strict=True))

    def tidy(self, index: VectorIndex) -> None:
        """All of it; it must come to an end."""
        steps = 0
        while index.tidy():
            steps += 1
            assert steps < 1_000

    def check(self, view: VectorView, world: World, query: NDArray[np.float32], limit: int, allowed: Allowed) -> None:
        """One answer against brute force."""
        ids = view.ids
        places = np.flatnonzero(ids >= 0)
        if allowed is not None:
            listed = np.flatnonzero(allowed) if allowed.dtype == np.bool_ else allowed
            places = np.intersect1d(places, listed)
        found = view.search(query, limit, allowed)
        self.check_found(found, np.isin(np.arange(len(ids)), places), ids, world, query, limit)
        assert found.scores.tobytes() == view.scores(query, found.rows).tobytes()

    def check_found(
        self,
        found: Retrieved,
        allowed: NDArray[np.bool_],
        ids: NDArray[np.int64],
        world: Mapping[int, NDArray[np.float32]],
        query: NDArray[np.float32],
        limit: int,
    ) -> None:
        """Rows of `ids` under the mask: each once, in order, right scores, and nothing better left out."""
        rows, scores = found
        assert rows.dtype == np.int32
        assert scores.dtype == np.float32
        assert len(np.unique(rows)) == len(rows)
        assert allowed[rows].all()
        assert rows.tolist() == rows[np.lexsort((rows, -scores))].tolist()
        could = np.flatnonzero(allowed)
        vectors = np.array([world[item] for item in ids[could].tolist()], np.float32).reshape(len(could), len(query))
        true = vectors @ query
        off = self.margin * np.linalg.norm(query) * np.linalg.norm(vectors, axis=1) + 1e-6
        at = np.searchsorted(could, rows)
        assert (np.abs(true[at] - scores) <= off[at]).all()
        if self.least_recall == 1.0 or len(could) <= limit:
            assert len(rows) == max(0, min(limit, len(could)))
        if 0 < len(rows) < len(could):
            worst = (true[at] + off[at]).min()
            better = np.flatnonzero(true - off > worst)
            assert np.isin(better, at).sum() >= self.least_recall * len(better)

    @_INHERITED
    @given(st.integers(0, 2**32), _CHANGES, st.integers(-1, 40))
    def test_any_changes_in_any_order(self, seed: int, changes: list[tuple[str, int]], limit: int) -> None:
        rng = np.random.default_rng(seed)
        index, world = self.filled(rng, 50)
        for what, size in changes:
            if what == "add":
                ids = rng.integers(0, 2**40, size) * 2 + 1
                self.put(index, world, ids, self.vectors(rng, size))
            elif what == "replace" and world:
                ids = rng.choice(np.array(list(world)), size)  # some more than once: the last one counts
                self.put(index, world, ids, self.vectors(rng, size))
            elif what == "remove":
                known = rng.choice(np.array([*world, 2**41]), size)
                gone = [world.pop(item, None) is not None for item in known.tolist()]
                assert index.remove(known) == sum(gone)
            elif what == "tidy":
                index.tidy()
            view = index.view()
            assert len(index) == len(world)
            assert sorted(view.ids[view.ids >= 0].tolist()) == sorted(world)
            query = self.vectors(rng, 1)[0]
            self.check(view, world, query, limit, None)
            self.check(view, world, query, limit, rng.random(len(view.ids)) < rng.choice([0.0, 0.01, 0.5, 1.0]))
            listed = rng.integers(0, max(len(view.ids), 1), min(len(view.ids), 20)).astype(np.int32)
            self.check(view, world, query, limit, listed)

    @_INHERITED
    @given(st.integers(0, 2**32), st.integers(1, 700), st.integers(0, 50))
    def test_by_rows_of_a_picture(self, seed: int, count: int, limit: int) -> None:
        rng = np.random.default_rng(seed)
        index, world = self.filled(rng, count)
        index.remove(2 * rng.integers(0, count, 5))
        view = index.view()
        rows = rng.permutation(count + 10).astype(np.int32)[: len(view.ids)]
        rows[rng.random(len(rows)) < 0.1] = -1
        ids = np.full(count + 10, -1, np.int64)
        ids[rows[rows >= 0]] = view.ids[rows >= 0]
        eligible = rng.random(len(ids)) < 0.6
        query = self.vectors(rng, 1)[0]
        allowed = eligible & (ids >= 0)
        self.check_found(view.search_rows(query, limit, rows, eligible), allowed, ids, world, query, limit)
        allowed[3:4] = False
        self.check_found(view.search_rows(query, limit, rows, eligible, 3), allowed, ids, world, query, limit)

    def test_a_view_never_changes(self) -> None:
        rng = np.random.default_rng(0)
        index, _ = self.filled(rng, 3_000)
        query = self.vectors(rng, 1)[0]
        views = []
        for _round in range(30):
            view = index.view()
            views.append((view, view.version, view.ids, view.search(query, 3_000)))
            index.put(rng.integers(0, 9_000, 400), self.vectors(rng, 400))
            index.remove(rng.integers(0, 9_000, 400))
            index.tidy()
        for view, version, ids, found in views:
            assert view.version == version
            assert (view.ids == ids).all()
            again = view.search(query, 3_000)
            assert again.rows.tobytes() == found.rows.tobytes()
            assert again.scores.tobytes() == found.scores.tobytes()
        assert [version for _, version, _, _ in views] == sorted({version for _, version, _, _ in views})

    def test_an_empty_index_finds_nothing(self) -> None:
        index = self.make(self.dimensions)
        query = np.ones(self.dimensions, np.float32)
        assert len(index) == 0
        assert not index.tidy()
        assert index.remove(np.array([1, 2])) == 0
        index.put(np.empty(0, np.int64), np.empty((0, self.dimensions), np.float32))
        for allowed in (None, np.empty(0, np.bool_), np.empty(0, np.int32)):
            assert len(index.view().search(query, 10, allowed).rows) == 0
        index.put(np.array([7, 8]), np.ones((2, self.dimensions), np.float32))
        assert index.remove(np.array([8, 7, 7])) == 2
        while index.tidy():
            pass
        assert len(index.view().search(query, 10).rows) == 0

    def test_what_cannot_be_is_refused_and_changes_nothing(self) -> None:
        rng = np.random.default_rng(0)
        index, world = self.filled(rng, 20)
        good = self.vectors(rng, 2)
        for ids, vectors in (
            (np.array([1, 3]), np.where(np.arange(self.dimensions) == 1, np.nan, good).astype(np.float32)),
            (np.array([1, 3]), np.full_like(good, np.inf)),
            (np.array([1, -3]), good),
            (np.array([1, 3, 5]), good),
            (np.array([1, 3]), good[:, 1:]),
            (np.array([1, 3], np.int32), good),
        ):
            with pytest.raises(ValueError, match=r"expected|finite"):
                index.put(ids, vectors)  # type: ignore[arg-type]
        view = index.view()
        assert sorted(view.ids[view.ids >= 0].tolist()) == sorted(world)
        for query in (np.ones(self.dimensions + 1, np.float32), np.full(self.dimensions, np.nan, np.float32)):
            with pytest.raises(ValueError, match="query"):
                view.search(query, 5)
        with pytest.raises(ValueError, match="mask"):
            view.search(good[0], 5, np.ones(len(view.ids) + 1, np.bool_))
        with pytest.raises(ValueError, match="places"):
            view.search(good[0], 5, np.array([len(view.ids)], np.int32))

    def test_nothing_and_equal_vectors(self) -> None:
        """Zeros are vectors, too; of equal ones the lower place is first."""
        index = self.make(self.dimensions)
        index.put(np.arange(5), np.zeros((5, self.dimensions), np.float32))
        index.put(np.arange(5, 9), np.ones((4, self.dimensions), np.float32))
        query = np.ones(self.dimensions, np.float32)
        found = index.view().search(query, 6)
        assert sorted(index.view().ids[found.rows].tolist()[:4]) == [5, 6, 7, 8]
        assert found.rows[:4].tolist() == sorted(found.rows[:4].tolist())
        assert np.abs(index.view().search(np.zeros_like(query), 9).scores).max() == 0.0

    def test_readers_go_on_while_it_changes(self) -> None:
        """A reader meets no error, and nothing that was removed before it took its view."""
        rng = np.random.default_rng(0)
        index, world = self.filled(rng, 4_000)
        queries = self.vectors(rng, 16)
        gone: set[int] = set()  # ids are never used again once they are in here
        errors: list[str] = []
        searches = [0]
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                before = frozenset(gone)
                view = index.view()
                found = view.search(queries[searches[0] % len(queries)], 300)
                ids = view.ids[found.rows].tolist()
                if before.intersection(ids) or min(ids, default=0) < 0 or not np.isfinite(found.scores).all():
                    errors.append("found what had left")
                searches[0] += 1

        def guarded() -> None:
            try:
                read()
            finally:
                done.set()  # so that the writer does not wait for a reader that failed

        reader = threading.Thread(target=guarded)
        reader.start()
        fresh = 1
        while searches[0] < 50 and not done.is_set():
            ids = fresh + 2 * np.arange(200)
            fresh += 400
            self.put(index, world, ids, self.vectors(rng, 200))
            some = rng.choice(np.array(list(world)), 100)
            self.put(index, world, some, self.vectors(rng, 100))
            leaving = rng.choice(np.array(list(world)), 200, replace=False)
            index.remove(leaving)
            for item in leaving.tolist():
                del world[item]
            gone |= set(leaving.tolist())
            index.tidy()
        done.set()
        reader.join()
        assert errors == []
        assert searches[0] >= 50
        view = index.view()
        assert sorted(view.ids[view.ids >= 0].tolist()) == sorted(world)
        self.check(view, world, queries[0], 100, None)

    @pytest.mark.parametrize("order", ["the same", "any", "few at a time"])
    def test_memory_comes_back(self, order: str) -> None:
        """10,000 items come and 10,000 leave: as many bytes as before, but for 5 %."""
        rng = np.random.default_rng(0)
        index, world = self.filled(rng, 10_000)
        self.tidy(index)
        before = index.nbytes
        fresh = 1 + 2 * np.arange(10_000)
        each = 1_000 if order != "few at a time" else 50
        for begin in range(0, 10_000, each):
            self.put(index, world, fresh[begin : begin + each], self.vectors(rng, each))
        assert index.nbytes > before
        leaving = fresh if order == "the same" else rng.choice(np.array(list(world)), 10_000, replace=False)
        for begin in range(0, 10_000, each):
            assert index.remove(leaving[begin : begin + each]) == each
        for item in leaving.tolist():
            del world[item]
        self.tidy(index)
        assert abs(index.nbytes - before) <= 0.05 * before
        view = index.view()
        assert sorted(view.ids[view.ids >= 0].tolist()) == sorted(world)
        self.check(view, world, self.vectors(rng, 1)[0], 200, None)
