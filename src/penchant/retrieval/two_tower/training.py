"""Training of two towers with JAX: a sampled softmax over mixed negatives, corrected for how they were drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.extras import library
from penchant.core.items import Items
from penchant.retrieval.two_tower.attributes import Reader, Tokens, number
from penchant.retrieval.two_tower.batches import Sequences, batches
from penchant.retrieval.two_tower.model import TwoTowerModel

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fitting:
    """How two towers are trained."""

    dimensions: int = 64
    hidden: int = 128
    heads: int = 4
    length: int = 64
    """Visits of a window; a server need not look back further."""
    batch: int = 8
    per_person: int = 16
    """Windows of one person in an epoch, so that those who visit most do not drown the others."""
    in_batch: int = 256
    uniform: int = 256
    epochs: int = 8
    rate: float = 3e-3
    fade: float = 1e-4
    """Weight decay in each step, of embeddings."""
    without_ids: float = 0.5
    """Share of items whose id is hidden in a step: that much the model learns to serve from attributes alone."""
    buckets: int = 1 << 16
    least: int = 2
    """Tokens of fewer items than that are not learned."""
    knots: int = 8


def fit_two_tower(
    sequences: Sequences,
    items: Items,
    trained: NDArray[np.int64],
    *,
    attributes: tuple[str, ...],
    numbers: tuple[str, ...] = (),
    seed: int,
    people: Tokens | None = None,
    fitting: Fitting | None = None,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> TwoTowerModel:
    """Learn to ask for each visit from those before it; needs the extra `neural`.

    `sequences` are of indices into `trained`, rows of the picture `items`, int64[m]; `people` has the tokens of each
    sequence by bucket (`attributes.pairs`). The loss is that of mixed negative sampling (Yang et al., WWW 2020) with
    the correction `−log Q` (Yi et al., RecSys 2019); what a window holds is no negative of it. Adam (Kingma and Ba
    2015), its rate falling by a cosine. Equal input and seed give equal weights on the same machine. `progress` is told
    the epochs done, how many there are, and the mean loss.
    """
    jax = library("jax", extra="neural", of="training a two-tower model")
    how = Fitting() if fitting is None else fitting
    if len(trained) == 0 or len(sequences.items) == 0:
        raise ValueError("there is nothing to train on: no visits to items")
    rng = np.random.default_rng(seed)
    knots = _knots(items, numbers, trained, how.knots)
    read = Reader(attributes, numbers, knots, how.buckets).read(items).take(trained)
    slots, read = _learned(read, how.buckets, how.least)
    person_slots, people = _learned(people or _nothing(len(sequences)), how.buckets, how.least)
    known = np.diff(people.offsets)
    people = Tokens(people.offsets, people.slots, np.repeat(1 / np.maximum(known, 1), known).astype(np.float32))
    params = _begin(how, len(trained), int(slots.max()) + 1, int(person_slots.max()) + 1, rng)
    padded, person_padded = _padded(read), _padded(people)
    steps = how.epochs * len(list(batches(sequences, np.random.default_rng(0), **_sizes(how))))
    step = _step(jax, how, steps)
    state: tuple[Any, Any, Any] = (params, _zeros(params), _zeros(params))
    done = 0
    for epoch in range(how.epochs):
        losses = []
        for one in batches(sequences, rng, **_sizes(how)):
            done += 1
            shown = (rng.random(len(one.rows)) >= how.without_ids).astype(np.float32)
            given = {
                "rows": one.rows,
                "slots": padded[0][one.rows],
                "shares": padded[1][one.rows],
                "shown": shown,
                "windows": one.windows,
                "filled": one.filled,
                "candidates": one.candidates,
                "log_q": one.log_q,
                "person_slots": person_padded[0][one.people],
                "person_shares": person_padded[1][one.people],
            }
            *state_, loss = step(*state, np.float32(done), given)
            state = (state_[0], state_[1], state_[2])
            losses.append(loss)
        progress(epoch + 1, how.epochs, float(np.mean([float(loss) for loss in losses])))
    found = {name: np.asarray(value, np.float32) for name, value in state[0].items()}
    found["slopes"] = np.logaddexp(0, found["slopes"]).astype(np.float32)
    hashes = np.empty(items.count, np.int64)
    for hash_, row in items.rows.items():
        if row < items.count:
            hashes[row] = hash_
    return TwoTowerModel.from_parts(
        {
            **found,
            "items": hashes[trained],
            "attributes": np.array(attributes, np.str_),
            "numbers": np.array(numbers, np.str_),
            "knots": knots,
            "slots": slots,
            "person_slots": person_slots,
        }
    )


def forward_items(jnp: Any, params: Params, slots: Any, shares: Any, ids: Any) -> Any:
    """[rows, d]: the item tower; `ids` are the rows' embeddings of ids, or zero."""
    x = (params["tokens"][slots] * shares[..., None]).sum(axis=1) + ids
    hidden = jnp.maximum(x @ params["item_in"] + params["item_in_bias"], 0)
    return x + hidden @ params["item_out"] + params["item_out_bias"]


def forward_people(jax: Any, params: Params, visits: Any, slots: Any, shares: Any) -> Any:
    """[batch, length, d]: the person before each of `visits`, [batch, length, d], oldest first."""
    jnp = jax.numpy
    batch, length, d = visits.shape
    start = jnp.broadcast_to(params["start"], (batch, 1, d))
    keys = jnp.concatenate([start, visits[:, :-1]], axis=1)
    back = np.arange(length)[:, None] - np.arange(length)[None, :]  # key 0 is the start, key j the visit j - 1
    fading = np.where(np.arange(length) > 0, np.log1p(np.maximum(back, 0)), 0.0).astype(np.float32)
    slopes = jax.nn.softplus(params["slopes"])
    logits = jnp.einsum("bjd,hd->bhj", keys, params["queries"])[:, :, None, :] - slopes[:, None, None] * fading
    weights = jax.nn.softmax(jnp.where(back >= 0, logits, -jnp.inf), axis=-1)
    pooled = jnp.einsum("bhij,bjd->bihd", weights, keys)
    hidden = jnp.maximum(pooled.reshape(batch, length, -1) @ params["person_in"] + params["person_in_bias"], 0)
    tokens = (params["person_tokens"][slots] * shares[..., None]).sum(axis=1)
    return pooled.mean(axis=2) + tokens[:, None, :] + hidden @ params["person_out"] + params["person_out_bias"]


def _loss(jax: Any, params: Params, given: dict[str, Any]) -> Any:
    jnp = jax.numpy
    ids = params["ids"][given["rows"]] * given["shown"][:, None]
    items = forward_items(jnp, params, given["slots"], given["shares"], ids)
    windows, candidates, log_q = given["windows"], given["candidates"], given["log_q"]
    visits = items[windows]
    people = forward_people(jax, params, visits, given["person_slots"], given["person_shares"])
    right = (people * visits).sum(axis=-1) - log_q[windows]
    others = people @ items[candidates].T - log_q[candidates]
    held = ((windows[:, :, None] == candidates) & given["filled"][:, :, None]).any(axis=1)
    others = jnp.where(held[:, None, :], -jnp.inf, others)
    losses = jax.nn.logsumexp(jnp.concatenate([right[..., None], others], axis=-1), axis=-1) - right
    return (losses * given["filled"]).sum() / given["filled"].sum()


def _step(jax: Any, how: Fitting, steps: int) -> Any:
    """One step of Adam: the new weights, its two moments, and the loss before it."""
    jnp = jax.numpy
    faded = {"ids", "tokens", "person_tokens"}

    def step(params: Params, first: Params, second: Params, t: Any, given: dict[str, Any]) -> Any:
        loss, slope = jax.value_and_grad(lambda p: _loss(jax, p, given))(params)
        rate = how.rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(t / steps, 1.0)))
        first = {name: 0.9 * first[name] + 0.1 * slope[name] for name in params}
        second = {name: 0.999 * second[name] + 0.001 * slope[name] ** 2 for name in params}
        new = {}
        for name, value in params.items():
            by = (first[name] / (1 - 0.9**t)) / (jnp.sqrt(second[name] / (1 - 0.999**t)) + 1e-8)
            kept = 1 - how.fade if name in faded else 1.0
            new[name] = kept * value - rate * by
        return new, first, second, loss

    return jax.jit(step, donate_argnums=(0, 1, 2))


def _begin(how: Fitting, items: int, tokens: int, people: int, rng: np.random.Generator) -> Params:
    d, h, heads = how.dimensions, how.hidden, how.heads

    def drawn(*shape: int, scale: float) -> NDArray[np.float32]:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def zero(*shape: int) -> NDArray[np.float32]:
        return np.zeros(shape, np.float32)

    return {
        "ids": drawn(items, d, scale=0.02),
        "tokens": drawn(max(tokens, 1), d, scale=0.05),
        "item_in": drawn(d, h, scale=1 / np.sqrt(d)),
        "item_in_bias": zero(h),
        "item_out": drawn(h, d, scale=0.1 / np.sqrt(h)),
        "item_out_bias": zero(d),
        "start": drawn(d, scale=0.02),
        "queries": drawn(heads, d, scale=0.1),
        "slopes": np.linspace(-2.0, 2.0, heads).astype(np.float32),
        "person_tokens": zero(max(people, 1), d),
        "person_in": drawn(heads * d, h, scale=1 / np.sqrt(heads * d)),
        "person_in_bias": zero(h),
        "person_out": drawn(h, d, scale=0.1 / np.sqrt(h)),
        "person_out_bias": zero(d),
    }


def _zeros(params: Params) -> Params:
    return {name: np.zeros_like(value) for name, value in params.items()}


def _sizes(how: Fitting) -> dict[str, int]:
    return {
        "length": how.length,
        "batch": how.batch,
        "per_person": how.per_person,
        "in_batch": how.in_batch,
        "uniform": how.uniform,
    }


def _knots(items: Items, numbers: tuple[str, ...], rows: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Quantiles of what the trained items have, so that as many lie between any two."""
    found = np.zeros((len(numbers), k))
    for at, name in enumerate(numbers):
        values = number(items, name)
        known = np.empty(0) if values is None else values[rows][np.isfinite(values[rows])]
        if len(known):
            found[at] = np.quantile(known, np.linspace(0, 1, k))
    return found


def _learned(tokens: Tokens, buckets: int, least: int) -> tuple[NDArray[np.int32], Tokens]:
    """The slot of each bucket that `least` or more rows have, -1 for the others; and the tokens by slot."""
    slots = np.full(buckets, -1, np.int32)
    known = np.flatnonzero(np.bincount(tokens.slots, minlength=buckets) >= least)
    slots[known] = np.arange(len(known))
    return slots, tokens.known(slots)


def _padded(tokens: Tokens) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows of one width, int32[rows, width] with shares float32[rows, width]; zero where a row has fewer tokens."""
    lengths = np.diff(tokens.offsets)
    filled = np.arange(max(1, int(lengths.max(initial=0)))) < lengths[:, None]
    slots, shares = np.zeros(filled.shape, np.int32), np.zeros(filled.shape, np.float32)
    slots[filled], shares[filled] = tokens.slots, tokens.shares
    return slots, shares


def _nothing(rows: int) -> Tokens:
    return Tokens(np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
