"""Neighbours by vectors that items bring along: the contract, plain arithmetic, and one picture after another."""

from __future__ import annotations

import dataclasses
import time
from unittest.mock import Mock

import numpy as np
import pytest

from penchant.core.items import LISTED, UNLISTED, Items
from penchant.core.query import Query
from penchant.core.stages import Source
from penchant.retrieval.vector_source import Vectors
from penchant.retrieval.vectors.live import LiveVectors
from penchant.retrieval.vectors.watch import Watch
from penchant.telemetry import VECTOR_BYTES, VECTOR_ITEMS, VECTOR_RECALL
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import make_items, make_query, random_items

SIZE = 8


def some_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Some missing, some without a direction, some the same, of all lengths."""
    vectors = rng.standard_normal((count, SIZE)) * rng.lognormal(0, 3, (count, 1))
    kind = rng.random(count)
    vectors[kind < 0.1] = np.nan
    vectors[(kind > 0.1) & (kind < 0.15)] = 0.0
    vectors[kind > 0.9] = 1.0
    return vectors.astype(np.float32)


class TestVectors(SourceContract):
    def make(self, items: Items) -> Source:
        return Vectors("vectors", "embedding")

    def items(self, rng: np.random.Generator, count: int) -> Items:
        return dataclasses.replace(random_items(rng, count), vectors={"embedding": some_vectors(rng, count)}, tables={})


class TestWithoutVectors(SourceContract):
    def make(self, items: Items) -> Source:
        return Vectors("vectors", None)


def expected(query: Query) -> np.ndarray:
    """Cosine of every row to the direction of the history; NaN where there is none."""
    vectors = query.items.vectors["embedding"].astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    past = [query.seed_row] if query.seed_row >= 0 else query.history.tolist()
    past = [row for row in past if lengths[row] > 0][:20]
    with np.errstate(invalid="ignore"):
        units = vectors / lengths[:, None]
    mean = sum(0.8**k * units[row] for k, row in enumerate(past))
    scores: np.ndarray = units @ (mean / np.linalg.norm(mean))
    return scores


def prepared(source: Vectors, items: Items) -> Items:
    items.tables[source.name] = source.prepare(items)
    return items


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_cosines_and_the_best_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = Vectors("vectors", "embedding")
    vectors = some_vectors(rng, 400)
    vectors[:5] = rng.standard_normal((5, SIZE))
    items = prepared(source, make_items(400, vectors={"embedding": vectors}))
    query = make_query(items, history=rng.permutation(5), seed_row=3 if seed % 2 else -1)
    true = expected(query)
    there = np.isfinite(true)
    scores = source.score_rows(query, np.arange(400, dtype=np.int32))
    assert (np.isfinite(scores) == there).all()
    assert np.abs(scores[there] - true[there]).max() < 0.02
    may = query.eligible & there & (true > 0)
    may[3 if seed % 2 else slice(0, 5)] = False
    rows, found = source.retrieve(query, 30)
    assert may[rows].all()
    assert found.min() >= np.sort(true[may])[-30] - 0.02


def test_the_item_that_weighed_most_is_named() -> None:
    source = Vectors("vectors", "embedding")
    items = prepared(source, make_items(5, vectors={"embedding": [[1, 0], [0, 1], [5, 1], [1, 5], [np.nan, np.nan]]}))
    query = make_query(items, history=[1, 4, 0])
    assert source.contributor(query, np.array([2, 3, 4], np.int32)).tolist() == [0, 1, -1]
    assert source.contributor(make_query(items), np.array([2], np.int32)).tolist() == [-1]


def test_what_was_seen_is_left_out_but_not_of_what_is_like_an_item() -> None:
    source = Vectors("vectors", "embedding")
    items = prepared(source, make_items(4, vectors={"embedding": [[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]]}))
    assert source.retrieve(make_query(items, history=[0], seen=[0, 2]), 9).rows.tolist() == [1, 3]
    assert source.retrieve(make_query(items, history=[0], seen=[0, 2], seed_row=0), 9).rows.tolist() == [1, 2, 3]


def test_each_picture_changes_only_what_it_must() -> None:
    """Against a new index a picture: rows come, change, go, are unlisted and listed again; and nothing stays behind."""
    rng = np.random.default_rng(5)
    source, before, count = Vectors("vectors", "embedding"), None, 300
    vectors, status = some_vectors(rng, count), np.full(count, LISTED, np.uint8)
    for step in range(25):
        grown = count + int(rng.integers(0, 200)) * (step % 3 == 0)
        vectors = np.concatenate([vectors, some_vectors(rng, grown - count)])
        status = np.concatenate([status, np.full(grown - count, LISTED, np.uint8)])
        count = grown
        for row in rng.integers(0, count, 5):
            vectors[row] = some_vectors(rng, 1)[0]
        status[rng.integers(0, count, 40)] = LISTED if step % 2 else UNLISTED
        items = make_items(count, status=status.tolist(), vectors={"embedding": vectors.copy()})
        fresh = Vectors("vectors", "embedding")
        history = rng.integers(0, count, 5)
        answers = []
        for one in (source, fresh):
            query = make_query(prepared(one, items), history=history)
            answers.append(one.retrieve(query, 50))
        assert answers[0].rows.tolist() == answers[1].rows.tolist()
        assert answers[0].scores.tobytes() == answers[1].scores.tobytes()
        if before is not None:  # the picture before is answered as it was
            query, rows = before
            assert source.retrieve(query, 50).rows.tolist() == rows.tolist()
        prepared(source, items)
        before = (query := make_query(items, history=history)), source.retrieve(query, 50).rows
    assert VECTOR_ITEMS.labels("vectors")._value.get() == len(source._live)
    assert VECTOR_BYTES.labels("vectors")._value.get() > 0


def test_a_picture_without_changes_makes_nothing() -> None:
    source = Vectors("vectors", "embedding")
    items = make_items(50, vectors={"embedding": some_vectors(np.random.default_rng(1), 50)})
    assert source.prepare(items) is source.prepare(dataclasses.replace(items, position=9))


def test_another_size_starts_anew() -> None:
    live = LiveVectors()
    live.follow(np.ones((5, 3), np.float32), np.ones(5, np.bool_))
    table = live.follow(np.ones((4, 2), np.float32), np.ones(4, np.bool_))
    assert table.view.search(np.ones(2, np.float32), 9).rows.tolist() == [0, 1, 2, 3]
    assert len(live.follow(np.ones((0, 2), np.float32), np.ones(0, np.bool_)).view.ids) == 0


def test_one_of_many_requests_is_compared_with_an_exact_scan() -> None:
    rng = np.random.default_rng(2)
    items = make_items(600, vectors={"embedding": some_vectors(rng, 600)})
    source = Vectors("watched", "embedding", _watch=Watch(share=1.0))
    query = make_query(prepared(source, items), history=[0, 1, 2], eligible=rng.random(600) < 0.5)
    source.retrieve(query, 50)
    source.prepare(items)
    assert 0.9 <= VECTOR_RECALL.labels("watched")._value.get() <= 1.0
    assert Watch(share=1.0).look() is None


def test_clusters_are_made_beside_the_pictures() -> None:
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'penchant[faiss]'")
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((3_000, SIZE)).astype(np.float32)
    listed = np.ones(3_000, np.bool_)
    live = LiveVectors(many=1_000)
    query = vectors[7] / np.linalg.norm(vectors[7])
    for step in range(60):
        vectors = vectors.copy()
        vectors[step] = rng.standard_normal(SIZE)
        listed = listed.copy()
        listed[100 + step] = False
        table = live.follow(vectors, listed)
        true = table.units(np.arange(len(vectors))) @ query
        true[~listed] = -np.inf
        found = table.view.search_rows(query, 20, table.to_row, listed)
        assert listed[found.rows].all()
        assert np.isin(np.argsort(-true)[:20], found.rows).mean() >= 0.8
        scores = table.view.scores(query, table.of_row[: step + 1])
        assert np.abs(scores - true[: step + 1])[listed[: step + 1]].max() < 0.1
        assert len(live) == np.count_nonzero(listed)
        if live._thread is not None and step > 20:
            live._thread.join()
        time.sleep(0.001)
    assert live._index.view().clusters is not None  # type: ignore[attr-defined]


def test_a_search_that_cannot_be_looked_at_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    table, watch = LiveVectors().follow(some_vectors(rng, 50), np.ones(50, np.bool_)), Watch(share=1.0)
    watch.note(0, table, np.eye(1, SIZE, dtype=np.float32)[0], 3, np.ones(50, np.bool_))
    monkeypatch.setattr(watch._monitor, "look", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        watch.look()
    assert watch.look() is None
