"""The sequence encoder as a server runs it: against loops, batches against single histories, and the source."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.errors import ArtifactError
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.stages import Contributing, RowScorer, Source
from penchant.retrieval.sequence.encoder import encode
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.source import Sequence
from penchant.retrieval.sequence.weights import Block, Shape, of_block, seconds
from penchant.testing.contracts.source import SourceContract
from penchant.testing.oracles.sequence import place_after, state_after
from penchant.testing.strategies import generators, make_items, make_query

ITEMS = 30
SMALL = Shape(dim=8, blocks=2, heads=2, length=6)
SHAPES = (
    SMALL,
    Shape(dim=8, blocks=1, heads=1, length=6, widening=3),
    Shape(dim=6, blocks=3, heads=3, length=5, times=True),
    Shape(dim=8, blocks=2, heads=2, length=6, block="hstu"),
    Shape(dim=8, blocks=2, heads=1, length=6, block="hstu", times=True, temperature=0.1),
    Shape(dim=8, blocks=2, heads=2, length=6, temperature=0.05),
)


def names(count: int) -> np.ndarray:
    return np.array([hash_id(f"i{row}") for row in range(count)], np.int64)


def drawn(items: np.ndarray, shape: Shape, seed: int = 0) -> SequenceModel:
    """Every array is drawn, so that none can be forgotten without being missed."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, size in shape.arrays(len(items)).items():
        centre = 1.0 if name.endswith("_scale") else 0.0
        weights[name] = (centre + 0.4 * rng.standard_normal(size)).astype(np.float32)
    return SequenceModel(items, weights, shape)


class TestSequence(SourceContract):
    def make(self, items: Items) -> Source:
        """With a model of three quarters of the items, and of two that the picture does not have."""
        known = np.array([item for item, row in items.rows.items() if row % 4], np.int64)
        known = np.append(np.random.default_rng(items.count).permutation(known), [7, 8])
        return Sequence("sequence", drawn(known, SMALL))


class TestSequencePointwise(SourceContract):
    def make(self, items: Items) -> Source:
        known = np.array([item for item, row in items.rows.items() if row % 3], np.int64)
        return Sequence("sequence", drawn(known, SHAPES[3]))


class TestSequenceWithTimes(SourceContract):
    def make(self, items: Items) -> Source:
        known = np.array([item for item, row in items.rows.items() if row % 3], np.int64)
        return Sequence("sequence", drawn(known, SHAPES[2]))


class TestSequenceWithoutModel(SourceContract):
    def make(self, items: Items) -> Source:
        return Sequence("sequence")


@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=15)
@given(rng=generators(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_a_batch_is_its_histories_one_by_one(shape: Shape, rng: np.random.Generator, lengths: list[int]) -> None:
    model = drawn(names(ITEMS), shape)
    width = max(lengths)
    past, times = np.full((len(lengths), width), -1, np.int32), np.zeros((len(lengths), width), np.int32)
    for row, length in enumerate(lengths):
        past[row, width - length :] = rng.integers(0, ITEMS, length)
        times[row, width - length :] = np.cumsum(rng.integers(0, 5_000, length))
    found = encode(model, past, times, terms=True)
    for row, length in enumerate(lengths):
        mine, when = past[row, width - length :], times[row, width - length :]
        expected = state_after(model, mine.tolist(), when.tolist())
        np.testing.assert_allclose(found.states[row], expected, rtol=2e-4, atol=2e-4)
        alone = encode(model, mine[None], when[None], terms=True)
        assert alone.terms is not None
        assert found.terms is not None
        np.testing.assert_allclose(alone.states[0], found.states[row], rtol=2e-5, atol=2e-5)
        # Without terms a gated model has a way of its own for one history.
        single = encode(model, mine[None], when[None]).states[0]
        np.testing.assert_allclose(single, found.states[row], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(single, expected, rtol=2e-4, atol=2e-4)
        kept = min(length, shape.length)
        np.testing.assert_allclose(alone.terms[0, -kept:], found.terms[row, -kept:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 17, 63, 200, 210])
@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize(
    ("heads", "blocks", "spread"),
    [(1, 1, 0.1), (1, 2, 0.1), (4, 3, 0.1), (2, 2, 3.0)],  # the last: gates and softmax weights of nothing and of all
)
def test_one_history_of_full_size_is_as_in_a_batch(
    length: int, times: bool, heads: int, blocks: int, spread: float
) -> None:
    rng = np.random.default_rng(length)
    shape = Shape(heads=heads, blocks=blocks, times=times)
    weights = {name: (spread * rng.standard_normal(size)).astype(np.float32) for name, size in shape.arrays(50).items()}
    model = SequenceModel(np.arange(50, dtype=np.int64), weights, shape)
    past = rng.integers(0, 50, (1, length)).astype(np.int32)
    # Gaps of every order of magnitude, up to the most that there is.
    when = np.sort(2 ** rng.uniform(0, 31, (1, length)), axis=1).astype(np.int32)
    single = encode(model, past, when, terms=True)
    batch = encode(model, np.repeat(past, 2, axis=0), np.repeat(when, 2, axis=0), terms=True)
    assert single.terms is not None
    assert batch.terms is not None
    # Terms are of the size of the largest: what little a place gives is a difference of what is not small.
    bound = 1e-4 * max(1.0, float(np.abs(batch.terms[0]).max()))
    np.testing.assert_allclose(single.states[0], batch.states[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(single.terms[0], batch.terms[0], rtol=1e-4, atol=bound)
    assert encode(model, past, when).states.tobytes() == single.states.tobytes()
    if length < 100 and spread < 1:  # the loops take a second for the longest, and their sigmoid does not saturate
        expected = state_after(model, past[0].tolist(), when[0].tolist())
        np.testing.assert_allclose(single.states[0], expected, rtol=1e-4, atol=1e-4)
    assert single.states.dtype == single.terms.dtype == np.float32


def test_times_between_visits_fall_into_the_same_buckets() -> None:
    bounds = np.concatenate([[0], 2 ** np.arange(31) - 1, 2 ** np.arange(31), [np.iinfo(np.int32).max]])
    when = np.stack([np.zeros(len(bounds)), bounds], axis=1).astype(np.int32)
    model = drawn(names(ITEMS), Shape(dim=8, blocks=2, heads=2, length=2, times=True))
    past = np.tile(np.array([[3, 4]], np.int32), (len(bounds), 1))
    together = encode(model, past, when).states
    for row in range(len(bounds)):
        alone = encode(model, past[:1], when[row : row + 1]).states[0]
        np.testing.assert_allclose(alone, together[row], rtol=1e-4, atol=1e-5)


def test_one_history_may_have_absent_places() -> None:
    model = drawn(names(ITEMS), SMALL)
    found = encode(model, np.array([[-1, -1, 4, 9]], np.int32)).states
    np.testing.assert_allclose(found, encode(model, np.array([[4, 9]], np.int32)).states, atol=1e-4)


def test_no_history_has_no_state() -> None:
    found = encode(drawn(names(ITEMS), SMALL), np.empty((2, 0), np.int32))
    assert found.states.tolist() == np.zeros((2, 8)).tolist()


def test_a_model_with_times_asks_for_them() -> None:
    model = drawn(names(ITEMS), SHAPES[2])
    with pytest.raises(ValueError, match="needs those of the history"):
        encode(model, np.array([[1, 2]], np.int32))
    assert seconds(np.array([5_999, 6_000, 70_000_000], np.int64)).tolist() == [0, 1, 69_995]


def test_a_model_survives_its_parts() -> None:
    for shape in SHAPES:
        model = drawn(names(ITEMS), shape)
        again = SequenceModel.from_parts(model.parts())
        assert again.shape == shape
        assert again.parts().keys() == model.parts().keys()
        assert all((again.parts()[name] == value).all() for name, value in model.parts().items())


def test_arrays_that_do_not_fit_are_refused() -> None:
    parts = drawn(names(ITEMS), SMALL).parts()
    spoilt = {
        "items": [parts["items"][:-1], np.zeros_like(parts["items"]), parts["items"].astype(np.float64)],
        "shape": [parts["shape"][:-1], parts["shape"] * np.nan, parts["shape"] * 0, parts["shape"] - 100],
        "1.mix": [parts["1.mix"].T, parts["1.mix"] * np.float32(np.inf), parts["1.mix"].astype(np.float64)],
    }
    for name, values in spoilt.items():
        for value in values:
            with pytest.raises(ArtifactError, match="do not fit together"):
                SequenceModel.from_parts(parts | {name: value})
        with pytest.raises(ArtifactError, match="lacks the array"):
            SequenceModel.from_parts({key: value for key, value in parts.items() if key != name})


def test_the_live_history_is_read_in_order() -> None:
    source = Sequence("sequence", drawn(names(ITEMS), SMALL), depth=3)
    picture = make_items(ITEMS + 2, sources=[source])
    query = make_query(picture, history=[3, ITEMS + 1, 17, 5, 9])  # one that the model does not know, one too many
    assert source.model is not None
    expected = source.model.factors.astype(np.float64) @ state_after(source.model, [5, 17, 3])
    expected -= expected.mean()

    scores = source.score_rows(query, np.arange(ITEMS + 2, dtype=np.int32))
    np.testing.assert_allclose(scores[:ITEMS], expected, atol=1e-4)
    assert np.isnan(scores[ITEMS:]).all()
    rows, found = source.retrieve(query, 100)
    assert set(rows) == set(np.flatnonzero(scores > 0))
    other = source.retrieve(make_query(picture, history=[17, 3, 5]), 100)
    assert other.scores.tobytes() != found.tobytes()


def test_the_times_of_the_live_history_are_read() -> None:
    source = Sequence("sequence", drawn(names(ITEMS), SHAPES[2]), depth=3)
    picture = make_items(ITEMS + 1, sources=[source])
    visits = np.array([900_000, 880_000, 870_500, 500, 0], np.int64)
    query = dataclasses.replace(make_query(picture, history=[3, ITEMS, 17, 5, 9]), history_times=visits.copy())
    assert source.model is not None
    state = encode(source.model, np.array([[5, 17, 3]], np.int32), np.array([[0, 870, 900]], np.int32)).states[0]
    expected = source.model.factors @ state
    scores = source.score_rows(query, np.arange(ITEMS, dtype=np.int32))
    np.testing.assert_allclose(scores, expected - expected.mean(), atol=1e-5)
    visits[0] += 10**7
    later = dataclasses.replace(query, history=query.history.copy(), history_times=visits)
    assert source.score_rows(later, np.arange(ITEMS, dtype=np.int32)).tobytes() != scores.tobytes()


def test_a_seed_takes_the_place_of_history() -> None:
    source = Sequence("sequence", drawn(names(ITEMS), SMALL))
    picture = make_items(ITEMS, sources=[source])
    seeded = source.retrieve(make_query(picture, history=[1, 2], seed_row=9), 10).rows.tolist()
    plain = source.retrieve(make_query(picture, history=[9]), 11).rows.tolist()
    assert seeded == [row for row in plain if row != 9][:10]


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[3]])
@settings(deadline=None, max_examples=15)
@given(rng=generators())
def test_the_place_that_gave_most_is_named(shape: Shape, rng: np.random.Generator) -> None:
    assert isinstance(Sequence("sequence"), Contributing)
    assert isinstance(Sequence("sequence"), RowScorer)
    source = Sequence("sequence", drawn(names(ITEMS - 3), shape), depth=6)
    picture = make_items(ITEMS, sources=[source])
    query = make_query(picture, history=rng.choice(ITEMS, rng.integers(0, 9), replace=False))
    if rng.random() < 0.2:
        query = dataclasses.replace(query, seed_row=int(rng.integers(ITEMS)))
    rows = rng.permutation(ITEMS).astype(np.int32)[:12]
    named = source.contributor(query, rows)
    assert named.dtype == np.int32
    assert (named[5:6] == source.contributor(query, rows[5:6])).all()  # whoever else is asked about

    past = [query.seed_row] if query.seed_row >= 0 else query.history.tolist()
    past = [row for row in past if row < ITEMS - 3][:6]
    model = source.model
    assert model is not None
    for row, found in zip(rows.tolist(), named.tolist(), strict=True):
        if row >= ITEMS - 3 or not past:
            assert found == -1
            continue
        terms = encode(model, np.array([past[::-1]], np.int32), terms=True).terms[0, ::-1] @ (
            model.factors[row] - model.factors.mean(axis=0)
        )
        if found == -1:
            assert terms.max() <= 1e-5
        else:
            assert terms[past.index(found)] >= terms.max() - 1e-5


@pytest.mark.parametrize("block", ["ligr", "hstu"])
def test_terms_add_up_to_what_the_block_took(block: Block) -> None:
    shape = dataclasses.replace(SMALL, blocks=1, block=block)
    model = drawn(names(ITEMS), shape)
    # Nothing else may be added to the input of the block: no position-wise part, no shift after attention.
    for name in ("0.narrow", "0.inner_shift"):
        if name in model.weights:
            model.weights[name][:] = 0
    past = [4, 9, 2, 4]
    x = [model.weights["embedding"][item].astype(float) for item in past]
    x = [row + model.weights["places"][len(past) - 1 - place] for place, row in enumerate(x)]
    w = {name: value.astype(np.float64) for name, value in of_block(model.weights, 0).items()}
    taken = place_after(w, shape, x, len(past) - 1) - x[-1]
    terms = encode(model, np.array([past], np.int32), terms=True).terms[0]
    np.testing.assert_allclose(terms.sum(axis=0), taken * model.weights["last_scale"], atol=1e-4)
