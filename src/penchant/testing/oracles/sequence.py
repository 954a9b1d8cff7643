"""Sequence encoder in plain loops: one place, one head and one number after the other, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.weights import Shape, of_block, time_edges

Row = NDArray[Any]


def state_after(model: SequenceModel, past: list[int], times: list[int] | None = None) -> Row:
    """The state after a history of indices, oldest first; `times` in seconds."""
    shape = model.shape
    past, times = past[-shape.length :], None if times is None else times[-shape.length :]
    weights = {name: value.astype(np.float64) for name, value in model.weights.items()}
    x = []
    for place, item in enumerate(past):
        row = weights["embedding"][item]
        if shape.temperature > 0:
            row = row * np.sqrt(shape.dim) / (np.linalg.norm(row) + 1e-5)
        x.append(row + weights["places"][len(past) - 1 - place])
    for block in range(shape.blocks):
        x = [place_after(of_block(weights, block), shape, x, place, times) for place in range(len(x))]
    state = _norm(x[-1], weights["last_scale"], weights["last_shift"])
    if shape.temperature > 0:
        state = state / (np.linalg.norm(state) + 1e-6) / shape.temperature
    return state


def place_after(w: dict[str, Row], shape: Shape, x: list[Any], place: int, times: list[int] | None = None) -> Row:
    """What a block makes of one place of its input `x`."""
    d, size = shape.dim, shape.dim // shape.heads
    mixed = [_norm(row, w["norm_scale"], w["norm_shift"]) @ w["mix"] for row in x[: place + 1]]
    if shape.block == "hstu":
        mixed = [row * _sigmoid(row) for row in mixed]
        u, v, q, k = (([row[part * d : (part + 1) * d] for row in mixed]) for part in range(4))
    else:
        q, k, v = (([row[part * d : (part + 1) * d] for row in mixed]) for part in range(3))
    after = np.zeros(d)
    for head in range(shape.heads):
        at = slice(head * size, (head + 1) * size)
        logits = []
        for other in range(place + 1):
            logit = float(q[place][at] @ k[other][at])
            logit = logit if shape.block == "hstu" else logit / np.sqrt(size)
            logit += w["distance"][head, place - other]
            if shape.times:
                assert times is not None
                bucket = sum(1 for edge in time_edges() if edge <= max(times[place] - times[other], 0))
                logit += w["gap"][head, bucket]
            logits.append(logit)
        scores = np.array(logits)
        if shape.block == "hstu":
            weight = scores * _sigmoid(scores) / shape.length
        else:
            weight = np.exp(scores - scores.max())
            weight /= weight.sum()
        after[at] = sum(weight[other] * v[other][at] for other in range(place + 1))
    row = x[place]
    if shape.block == "hstu":
        return np.asarray(row + (_norm(after, w["inner_scale"], w["inner_shift"]) * u[place]) @ w["out"])
    row = row + _sigmoid(row @ w["gate"] + w["gate_shift"]) * (after @ w["out"])
    left, right = np.split(_norm(row, w["wide_scale"], w["wide_shift"]) @ w["widen"], 2)
    gate = _sigmoid(row @ w["wide_gate"] + w["wide_gate_shift"])
    return np.asarray(row + gate * ((left * _sigmoid(left) * right) @ w["narrow"]))


def _norm(x: Row, scale: Row, shift: Row) -> Row:
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift)


def _sigmoid(x: Row) -> Row:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))
