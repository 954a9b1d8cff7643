"""The gated blocks (LiGR) for one history, as a request asks: the same function as `encoder`, in half its time.

Everything is held as [channels, places]: what is worked out place by place, a norm or the sum of a softmax too, is then
a loop along memory that the compiler turns into vector instructions without changing an order of addition, heads are
rows, and a block needs no copy for the products, which BLAS does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.sequence.weights import EPSILON, Shape, buckets_of, of_block

Floats = NDArray[Any]
_EPSILON, _ONE, _HALF = np.float32(EPSILON), np.float32(1), np.float32(0.5)
# Cephes' expf: exp(x) = 2^n * exp(r), r = x - n * log(2) with log(2) in two parts, exp(r) a polynomial of degree 5.
_LOWEST, _HIGHEST, _PER_LOG2 = np.float32(-87), np.float32(88), np.float32(1.4426950408889634)
_LOG2, _LOG2_REST = np.float32(0.693359375), np.float32(-2.12194440e-4)
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


def newest_of_one(
    weights: dict[str, Floats], shape: Shape, x: Floats, times: NDArray[np.int32] | None = None, *, terms: bool = False
) -> tuple[Floats, Floats | None]:
    """The newest place after all blocks and the last norm, float32[1, d], of the places `x`, float32[L, d], all taken.

    `times`, int32[L], are seconds, for a model that reads them. With `terms` also what the last block took from each
    place, float32[1, L, d]. The weights must be float32, as those of a `SequenceModel` are.
    """
    x = x.T.copy()
    for block in range(shape.blocks - 1):
        w = of_block(weights, block)
        _go_on(w, x, _attended(w, shape, _normed(w, x), times))
    w = of_block(weights, shape.blocks - 1)
    normed = _normed(w, x)
    newest = np.ascontiguousarray(x[:, -1:])
    weight = _weights_of_newest(w, shape, normed, times)
    taken = _terms(w, newest, normed, weight) if terms else None
    _go_on(w, newest, _taken(w, normed, weight))
    state = np.empty_like(newest)
    _norm(newest, weights["last_scale"], weights["last_shift"], state)
    return state.T, taken


def _normed(w: dict[str, Floats], x: Floats) -> Floats:
    normed = np.empty_like(x)
    _norm(x, w["norm_scale"], w["norm_shift"], normed)
    return normed


def _go_on(w: dict[str, Floats], x: Floats, after: Floats) -> None:
    """The rest of a gated block, in place of `x`, float32[d, n], from what its places took, float32[d, n]."""
    _add_gated(x, w["gate"].T @ x, w["gate_shift"], w["out"].T @ after)
    normed = np.empty_like(x)
    _norm(x, w["wide_scale"], w["wide_shift"], normed)
    wide = w["widen"].T @ normed
    _swish(wide)
    _add_gated(x, w["wide_gate"].T @ x, w["wide_gate_shift"], w["narrow"].T @ wide[: len(wide) // 2])


def _attended(w: dict[str, Floats], shape: Shape, normed: Floats, times: NDArray[np.int32] | None) -> Floats:
    """What each place takes from those up to it, float32[d, L]."""
    d, places = normed.shape
    width = d // shape.heads
    scale = np.float32(width**-0.5)
    mixed = w["mix"].T @ normed
    after, weight = np.empty_like(normed), np.empty((places, places), np.float32)
    for head in range(shape.heads):
        rows = slice(head * width, (head + 1) * width)
        q, k, v = mixed[:d][rows], mixed[d : 2 * d][rows], mixed[2 * d :][rows]
        np.matmul(k.T, q, out=weight)
        if times is not None:
            _add_gaps(weight, times, w["gap"][head] / scale)
        total = np.zeros(places, np.float32)
        _weigh(weight, w["distance"][head], scale, total)
        np.matmul(v, weight, out=after[rows])
        after[rows] /= total
    return after


def _weights_of_newest(w: dict[str, Floats], shape: Shape, normed: Floats, times: NDArray[np.int32] | None) -> Floats:
    """The weight of each place for the newest, float32[heads, L]; keys are never made, as q·(K·n) = (q·K)·n."""
    d, places = normed.shape
    width = d // shape.heads
    mix = w["mix"]
    q = normed[:, -1] @ mix[:, :d]
    q *= np.float32(width**-0.5)
    buckets = None if times is None else buckets_of(times[-1] - times)
    found = np.empty((shape.heads, places), np.float32)
    for head in range(shape.heads):
        first, end = head * width, (head + 1) * width
        logits = (mix[:, d + first : d + end] @ q[first:end]) @ normed
        logits += w["distance"][head, :places][::-1]
        if buckets is not None:
            logits += w["gap"][head, buckets]
        logits -= logits.max()
        weight = np.exp(logits, out=logits)
        np.divide(weight, weight.sum(), out=found[head])
    return found


def _taken(w: dict[str, Floats], normed: Floats, weight: Floats) -> Floats:
    """What the newest place takes, float32[d, 1]: the sum of weight·(V·n) as V·(the sum of weight·n)."""
    d, width = len(normed), len(normed) // len(weight)
    values, taken = w["mix"][:, 2 * d :], np.empty((d, 1), np.float32)
    for head, one in enumerate(weight):
        rows = slice(head * width, (head + 1) * width)
        taken[rows, 0] = (normed @ one) @ values[:, rows]
    return taken


def _terms(w: dict[str, Floats], newest: Floats, normed: Floats, weight: Floats) -> Floats:
    """What the newest place takes from each, as it is added to it, float32[1, L, d]."""
    d, places = normed.shape
    values = (normed.T @ w["mix"][:, 2 * d :]).reshape(places, len(weight), -1) * weight.T[:, :, None]
    found = (values.reshape(places, d) @ w["out"]).T
    gated = np.zeros_like(found)
    _add_gated(gated, np.broadcast_to(w["gate"].T @ newest, found.shape), w["gate_shift"], found)
    return gated.T[None]


@kernel
def _exp(x: np.float32) -> np.float32:
    """The exponential to a relative error of 1e-7; `x` is held in [-87, 88]. `np.exp` would be one call a number."""
    x = min(max(x, _LOWEST), _HIGHEST)
    n = np.floor(x * _PER_LOG2 + _HALF)
    r = x - n * _LOG2 - n * _LOG2_REST
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    whole = np.int32((np.int32(n) + _BIAS) << _MANTISSA).view(np.float32)
    return (p * r * r + r + _ONE) * whole  # type: ignore[no-any-return]


@kernel
def _norm(x: Floats, scale: Floats, shift: Floats, out: Floats) -> None:
    """Each place's channels to mean 0 and variance 1, then scaled and shifted."""
    channels, places = x.shape
    mean, spread = np.zeros(places, np.float32), np.zeros(places, np.float32)
    per = _ONE / np.float32(channels)
    for c in range(channels):
        for i in range(places):
            mean[i] += x[c, i]
    for i in range(places):
        mean[i] *= per
    for c in range(channels):
        for i in range(places):
            centred = x[c, i] - mean[i]
            out[c, i] = centred
            spread[i] += centred * centred
    for i in range(places):
        spread[i] = _ONE / np.sqrt(spread[i] * per + _EPSILON)
    for c in range(channels):
        for i in range(places):
            out[c, i] = out[c, i] * spread[i] * scale[c] + shift[c]


@kernel
def _weigh(logits: Floats, distance: Floats, scale: np.float32, total: Floats) -> None:
    """Softmax weights in place of `logits`, float32[keys, queries], not yet divided by their sums `total`."""
    places = len(logits)
    top = np.full(places, np.float32(-np.inf), np.float32)
    for j in range(places):
        row, high = logits[j, j:], top[j:]  # slices, not indices: the compiler must see that none is below zero
        for i in range(len(row)):
            row[i] = row[i] * scale + distance[i]
            high[i] = max(high[i], row[i])
    for j in range(places):
        logits[j, :j] = np.float32(0)
        row, high, sums = logits[j, j:], top[j:], total[j:]
        for i in range(len(row)):
            row[i] = _exp(row[i] - high[i])
            sums[i] += row[i]


@kernel
def _add_gaps(logits: Floats, times: NDArray[np.int32], gap: Floats) -> None:
    """Add to `logits`, float32[keys, queries], the bias of the time between two places, by its bucket.

    The bounds of `time_edges` are powers of two: the bucket of a time is how many bits its whole seconds have, which
    the exponent of its float64 tells.
    """
    places, most = len(logits), len(gap) - 1
    for j in range(places):
        row, later = logits[j, j:], times[j:]
        for i in range(len(row)):
            bits = int(np.float64(max(later[i] - times[j], 0)).view(np.int64) >> 52) - 1022
            row[i] += gap[min(max(bits, 0), most)]


@kernel
def _add_gated(x: Floats, gate: Floats, shift: Floats, more: Floats) -> None:
    """Add `sigmoid(gate + shift) * more` to `x`."""
    channels, places = x.shape
    for c in range(channels):
        for i in range(places):
            x[c, i] += more[c, i] / (_ONE + _exp(-(gate[c, i] + shift[c])))


@kernel
def _swish(wide: Floats) -> None:
    """SwiGLU in place: the upper half of the channels becomes `silu(upper) * lower`."""
    half, places = len(wide) // 2, wide.shape[1]
    for c in range(half):
        for i in range(places):
            value = wide[c, i]
            wide[c, i] = value / (_ONE + _exp(-value)) * wide[half + c, i]
