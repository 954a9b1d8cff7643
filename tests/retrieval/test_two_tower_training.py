"""Training two towers: what JAX computes is what is served, and a model learns what attributes tell."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.core.errors import SettingsError
from penchant.core.items import Items
from penchant.retrieval.two_tower import training
from penchant.retrieval.two_tower.attributes import Reader, Tokens, pairs
from penchant.retrieval.two_tower.batches import Sequences, batches
from penchant.retrieval.two_tower.model import TwoTowerModel
from penchant.retrieval.two_tower.source import TwoTower
from penchant.retrieval.two_tower.towers import item_vectors, person_vector
from penchant.retrieval.two_tower.training import Fitting, fit_two_tower
from penchant.testing.strategies import make_items, make_query, make_user

SMALL = Fitting(
    dimensions=8, hidden=8, heads=2, length=8, batch=8, in_batch=16, uniform=16, epochs=8, rate=0.02, least=2
)


def world(seed: int = 3) -> tuple[Items, Sequences]:
    """Forty items of two genres, the last four of which nobody visited; people visit one genre each."""
    rng = np.random.default_rng(seed)
    items = make_items(
        40,
        tags={"genres": [["war"] if row % 2 else ["love"] for row in range(40)]},
        numbers={"year": [1990.0 + row for row in range(40)]},
    )
    visits = [2 * rng.permutation(18)[:10] + person % 2 for person in range(30)]
    return items, Sequences(np.concatenate(visits).astype(np.int32), 10 * np.arange(31, dtype=np.int64))


def fitted() -> tuple[Items, TwoTowerModel, list[float]]:
    """A model of the world, told also which plan people are on."""
    items, sequences = world()
    found = [pairs({"plan": "gold" if person % 2 else "free"}, SMALL.buckets) for person in range(30)]
    people = Tokens(np.arange(31, dtype=np.int64), np.array(found, np.int32).ravel(), np.ones(30, np.float32))
    losses: list[float] = []
    model = fit_two_tower(
        sequences,
        items,
        np.arange(36),
        attributes=("genres",),
        numbers=("year",),
        seed=1,
        people=people,
        fitting=SMALL,
        progress=lambda _done, _of, loss: losses.append(loss),
    )
    return items, model, losses


@pytest.fixture(scope="module")
def trained() -> tuple[Items, TwoTowerModel, list[float]]:
    pytest.importorskip("jax", reason="needs the extra neural")
    return fitted()


def test_new_items_of_the_right_kind_come_first(trained: tuple[Items, TwoTowerModel, list[float]]) -> None:
    items, model, losses = trained
    assert losses[-1] < losses[0]
    assert len(losses) == SMALL.epochs
    source = TwoTower("two-tower", model)
    items.tables["two-tower"] = source.prepare(items)
    new = np.arange(40) >= 36
    for genre in (0, 1):
        query = make_query(items, history=[genre, genre + 2, genre + 4], eligible=new)
        assert set((source.retrieve(query, 2).rows % 2).tolist()) == {genre}


def test_the_same_seed_gives_the_same_weights(trained: tuple[Items, TwoTowerModel, list[float]]) -> None:
    first, again = trained[1], fitted()[1]
    for name, value in first.parts().items():
        assert value.tobytes() == again.parts()[name].tobytes()


def test_what_is_served_is_what_was_trained(trained: tuple[Items, TwoTowerModel, list[float]]) -> None:
    jax = pytest.importorskip("jax", reason="needs the extra neural")
    items, model, _ = trained
    rng = np.random.default_rng(4)
    params = {name: value for name, value in model.parts().items() if value.dtype == np.float32}
    params = {name: value + 0.1 * rng.standard_normal(value.shape).astype(np.float32) for name, value in params.items()}
    params["slopes"] = np.abs(params["slopes"])
    model = TwoTowerModel.from_parts({**model.parts(), **params})
    raw = {**params, "slopes": np.log(np.expm1(params["slopes"]))}

    names = tuple(model.attributes.tolist()), tuple(model.numbers.tolist())
    tokens = Reader(*names, model.knots, len(model.slots)).read(items).known(model.slots)
    index = np.where(np.arange(40) < 36, np.arange(40), -1).astype(np.int32)
    served = item_vectors(model, tokens, index)
    ids = np.where(index[:, None] >= 0, model.ids[index], 0)
    expected = training.forward_items(jax.numpy, raw, *training._padded(tokens), ids)
    np.testing.assert_allclose(served, expected, atol=1e-4)

    slots = model.person_slots[pairs({"plan": "gold"}, SMALL.buckets)]
    assert slots[0] >= 0
    visits = served[rng.permutation(36)[:7]]
    shares = np.ones((1, 1), np.float32)
    before = training.forward_people(jax, raw, visits[None], slots[None], shares)[0]
    for place in range(7):
        vector = person_vector(model, visits[:place][::-1], slots)
        np.testing.assert_allclose(vector, before[place], atol=1e-4)

    query = make_query(items, user=make_user(attributes={"plan": "gold"}))
    source = TwoTower("two-tower", model)
    items.tables["two-tower"] = source.prepare(items)
    scores = source.score_rows(query, np.arange(40, dtype=np.int32))
    np.testing.assert_allclose(scores, served @ np.asarray(before[0]), atol=1e-4)


def test_candidates_are_visits_and_items_drawn() -> None:
    _, sequences = world()
    sizes = {"length": 4, "batch": 8, "per_person": 2, "in_batch": 40, "uniform": 10}
    found = list(batches(sequences, np.random.default_rng(1), **sizes))
    seen: dict[int, int] = {}
    for one in found:
        assert one.windows.shape == one.filled.shape == (8, 4)
        assert len(one.rows) & (len(one.rows) - 1) == 0
        visits = one.rows[one.windows[one.filled]]
        assert np.isin(one.rows[one.candidates[:40]], visits).all()
        assert len(one.candidates) == 50
        for window, filled, person in zip(one.windows, one.filled, one.people, strict=True):
            told = sequences.items[10 * person : 10 * person + 10].tolist()
            begin = told.index(one.rows[window[0]])
            assert one.rows[window[filled]].tolist() == told[begin : begin + filled.sum()]
            seen[int(person)] = seen.get(int(person), 0) + 1
    assert set(seen) == set(range(30))


def test_log_q_is_how_often_an_item_is_drawn() -> None:
    sequences = Sequences(np.array([0, 0, 0, 1], np.int32), np.array([0, 4], np.int64))
    sizes = {"length": 4, "batch": 1, "per_person": 9, "in_batch": 6, "uniform": 4}
    one = next(batches(sequences, np.random.default_rng(1), **sizes))
    expected = np.log(np.array([6 * 3 / 4 + 2, 6 / 4 + 2]))
    np.testing.assert_allclose(one.log_q, expected[one.rows], rtol=1e-5)


def test_nothing_to_train_on_is_said() -> None:
    pytest.importorskip("jax", reason="needs the extra neural")
    items, _ = world()
    empty = Sequences(np.empty(0, np.int32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="nothing to train on"):
        fit_two_tower(empty, items, np.empty(0, np.int64), attributes=(), seed=1)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    items, sequences = world()
    with pytest.raises(SettingsError, match=r"penchant\[neural\]"):
        fit_two_tower(sequences, items, np.arange(36), attributes=("genres",), seed=1)
