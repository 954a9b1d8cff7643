"""The network of the sequence encoder as JAX trains it: blocks, sampled softmax and its optimiser's step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.extras import library
from penchant.retrieval.sequence.weights import EPSILON, Shape, of_block, time_edges

_ROWS = 2_048
"""How many positions have their logits at a time: all of them at once would be the largest array by far."""


def jax_of() -> Any:
    """The library, or an error that says how to install it."""
    return library("jax", extra="neural", of="the training of a sequence encoder")


def forward(weights: dict[str, Any], shape: Shape, ids: Any, times: Any, dropped: Any) -> Any:
    """The state after each place, [B, L, d]; `ids` int32[B, L] with -1 on the left, `dropped(x)` is dropout or nothing.

    `times` is int32[B, L] in seconds since the first of the row, or None.
    """
    jax = jax_of()
    jnp = jax.numpy
    batch, length = ids.shape
    d, heads = shape.dim, shape.heads
    there = ids >= 0
    x = weights["embedding"][jnp.maximum(ids, 0)]
    if shape.temperature > 0:
        x = x * (np.sqrt(d) / (jnp.linalg.norm(x, axis=-1, keepdims=True) + EPSILON))
    x = dropped(x + weights["places"][:length][::-1][None])
    buckets = None
    if shape.times:
        gap = jnp.maximum(times[:, :, None] - times[:, None, :], 0)
        buckets = jnp.searchsorted(jnp.asarray(time_edges()), gap.reshape(-1), side="right").reshape(gap.shape)
    for block in range(shape.blocks):
        w = of_block(weights, block)
        flat = _norm(jnp, x, w["norm_scale"], w["norm_shift"]).reshape(batch * length, d)
        mixed = flat @ w["mix"]
        bias = _by_distance(jnp, w["distance"][:, :length])[None]
        if buckets is not None:
            bias = bias + jnp.moveaxis(w["gap"].T[buckets], -1, 1)
        if shape.block == "hstu":
            u, v, q, k = (_heads(part, batch, length, heads) for part in jnp.split(jax.nn.silu(mixed), 4, axis=1))
            after = _attend(jax, shape, q, k, v, bias, there).reshape(batch * length, d)
            after = _norm(jnp, after, w["inner_scale"], w["inner_shift"])
            u = u.transpose(0, 2, 1, 3).reshape(batch * length, d)
            x = x + dropped(((after * u) @ w["out"]).reshape(batch, length, d))
            continue
        q, k, v = (_heads(part, batch, length, heads) for part in jnp.split(mixed, 3, axis=1))
        after = _attend(jax, shape, q, k, v, bias, there).reshape(batch * length, d) @ w["out"]
        gate = jax.nn.sigmoid(x.reshape(batch * length, d) @ w["gate"] + w["gate_shift"])
        x = x + dropped((gate * after).reshape(batch, length, d))
        flat = _norm(jnp, x, w["wide_scale"], w["wide_shift"]).reshape(batch * length, d)
        left, right = jnp.split(flat @ w["widen"], 2, axis=1)
        after = dropped(jax.nn.silu(left) * right) @ w["narrow"]
        gate = jax.nn.sigmoid(x.reshape(batch * length, d) @ w["wide_gate"] + w["wide_gate_shift"])
        x = x + dropped((gate * after).reshape(batch, length, d))
    return _norm(jnp, x, weights["last_scale"], weights["last_shift"])


def _norm(jnp: Any, x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    return centred / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON) * scale + shift


def _heads(x: Any, batch: int, length: int, heads: int) -> Any:
    return x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


def _attend(jax: Any, shape: Shape, q: Any, k: Any, v: Any, bias: Any, there: Any) -> Any:
    """Causal attention, [B, L, heads, d / heads], in two parts: the earlier half need not be held against the later."""
    jnp = jax.numpy
    length = q.shape[2]
    after = []
    for start, end in ((0, length // 2), (length // 2, length)):
        seen = there[:, None, None, :end] & np.tri(end, dtype=bool)[start:end]
        logits = jnp.einsum("bhqd,bhkd->bhqk", q[:, :, start:end], k[:, :, :end])
        if shape.block == "hstu":
            weight = jax.nn.silu(_biased(jax, logits, bias[..., start:end, :end])) / np.float32(shape.length)
            weight = jnp.where(seen, weight, 0.0)
        else:
            logits = _biased(jax, logits * np.float32((shape.dim // shape.heads) ** -0.5), bias[..., start:end, :end])
            weight = jax.nn.softmax(jnp.where(seen, logits, -1e9), axis=-1)
        after.append(jnp.einsum("bhqk,bhkd->bhqd", weight, v[:, :, :end]))
    return jnp.concatenate(after, axis=2).transpose(0, 2, 1, 3)


def _biased(jax: Any, logits: Any, bias: Any) -> Any:
    """`logits + bias`; where one bias serves all rows its slope is a product with ones: a sum takes far longer."""
    if bias.shape[0] == logits.shape[0]:
        return logits + bias
    jnp = jax.numpy

    def back(_: None, slope: Any) -> Any:
        rows = slope.shape[0]
        return slope, (jnp.ones((1, rows), slope.dtype) @ slope.reshape(rows, -1)).reshape(1, *slope.shape[1:])

    added = jax.custom_vjp(lambda x, y: x + y)
    added.defvjp(lambda x, y: (x + y, None), back)
    return added(logits, bias)


def _by_distance(jnp: Any, values: Any) -> Any:
    """[heads, L, L] with `values[:, i - j]` at i, j, and 0 above the diagonal; by slices, whose slope is quick."""
    heads, length = values.shape
    line = jnp.concatenate([values[:, :1], jnp.zeros((heads, length), values.dtype), values[:, :0:-1]], axis=1)
    lines = jnp.tile(line, (1, length))[:, : length * (2 * length - 1)]
    return lines.reshape(heads, length, 2 * length - 1)[:, :, :length]


def draw_weights(shape: Shape, n_items: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Weights to begin with: normal of deviation .02 for what is looked up, Glorot's for matrices, gates at half."""
    drawn: dict[str, NDArray[np.float32]] = {}
    for name, size in shape.arrays(n_items).items():
        if name in ("embedding", "places"):
            drawn[name] = (0.02 * rng.standard_normal(size)).astype(np.float32)
        elif name.endswith("_scale"):
            drawn[name] = np.ones(size, np.float32)
        elif name.endswith(("_shift", ".distance", ".gap")):
            drawn[name] = np.zeros(size, np.float32)
        else:
            drawn[name] = (rng.standard_normal(size) * np.sqrt(2.0 / sum(size))).astype(np.float32)
    return drawn


@functools.cache
def make_step(shape: Shape, dropout: float, weight_decay: float) -> Callable[..., Any]:
    """One jitted step of Adam, from weights, moments and a batch to new weights and moments, and the loss.

    The loss is the softmax of the next item among itself and `negatives`, those equal to it masked, averaged over
    places with a next item; the buffers of weights and moments are reused.
    """
    jax = jax_of()
    jnp = jax.numpy

    def step(
        weights: Any, first: Any, second: Any, count: Any, rate: Any, seed: Any,
        ids: Any, targets: Any, times: Any, negatives: Any,
    ) -> Any:  # fmt: skip
        dropped = _dropout(jax, dropout, seed)
        states, back = jax.vjp(lambda w: forward(w, shape, ids, times, dropped), weights)
        flat = states.reshape(-1, shape.dim)
        loss, of_states, of_embedding = _loss(
            jax, shape.temperature, flat, targets.reshape(-1), weights["embedding"], negatives
        )
        (slopes,) = back(of_states.reshape(states.shape))
        slopes["embedding"] = slopes["embedding"] + of_embedding
        after: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
        for name, slope in slopes.items():
            one = 0.9 * first[name] + 0.1 * slope
            two = 0.98 * second[name] + 0.02 * slope * slope
            move = (one / (1.0 - 0.9**count)) / (jnp.sqrt(two / (1.0 - 0.98**count)) + 1e-8)
            if weight_decay > 0 and weights[name].ndim == 2:
                move = move + weight_decay * weights[name]
            for into, value in zip(after, (weights[name] - rate * move, one, two), strict=True):
                into[name] = value
        return (*after, loss)

    found: Callable[..., Any] = jax.jit(step, donate_argnums=(0, 1, 2))
    return found


def _loss(jax: Any, temperature: float, states: Any, targets: Any, embedding: Any, negatives: Any) -> Any:
    """The mean loss and its slopes by the states and by the embedding, in parts of `_ROWS` places.

    With `negatives` None the softmax is over all items.
    """
    jnp = jax.numpy
    rows = len(states)
    parts = -(-rows // _ROWS)
    size = -(-rows // parts)
    fill = parts * size - rows
    states = jnp.pad(states, ((0, fill), (0, 0))).reshape(parts, size, -1)
    targets = jnp.pad(targets, (0, fill), constant_values=-1).reshape(parts, size)
    count = jnp.maximum((targets >= 0).sum(), 1).astype(jnp.float32)
    others = embedding if negatives is None else embedding[negatives]
    numbers = jnp.arange(len(embedding)) if negatives is None else negatives

    def one(h: Any, positive: Any, mine: Any, theirs: Any) -> Any:
        scale = 1.0
        if temperature > 0:
            h, mine, theirs = (x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6) for x in (h, mine, theirs))
            scale = 1.0 / temperature
        right = (h * mine).sum(-1) * scale
        wrong = (h @ theirs.T) * scale
        wrong = jnp.where(positive[:, None] == numbers[None], -1e9, wrong)
        top = jax.lax.stop_gradient(jnp.maximum(wrong.max(-1), right))
        total = jnp.exp(wrong - top[:, None]).sum(-1) + jnp.exp(right - top)
        return (jnp.where(positive >= 0, jnp.log(total) + top - right, 0.0)).sum() / count

    def part(carry: Any, given: Any) -> Any:
        loss, of_others = carry
        h, positive = given
        mine = embedding[jnp.maximum(positive, 0)]
        value, slopes = jax.value_and_grad(one, argnums=(0, 2, 3))(h, positive, mine, others)
        return (loss + value, of_others + slopes[2]), (slopes[0], slopes[1])

    start = (jnp.float32(0), jnp.zeros_like(others))
    (loss, of_others), (of_states, of_mine) = jax.lax.scan(part, start, (states, targets))
    of_embedding = of_others if negatives is None else jnp.zeros_like(embedding).at[negatives].add(of_others)
    of_embedding = of_embedding.at[jnp.maximum(targets.reshape(-1), 0)].add(of_mine.reshape(parts * size, -1))
    return loss, of_states.reshape(parts * size, -1)[:rows], of_embedding


def _dropout(jax: Any, share: float, seed: Any) -> Callable[[Any], Any]:
    """Dropout by a hash of the place and the seed: drawn inside the loop that uses it, nothing is kept for later."""
    jnp = jax.numpy
    calls = iter(range(1, 1_000))

    def dropped(x: Any) -> Any:
        if share <= 0:
            return x
        mixed = jax.lax.iota(np.uint32, int(np.prod(x.shape))).reshape(x.shape) * np.uint32(0x9E3779B9)
        mixed = mixed + seed.astype(np.uint32) * np.uint32(0x85EBCA77) + np.uint32(next(calls) * 0x27D4EB2F % 2**32)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
        keep = (mixed ^ (mixed >> 16)) >= np.uint32(share * 2**32)
        return jnp.where(keep, x * np.float32(1.0 / (1.0 - share)), np.float32(0))

    return dropped
