"""Two towers served: the contract, a plain computation beside it, and tables that follow the picture."""

from __future__ import annotations

import dataclasses
import sys
from subprocess import run

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from penchant.core.errors import ArtifactError
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.core.stages import Source
from penchant.retrieval.two_tower import source as module
from penchant.retrieval.two_tower.attributes import Reader, pairs
from penchant.retrieval.two_tower.model import TwoTowerModel
from penchant.retrieval.two_tower.source import TwoTower
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import generators, make_items, make_query, make_user, random_items, random_query

BUCKETS, D, H, HEADS = 64, 6, 5, 2


def model(items: Items, *, seed: int = 5) -> TwoTowerModel:
    """Random weights: of three quarters of the items, of an item that the picture lacks, and of half of the buckets."""
    rng = np.random.default_rng(seed)
    known = np.array([one for one, row in items.rows.items() if row % 4] + [7], np.int64)
    slots = np.where(rng.random(BUCKETS) < 0.5, -1, 0).astype(np.int32)
    slots[slots == 0] = np.arange((slots == 0).sum())
    person = np.where(np.arange(BUCKETS) % 3 == 0, 0, -1).astype(np.int32)
    person[person == 0] = np.arange((person == 0).sum())

    def drawn(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    return TwoTowerModel(
        items=known,
        ids=drawn(len(known), D),
        attributes=np.array(["category", "genres", "nowhere", "title"]),
        numbers=np.array(["listed_at", "price", "released_at"]),
        knots=np.array([[0.0, 1e12, 2e12], [0.0, 10.0, 50.0], [0.0, 1.7e12, 2e12]]),
        slots=slots,
        tokens=drawn(int(slots.max()) + 1, D),
        item_in=drawn(D, H),
        item_in_bias=drawn(H),
        item_out=drawn(H, D),
        item_out_bias=drawn(D),
        start=drawn(D),
        queries=drawn(HEADS, D),
        slopes=np.abs(drawn(HEADS)),
        person_slots=person,
        person_tokens=drawn(int(person.max()) + 1, D),
        person_in=drawn(HEADS * D, H),
        person_in_bias=drawn(H),
        person_out=drawn(H, D),
        person_out_bias=drawn(D),
    )


class TestTwoTower(SourceContract):
    def make(self, items: Items) -> Source:
        return TwoTower("two-tower", model(items), depth=5)


class TestTwoTowerWithoutModel(SourceContract):
    def make(self, items: Items) -> Source:
        return TwoTower("two-tower")


def plain_item(one: TwoTowerModel, items: Items, row: int) -> NDArray[np.float64] | None:
    """The vector of a row, token by token."""
    told: list[tuple[str, str, float]] = []
    code = items.categories["category"].codes[row]
    if code >= 0:
        told.append(("category", items.categories["category"].vocabulary.values[code], 1.0))
    tags = items.tags["genres"]
    genres = [tags.vocabulary.values[code] for code in tags.codes[tags.offsets[row] : tags.offsets[row + 1]]]
    words = list(dict.fromkeys((items.texts["title"][row] or "").split()))
    for name, values in (("genres", genres), ("title", words)):
        told += [(name, value, 1 / np.sqrt(len(values))) for value in values]
    columns = {
        "listed_at": float(items.listed_at[row]) or np.nan,
        "price": items.numbers["price"][row],
        "released_at": np.nan if items.timestamps["released_at"][row] == -1 else items.timestamps["released_at"][row],
    }
    for at, (name, value) in enumerate(columns.items()):
        if np.isfinite(value):
            place = np.interp(value, one.knots[at], [0, 1, 2])
            below = min(int(place), 1)
            told += [(name, f"#{knot}", 1 - abs(place - knot)) for knot in (below, below + 1)]
    x, anything = np.zeros(D), False
    for name, value, share in told:
        slot = one.slots[(hash_id(value) ^ hash_id(name)) % BUCKETS]
        if slot >= 0:
            x += share * one.tokens[slot]
            anything = True
    index = np.flatnonzero(one.items == hash_id(items.ids[row]))
    if len(index):
        x += one.ids[index[0]]
    elif not anything:
        return None
    return x + np.maximum(x @ one.item_in + one.item_in_bias, 0) @ one.item_out + one.item_out_bias


def plain_scores(one: TwoTowerModel, query: Query, depth: int) -> NDArray[np.float64]:
    """The score of every row, NaN where there is none."""
    vectors = [plain_item(one, query.items, row) for row in range(query.items.count)]
    past = [query.seed_row] if query.seed_row >= 0 else query.history.tolist()
    found = [vectors[row] for row in past]
    history = [vector for vector in found if vector is not None][:depth]
    pooled = []
    for head in range(HEADS):
        keys = [*history, one.start]
        logits = [one.queries[head] @ vector - one.slopes[head] * np.log1p(k) for k, vector in enumerate(history)]
        logits.append(one.queries[head] @ one.start)
        weights = np.exp(logits) / np.exp(logits).sum()
        pooled.append(sum(weight * key for weight, key in zip(weights, keys, strict=True)))
    person = np.mean(pooled, axis=0)
    slots = one.person_slots[pairs({**query.user.attributes, **query.context}, BUCKETS)]
    if (slots >= 0).any():
        person = person + one.person_tokens[slots[slots >= 0]].mean(axis=0)
    hidden = np.maximum(np.concatenate(pooled) @ one.person_in + one.person_in_bias, 0)
    person = person + hidden @ one.person_out + one.person_out_bias
    return np.array([np.nan if vector is None else vector @ person for vector in vectors])


@settings(deadline=None, max_examples=30)
@given(rng=generators())
def test_scores_are_those_of_a_plain_computation(rng: np.random.Generator) -> None:
    items = random_items(rng, int(rng.integers(1, 30)))
    one = TwoTower("two-tower", model(items), depth=4)
    items.tables["two-tower"] = one.prepare(items)
    query = random_query(rng, items, seeded=bool(rng.integers(2)))
    user = dataclasses.replace(query.user, attributes={"plan": "gold", "age": int(rng.integers(4))})
    query = dataclasses.replace(query, user=user, context={"device": "tv"})
    assert one.model is not None
    expected = plain_scores(one.model, query, 4)
    scores = one.score_rows(query, np.arange(items.count, dtype=np.int32))
    np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=2e-3)
    rows = one.retrieve(query, items.count).rows
    wanted = np.flatnonzero(query.eligible & np.isfinite(expected))
    assert set(rows.tolist()) == set(wanted.tolist()) - {query.seed_row}


def test_only_rows_that_changed_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    items = random_items(np.random.default_rng(3), 40)
    one = TwoTower("two-tower", model(items))
    first = one.prepare(items)
    computed: list[int] = []
    whole = module.item_vectors

    def counted(*args: object) -> NDArray[np.float32]:
        found = whole(*args)  # type: ignore[arg-type]
        computed.append(len(found))
        return found

    monkeypatch.setattr(module, "item_vectors", counted)
    assert one.prepare(dataclasses.replace(items, position=2, tables={})) is first
    prices = items.numbers["price"].copy()
    prices[[4, 9]] = [1.0, 2.0]
    changed = dataclasses.replace(items, numbers={"price": prices}, tables={})
    table = one.prepare(changed)
    assert computed in ([2], [1], [])  # a price whose buckets were never learned changes nothing
    fresh = TwoTower("two-tower", one.model).prepare(changed)
    assert table.vectors.tobytes() == fresh.vectors.tobytes()


def test_an_item_that_came_after_training_is_proposed_at_once() -> None:
    titles = ["war story", "love story", "war again"]
    before = make_items(2, texts={"title": titles[:2]})
    trained = model(before)
    words = [(hash_id(word) ^ hash_id("title")) % BUCKETS for word in ("war", "love", "story")]
    slots = np.full(BUCKETS, -1, np.int32)
    slots[words] = [0, 1, 2]
    trained = dataclasses.replace(trained, slots=slots, tokens=trained.tokens[:3])
    one = TwoTower("two-tower", trained)
    one.prepare(before)
    after = make_items(3, texts={"title": titles}, sources=[one])
    assert 2 in one.retrieve(make_query(after, history=[0]), 3).rows
    unknown = make_items(3, texts={"title": [*titles[:2], "never heard"]}, sources=[one])
    query = make_query(unknown, history=[0])
    assert 2 not in one.retrieve(query, 3).rows
    assert np.isnan(one.score_rows(query, np.array([2], np.int32)))[0]


def test_what_is_known_of_a_person_counts() -> None:
    items = random_items(np.random.default_rng(4), 20)
    one = TwoTower("two-tower", model(items))
    items.tables["two-tower"] = one.prepare(items)
    rows = np.arange(20, dtype=np.int32)
    found = [
        one.score_rows(make_query(items, user=make_user(attributes={"plan": f"{n}"})), rows).tobytes()
        for n in range(40)
    ]
    assert len(set(found)) > 3


def test_words_count_once_and_in_any_case() -> None:
    reader = Reader(("title",), (), np.empty((0, 2)), 1_000)
    tokens = reader.read(make_items(3, texts={"title": ["War, war!", "WAR", None]}))
    assert tokens.offsets.tolist() == [0, 1, 2, 2]
    assert tokens.slots[0] == tokens.slots[1] == reader.bucket("title", "war")


def test_a_model_survives_its_parts() -> None:
    one = model(random_items(np.random.default_rng(1), 8))
    again = TwoTowerModel.from_parts(one.parts())
    for name, value in one.parts().items():
        assert again.parts()[name].tobytes() == value.tobytes()
        assert value.dtype != object


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("items", np.array([1, 1], np.int64)),
        ("ids", np.zeros((3, D), np.float32)),
        ("ids", np.zeros(3, np.float32)),
        ("tokens", np.full((40, D), np.nan, np.float32)),
        ("slots", np.array([99], np.int32)),
        ("slots", np.array([0], np.int64)),
        ("person_slots", np.array([-2], np.int32)),
        ("knots", np.zeros((1, 3))),
        ("knots", np.array([[3.0, 2.0, 1.0]] * 3)),
        ("queries", np.zeros((0, D), np.float32)),
        ("person_in", np.zeros((D, H), np.float32)),
        ("attributes", np.array([1, 2])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, broken: NDArray[np.generic]) -> None:
    parts = model(random_items(np.random.default_rng(1), 8)).parts()
    with pytest.raises(ArtifactError, match="train it again"):
        TwoTowerModel.from_parts({**parts, name: broken})


def test_a_missing_array_is_named() -> None:
    parts = model(random_items(np.random.default_rng(1), 8)).parts()
    del parts["start"]
    with pytest.raises(ArtifactError, match="start"):
        TwoTowerModel.from_parts(parts)


def test_serving_needs_no_library_of_neural_networks() -> None:
    told = "import sys, penchant.retrieval.two_tower.source; print({'jax', 'scipy.sparse'} & set(sys.modules))"
    assert run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.strip() == "set()"
