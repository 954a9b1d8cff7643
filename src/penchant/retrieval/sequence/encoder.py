"""The network of the sequence encoder in NumPy: what a server runs, without the library that trained it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.single import newest_of_one
from penchant.retrieval.sequence.weights import EPSILON, Shape, buckets_of, of_block

Floats = NDArray[Any]
"""float32 all the way."""
_NEVER = np.float32(-1e9)
"""Added to what a place may not look at: its weight is zero then, in both kinds of block."""


class Encoded(NamedTuple):
    """What histories come to."""

    states: Floats
    """float32[n, d]: multiplied with `model.factors` they are the scores of the items."""
    terms: Floats | None = None
    """float32[n, L, d], where asked for: what the last block took from each place, before the state is normalised."""


def encode(
    model: SequenceModel, past: NDArray[np.int32], times: NDArray[np.int32] | None = None, *, terms: bool = False
) -> Encoded:
    """The states of histories of indices, int32[n, L], oldest first, -1 on the left where one is shorter.

    `times`, int32[n, L], are seconds since any moment of the row's own; a model with a bias of time needs them. Of the
    last block only what the newest place needs is worked out. Longer histories than the model reads lose the oldest.
    One history of a gated model takes the way of `single`, which is faster.
    """
    shape, weights = model.shape, model.weights
    past = past[:, -shape.length :]
    rows, length = past.shape
    if length == 0:
        return Encoded(np.zeros((rows, shape.dim), np.float32), np.zeros((rows, 0, shape.dim), np.float32))
    absent = past < 0
    hidden = np.where(absent, _NEVER, np.float32(0))[:, None, None, :] if absent.any() else None
    x = weights["embedding"][np.maximum(past, 0)]
    if shape.temperature > 0:
        x = x * (np.sqrt(np.float32(shape.dim)) / (np.sqrt((x * x).sum(-1, keepdims=True)) + np.float32(EPSILON)))
    x = x + weights["places"][:length][::-1]
    when = _of_places(times, length) if shape.times else None
    if rows == 1 and hidden is None and shape.block == "ligr":
        state, taken = newest_of_one(weights, shape, x[0], None if when is None else when[0], terms=terms)
    else:
        gaps = None if when is None else _gaps(when)
        state, taken = _newest(weights, shape, x, hidden, gaps, terms=terms)
    if shape.temperature > 0:
        size = np.sqrt((state * state).sum(-1, keepdims=True))
        state = state / ((size + np.float32(1e-6)) * np.float32(shape.temperature))
    return Encoded(state, None if taken is None else taken * weights["last_scale"])


def _newest(
    weights: dict[str, Floats],
    shape: Shape,
    x: Floats,
    hidden: Floats | None,
    gaps: NDArray[np.int64] | None,
    *,
    terms: bool,
) -> tuple[Floats, Floats | None]:
    """The newest places after all blocks and the last norm, float32[n, d], and what they took from each if asked."""
    length, taken = x.shape[1], None
    for block in range(shape.blocks):
        w, last = of_block(weights, block), block == shape.blocks - 1
        first = length - 1 if last else 0
        bias = _bias(w["distance"], first, length)
        if gaps is not None:
            bias = bias + w["gap"][:, gaps[:, first:]].transpose(1, 0, 2, 3)
        if hidden is not None:
            bias = bias + hidden
        x, taken = (_ligr if shape.block == "ligr" else _hstu)(w, shape, x, bias, first, terms=terms and last)
    return _normed(x[:, -1], weights["last_scale"], weights["last_shift"]), taken


def _ligr(
    w: dict[str, Floats], shape: Shape, x: Floats, bias: Floats, first: int, *, terms: bool
) -> tuple[Floats, Floats | None]:
    """A gated block (LiGR) for the places from `first` on, and what the newest one took from each place if asked."""
    d = shape.dim
    normed = _normed(x, w["norm_scale"], w["norm_shift"])
    q = _split(normed[:, first:] @ w["mix"][:, :d], shape.heads)
    k, v = (_split(part, shape.heads) for part in np.split(normed @ w["mix"][:, d:], 2, axis=-1))
    logits = q @ k.transpose(0, 1, 3, 2)
    logits *= np.float32((d // shape.heads) ** -0.5)
    logits += bias
    logits -= logits.max(-1, keepdims=True)
    weight = np.exp(logits, out=logits)
    weight /= weight.sum(-1, keepdims=True)
    x = x[:, first:]
    gate = _sigmoid(x @ w["gate"] + w["gate_shift"])
    taken = None
    if terms:
        taken = gate * (_joined(weight.transpose(0, 1, 3, 2) * v) @ w["out"])
    x = x + gate * (_joined(weight @ v) @ w["out"])
    wide = _normed(x, w["wide_scale"], w["wide_shift"]) @ w["widen"]
    half = wide.shape[-1] // 2
    inner = wide[..., :half] * _sigmoid(wide[..., :half]) * wide[..., half:]
    gate = _sigmoid(x @ w["wide_gate"] + w["wide_gate_shift"])
    return x + gate * (inner @ w["narrow"]), taken


def _hstu(
    w: dict[str, Floats], shape: Shape, x: Floats, bias: Floats, first: int, *, terms: bool
) -> tuple[Floats, Floats | None]:
    """A block with pointwise attention (HSTU, Zhai et al. 2024), else like `_ligr`."""
    d = shape.dim
    normed = _normed(x, w["norm_scale"], w["norm_shift"])
    mixed = normed @ w["mix"]
    mixed *= _sigmoid(mixed)
    u, v, q, k = (mixed[..., part * d : (part + 1) * d] for part in range(4))
    v, q, k = _split(v, shape.heads), _split(q[:, first:], shape.heads), _split(k, shape.heads)
    weight = q @ k.transpose(0, 1, 3, 2) + bias
    weight = weight * _sigmoid(weight) / np.float32(shape.length)
    after = _joined(weight @ v)
    u = u[:, first:]
    taken = None
    if terms:
        each = _joined(weight.transpose(0, 1, 3, 2) * v)
        spread = np.sqrt(after.var(-1, keepdims=True) + np.float32(EPSILON))
        taken = ((each - each.mean(-1, keepdims=True)) / spread * w["inner_scale"] * u) @ w["out"]
    after = _normed(after, w["inner_scale"], w["inner_shift"])
    return x[:, first:] + (after * u) @ w["out"], taken


def _normed(x: Floats, scale: Floats, shift: Floats) -> Floats:
    centred: Floats = x - x.mean(-1, keepdims=True)
    spread = np.sqrt(np.einsum("...d,...d->...", centred, centred)[..., None] / x.shape[-1] + np.float32(EPSILON))
    centred *= scale / spread
    centred += shift
    return centred


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # far below zero the exponential is infinite, and the answer is zero as it should
        found: Floats = np.float32(1) / (np.float32(1) + np.exp(-x))
    return found


def _split(x: Floats, heads: int) -> Floats:
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _joined(x: Floats) -> Floats:
    joined: Floats = x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)
    return joined


def _bias(distance: Floats, first: int, length: int) -> Floats:
    """float32[heads, L - first, L] by how far apart two places are, and `_NEVER` for those to come; a view."""
    after = np.full((len(distance), length - 1), _NEVER, np.float32)
    line = np.concatenate([distance[:, length - 1 :: -1], after], axis=1)
    bias: Floats = np.lib.stride_tricks.sliding_window_view(line, length, axis=1)[:, length - 1 - first :: -1]
    return bias


def _of_places(times: NDArray[np.int32] | None, length: int) -> NDArray[np.int32]:
    if times is None:
        raise ValueError("this sequence encoder was trained with times; it needs those of the history")
    return times[:, -length:]


def _gaps(times: NDArray[np.int32]) -> NDArray[np.int64]:
    """The bucket of the time between each two places, int64[n, L, L]."""
    when = times.astype(np.int64)
    return buckets_of(np.maximum(when[:, :, None] - when[:, None, :], 0))
