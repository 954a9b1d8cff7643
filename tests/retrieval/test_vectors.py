"""Every index of vectors keeps the contract; the parts of the exact one against plain versions of them."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penchant.core.errors import SettingsError
from penchant.core.hashing import hash_id
from penchant.retrieval.vectors.codes import BLOCK, encode, padded, question, scan
from penchant.retrieval.vectors.exact import ExactIndex
from penchant.retrieval.vectors.index import VectorIndex
from penchant.retrieval.vectors.ivf import FaissIndex
from penchant.retrieval.vectors.monitor import RecallMonitor
from penchant.retrieval.vectors.places import Places
from penchant.retrieval.vectors.segments import WIDTH
from penchant.retrieval.vectors.select import best
from penchant.testing.contracts.vector_index import VectorIndexContract
from penchant.testing.oracles.retrieval import best_rows


class TestExact(VectorIndexContract):
    def make(self, dimensions: int) -> VectorIndex:
        return ExactIndex(dimensions)


class TestExactOfOddDimensions(VectorIndexContract):
    dimensions = 5

    def make(self, dimensions: int) -> VectorIndex:
        return ExactIndex(dimensions)


@pytest.mark.skipif(find_spec("faiss") is None, reason="FAISS is not installed: pip install faiss-cpu")
class TestFaiss(VectorIndexContract):
    """With clusters from 1,000 items on, so that every test crosses the line."""

    least_recall = 0.8

    def vectors(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Of lengths that are alike: one range of bytes is for all."""
        made = super().vectors(rng, count)
        return made / np.linalg.norm(made, axis=1, keepdims=True) * rng.uniform(0.9, 1.1, (count, 1)).astype(np.float32)

    def make(self, dimensions: int) -> VectorIndex:
        return FaissIndex(dimensions, least=1_000, probes=128)


@pytest.mark.skipif(find_spec("faiss") is not None, reason="FAISS is installed")
def test_without_faiss_it_says_what_to_install() -> None:
    with pytest.raises(SettingsError, match=r"pip install .penchant.faiss."):
        FaissIndex(4)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 1_100))
def test_a_scan_is_the_sum_of_integers_times_two_scales(seed, dimensions, count) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((count, dimensions)) * rng.lognormal(0, 3, (count, 1))).astype(np.float32)
    vectors[rng.random(count) < 0.1] = 0.0
    blocks = -(-count // BLOCK)
    codes = np.zeros((blocks, padded(dimensions), BLOCK), np.int8)
    scales = np.full(blocks * BLOCK, np.nan, np.float32)
    encode(vectors, codes, scales, 0)
    query = rng.standard_normal(dimensions).astype(np.float32)
    whole, unit = question(query, dimensions)
    assert np.abs(whole * unit - np.pad(query, (0, len(whole) - dimensions))).max() <= unit

    flat = codes.transpose(0, 2, 1).reshape(-1, padded(dimensions))[:count, :dimensions]
    assert np.abs(flat * scales[:count, None].astype(np.float64) - vectors).max(initial=0) <= scales[:count].max()
    assert (np.abs(flat).max(axis=1) == np.where(vectors.any(axis=1), 127, 0)).all()
    wanted = rng.random(blocks) < 0.7
    out = np.zeros(count, np.float32)
    scan(codes, scales, whole, unit, wanted, out)
    plain = (flat.astype(np.int64) @ whole[:dimensions]).astype(np.float32) * (scales[:count] * unit) + np.float32(0.0)
    looked = np.repeat(wanted, BLOCK)[:count]
    assert out[looked].tobytes() == plain[looked].tobytes()
    assert np.isnan(out[~looked]).all()


few = st.sampled_from([0.0, 1.0, 1.5, -2.0, 3.0, np.nan, np.inf, -np.inf])


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 60).flatmap(
        lambda n: st.tuples(arrays(np.float32, n, elements=few | st.floats(-5, 5, width=32)), arrays(np.bool_, n))
    ),
    st.integers(-1, 70),
    st.integers(-1, 5),
    st.randoms(),
)
def test_the_best_are_what_sorting_gives(drawn, limit, without, random) -> None:
    scores, mask = drawn[0] + np.float32(0.0), drawn[1]
    check_best(scores, mask, limit, without, random)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 40_000), st.integers(1, 600), st.integers(1, 30), st.randoms())
def test_the_best_of_many(seed, count, limit, levels, random) -> None:
    """With many equal scores, narrow masks, holes, and all of the best where a sample does not see them."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 1 << levels, count).astype(np.float32)
    scores[rng.random(count) < rng.choice([0.0, 0.5, 0.999])] = np.nan
    if rng.random() < 0.3:
        scores.sort()
    check_best(scores, rng.random(count) < rng.choice([0.002, 0.3, 1.0]), limit, int(rng.integers(-1, 5)), random)


def check_best(scores, mask, limit, without, random) -> None:
    expected = best_rows(scores, mask, limit, -np.inf, without)
    found = best(scores, limit, mask, None, without)
    assert found.rows.tolist() == expected
    assert found.scores.tobytes() == scores[expected].tobytes()
    assert best(scores, limit).rows.tolist() == best_rows(scores, np.ones(len(scores), np.bool_), limit)

    to_row = np.arange(len(scores), dtype=np.int32)
    random.shuffle(to_row)
    shuffled = scores[to_row]
    to_row[: len(to_row) // 5] = -1
    seen = mask.copy()
    seen[np.setdiff1d(np.arange(len(scores)), to_row)] = False
    expected = best_rows(scores, seen, limit, -np.inf, without)
    found = best(shuffled, limit, mask, to_row, without)
    assert found.rows.tolist() == expected
    assert found.scores.tobytes() == scores[expected].tobytes()


def test_sums_over_many_dimensions_fit() -> None:
    """The largest bytes times the largest whole numbers of the query, 5,000 times."""
    index = ExactIndex(5_000)
    vectors = np.ones((2, 5_000), np.float32)
    vectors[1] = -1.0
    index.put(np.array([1, 2]), vectors)
    found = index.view().search(vectors[0], 2)
    assert found.scores.tolist() == pytest.approx([5_000.0, -5_000.0], rel=0.01)


def test_tiny_and_huge_vectors() -> None:
    index = ExactIndex(2)
    index.put(np.array([1, 2, 3]), np.array([[1e-44, 0], [1e-20, 1e-20], [1e19, -1e19]], np.float32))
    found = index.view().search(np.array([1.0, 0.0], np.float32), 3)
    assert index.view().ids[found.rows].tolist() == [3, 2, 1]
    assert found.scores.tolist() == pytest.approx([1e19, 1e-20, 0.0], rel=0.01, abs=1e-43)


def test_many_pieces() -> None:
    """Holes all over several pieces are filled from the end, in steps that each move few vectors."""
    rng = np.random.default_rng(0)
    index = ExactIndex(4)
    count = 3 * WIDTH + 100
    vectors = rng.standard_normal((count, 4)).astype(np.float32)
    index.put(np.arange(count), vectors)
    query = vectors[5]
    kept = np.sort(rng.choice(count, WIDTH + 50, replace=False))
    index.remove(np.setdiff1d(np.arange(count), kept))
    while index.tidy():
        pass
    view = index.view()
    assert [segment.count for segment in view.segments] == [WIDTH, 50]
    assert sorted(view.ids.tolist()) == kept.tolist()
    found = view.search(query, 200)
    best = kept[np.argsort(-(vectors[kept] @ query))][:200]
    assert len(np.intersect1d(view.ids[found.rows], best)) >= 195
    chosen = rng.permutation(view.places).astype(np.int32)[:9_000]
    everything = view.search(query, view.places)
    assert (
        dict(zip(chosen.tolist(), view.scores(query, chosen).tolist(), strict=True)).items()
        <= dict(zip(everything.rows.tolist(), everything.scores.tolist(), strict=True)).items()
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["add", "drop", "renew", "move"]), max_size=30))
def test_places_are_a_dictionary(seed, changes) -> None:
    rng = np.random.default_rng(seed)
    places, plain = Places(), dict[int, int]()
    column = np.full(2_000, -1, np.int64)

    def every() -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.array(list(plain), np.int64), np.array(list(plain.values()), np.int64))]

    for change in changes:
        size = int(rng.integers(0, 40))
        if change == "add":
            ids = np.setdiff1d(rng.integers(0, 300, size), list(plain))
            at = rng.choice(np.flatnonzero(column < 0), len(ids), replace=False)
            if not places.has_room(len(ids)):
                places.renew(len(ids), every())
            places.add(ids, at)
            column[at] = ids
            plain.update(zip(ids.tolist(), at.tolist(), strict=True))
        elif change == "drop" and plain:
            ids = np.unique(rng.choice(list(plain), size))
            at = np.array([plain.pop(item) for item in ids.tolist()], np.int64)
            places.drop(ids, at)
            column[at] = -1
        elif change == "move" and plain:
            ids = np.unique(rng.choice(list(plain), size))
            at = np.array([plain[item] for item in ids.tolist()], np.int64)
            to = rng.choice(np.flatnonzero(column < 0), len(ids), replace=False)
            places.move(ids, at, to)
            column[at] = -1
            column[to] = ids
            plain.update(zip(ids.tolist(), to.tolist(), strict=True))
        elif change == "renew":
            places.renew(0, every())
        assert places.count == len(plain)
        wanted = rng.integers(0, 320, 30)
        halves = [column[:1_000], column[1_000:]]
        assert places.find(wanted, halves, 1_000).tolist() == [plain.get(item, -1) for item in wanted.tolist()]


def watched(count: int = 2_000, limit: int = 50) -> tuple[ExactIndex, np.ndarray, RecallMonitor]:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((count, 16)).astype(np.float32)
    index = ExactIndex(16)
    index.put(np.arange(count), vectors)
    return index, vectors, RecallMonitor(lambda ids: vectors[ids], share=0.25)


def test_the_monitor_measures_recall() -> None:
    index, vectors, monitor = watched()
    assert np.isnan(monitor.recall().mean)
    assert monitor.recall()[1:] == (0.0, 1.0, 0)
    rng = np.random.default_rng(4)
    told = []
    for _query in range(40):
        query = rng.standard_normal(16).astype(np.float32)
        mask = rng.random(2_000) < 0.4
        best = np.flatnonzero(mask)[np.argsort(-(vectors[mask] @ query))[:50]]
        found = index.view().search(query, 50, mask).rows
        told.append(monitor.look(index.view(), query, 50, mask))
        assert told[-1] == len(np.intersect1d(found, best)) / 50
        if len(told) == 1:
            assert monitor.recall() == (told[0], 0.0, 1.0, 1)
    running = monitor.recall()
    assert running.mean == pytest.approx(np.mean(told))
    assert 0.9 < running.low < running.mean < running.high <= 1.0
    assert running.queries == 40
    assert np.isnan(monitor.look(index.view(), query, 50, np.zeros(2_000, np.bool_)))
    assert monitor.look(index.view(), query, 50, np.array([4, 5, 5], np.int32)) == 1.0
    assert monitor.recall().queries == 41


def test_the_monitor_sees_what_an_index_loses() -> None:
    """An index that lost half of its items' vectors is found out."""
    index, _, monitor = watched()
    index.put(np.arange(0, 2_000, 2), np.zeros((1_000, 16), np.float32))
    for seed in range(30):
        monitor.look(index.view(), np.random.default_rng(seed).standard_normal(16).astype(np.float32), 50)
    low, high = monitor.recall()[1:3]
    assert 0.4 < low < high < 0.65


def test_the_monitor_draws_its_share() -> None:
    _, _, monitor = watched()
    drawn = [monitor.wants(hash_id(f"request {n}")) for n in range(4_000)]
    assert 900 < sum(drawn) < 1_100
    with pytest.raises(ValueError, match="share"):
        RecallMonitor(lambda ids: np.empty((0, 1), np.float32), share=2.0)
