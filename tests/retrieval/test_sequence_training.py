"""Training with JAX: what it says a history comes to is what the server says, and it learns an order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from penchant.core.errors import SettingsError
from penchant.retrieval.sequence.encoder import encode
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.options import SequenceOptions
from penchant.retrieval.sequence.training import Histories, _Run, fit_sequence
from penchant.retrieval.sequence.weights import Block, Shape

jax = pytest.importorskip("jax", reason="the extra neural is not installed")
from penchant.retrieval.sequence import network  # noqa: E402

ITEMS = 12
TINY = SequenceOptions(
    shape=Shape(dim=16, blocks=1, heads=2, length=8),
    epochs=12,
    batch=256,
    warm_up=10,
    rate=1e-2,
    negatives=8,
    dropout=0.1,
)


def circles(users: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Everybody walks round the items in the same direction, from wherever."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 20, users)
    items = np.concatenate([(rng.integers(ITEMS) + np.arange(n)) % ITEMS for n in lengths])
    return np.repeat(np.arange(users), lengths), items


@pytest.mark.parametrize(("block", "temperature"), [("ligr", 0.0), ("hstu", 0.1)])
def test_the_server_says_what_training_says(block: Block, temperature: float) -> None:
    shape = Shape(dim=8, blocks=2, heads=2, length=9, block=block, times=True, temperature=temperature)
    rng = np.random.default_rng(1)
    weights = network.draw_weights(shape, ITEMS, rng)
    weights = {
        name: value + 0.2 * rng.standard_normal(value.shape).astype(np.float32) for name, value in weights.items()
    }
    past = rng.integers(0, ITEMS, (3, 9)).astype(np.int32)
    past[1, :4] = -1
    times = np.cumsum(rng.integers(0, 90_000, (3, 9)), axis=1).astype(np.int32)
    forward = jax.jit(lambda w, ids, when: network.forward(w, shape, ids, when, lambda x: x))
    states = np.asarray(forward(weights, past, times))[:, -1]
    if temperature > 0:
        states = states / (np.linalg.norm(states, axis=-1, keepdims=True) + 1e-6) / temperature
    found = encode(SequenceModel(np.arange(ITEMS, dtype=np.int64), weights, shape), past, times).states
    np.testing.assert_allclose(found, states, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("temperature", "drawn"), [(0.0, True), (0.5, False)])
def test_the_slope_of_the_loss_is_that_of_the_plain_softmax(temperature: float, drawn: bool) -> None:
    rng = np.random.default_rng(2)
    jnp = jax.numpy
    states, embedding = jnp.asarray(rng.standard_normal((7, 4))), jnp.asarray(rng.standard_normal((ITEMS, 4)))
    targets = np.array([3, -1, 5, 5, 0, 11, -1], np.int32)
    negatives = np.array([5, 5, 2, 9], np.int32) if drawn else None
    places = np.flatnonzero(targets >= 0)

    def plainly(h: object, e: object) -> object:
        if temperature > 0:
            h, e = (x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6) / temperature**0.5 for x in (h, e))
        logits = h @ e.T
        total = 0.0
        for row in places:
            others = np.arange(ITEMS) if negatives is None else negatives
            asked = logits[row, np.append(targets[row], others[others != targets[row]])]
            total += jax.nn.logsumexp(asked) - asked[0]
        return total / len(places)

    value, slopes = jax.jit(jax.value_and_grad(plainly, argnums=(0, 1)))(states, embedding)
    loss, of_states, of_embedding = jax.jit(lambda h, e: network._loss(jax, temperature, h, targets, e, negatives))(
        states, embedding
    )
    np.testing.assert_allclose(loss, value, rtol=1e-5)
    np.testing.assert_allclose(of_states, slopes[0], atol=1e-5)
    np.testing.assert_allclose(of_embedding, slopes[1], atol=1e-5)


def test_the_bias_by_distance_is_a_look_up() -> None:
    values = np.random.default_rng(3).standard_normal((2, 7)).astype(np.float32)
    found = np.asarray(network._by_distance(jax.numpy, jax.numpy.asarray(values)))
    for row in range(7):
        for column in range(7):
            expected = values[:, row - column] if row >= column else np.zeros(2)
            assert (found[:, row, column] == expected).all()


def test_it_learns_an_order_and_repeats_itself() -> None:
    users, items = circles()
    names = np.arange(100, 100 + ITEMS, dtype=np.int64)
    heard: list[tuple[str, int, int]] = []
    losses: list[float] = []
    model = fit_sequence(
        users, items, None, names, TINY, seed=5,
        progress=lambda *said: heard.append(said), epoch_done=lambda _epoch, loss, _model: losses.append(loss),
    )  # fmt: skip
    assert model.items is names
    assert heard[-1][1] == heard[-1][2]
    assert [said[1] for said in heard] == list(range(1, len(heard) + 1))
    assert losses[-1] < 0.5 * losses[0]
    scores = encode(model, np.array([[3, 4, 5, 6], [8, 9, 10, 11]], np.int32)).states @ model.factors.T
    assert scores.argmax(axis=1).tolist() == [7, 0]
    again = fit_sequence(users, items, None, names, TINY, seed=5)
    assert all(np.array_equal(again.weights[name], value) for name, value in model.weights.items())


def test_the_best_epoch_is_chosen_by_what_was_kept_out() -> None:
    users, items = circles()
    options = dataclasses.replace(TINY, validation_share=0.5, validate_every=1, patience=2, epochs=40)
    epochs: list[SequenceModel] = []
    model = fit_sequence(
        users, items, None, np.arange(ITEMS, dtype=np.int64), options, epoch_done=lambda *said: epochs.append(said[2])
    )
    assert len(epochs) < 40  # it can hardly be better than right, and stops
    assert any(model is one for one in epochs[:-1])


def test_rate_and_moments_begin_anew() -> None:
    users, items = circles()
    options = dataclasses.replace(TINY, epochs=6, restart=4, warm_up=0)
    run = _Run(options, Histories.of(users, items, None), ITEMS, np.random.default_rng(0), lambda *_said: None)
    rates = []
    for epoch in range(6):
        if epoch == 4:
            run.begin()
            assert not any(np.any(moment) for moment in run._first.values())
        rates.append(run._rate(0.0))
        run.epoch()
    assert rates[0] == rates[4] == options.rate
    assert rates[:4] == sorted(rates[:4], reverse=True)
    assert rates[5] == pytest.approx(options.rate * (0.01 + 0.99 / 2))
    assert run._rate(0.0) == pytest.approx(options.rate / 100)
    names = np.arange(ITEMS, dtype=np.int64)
    tried = [dataclasses.replace(options, restart=restart) for restart in (0, 4)]
    ends = [fit_sequence(users, items, None, names, one, seed=1) for one in tried]
    assert ends[0].factors.tobytes() != ends[1].factors.tobytes()


def test_small_catalogues_are_softmaxed_whole() -> None:
    assert [SequenceOptions().draws(n) for n in (10, 5_000, 5_001)] == [0, 0, 512]
    assert [SequenceOptions(negatives=n).draws(10) for n in (0, 7)] == [0, 7]


def test_training_can_be_ended() -> None:
    class Stopped(Exception):
        pass

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 3:
            raise Stopped

    users, items = circles()
    with pytest.raises(Stopped):
        fit_sequence(users, items, None, np.arange(ITEMS, dtype=np.int64), TINY, progress=stop)


def test_times_are_read_where_there_are_some() -> None:
    users, items = np.repeat(np.arange(8), 8), np.tile(np.arange(8), 8)
    options = dataclasses.replace(TINY, epochs=1, shape=dataclasses.replace(TINY.shape, times=True))
    names = np.arange(ITEMS, dtype=np.int64)
    assert not fit_sequence(users, items, None, names, options).shape.times
    model = fit_sequence(users, items, np.arange(len(items), dtype=np.int64) * 60_000, names, options)
    assert model.weights["0.gap"].any()


def test_histories_lose_their_last() -> None:
    past = Histories.of(np.array([5, 2, 5, 2, 5]), np.array([1, 2, 3, 4, 5]), np.arange(5, dtype=np.int64) * 1_000)
    assert past.items.tolist() == [2, 4, 1, 3, 5]
    assert past.times is not None
    assert past.times.tolist() == [0, 2, 0, 2, 4]
    shorter = past.without_last(np.array([False, True]))
    assert shorter.items.tolist() == [2, 4, 1, 3]
    assert shorter.offsets.tolist() == [0, 2, 4]


def test_an_empty_log_gives_a_model_as_drawn() -> None:
    nothing = np.empty(0, np.int64)
    model = fit_sequence(nothing, nothing, None, np.arange(3, dtype=np.int64), dataclasses.replace(TINY, epochs=1))
    assert model.factors.shape == (3, 16)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": Shape(dim=6, heads=4)},
        {"epochs": 0},
        {"dropout": 1.0},
        {"negatives": -1},
        {"restart": 99},
        {"shape": Shape(length=0)},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(SettingsError, match="must be"):
        SequenceOptions(**wrong)
