"""Both towers forward, in NumPy and compiled loops: the same vectors for the same input, whatever stands beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.two_tower.attributes import Tokens
from penchant.retrieval.two_tower.model import TwoTowerModel


def item_vectors(model: TwoTowerModel, tokens: Tokens, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """float32[rows, d]: `tokens` by slot of the model, `ids` the item's index in the model or -1 for one it never saw.

    NaN where there is neither: nothing is known of such an item.
    """
    return _item_vectors(
        tokens.offsets,
        tokens.slots,
        tokens.shares,
        ids,
        model.tokens,
        model.ids,
        model.item_in,
        model.item_in_bias,
        model.item_out,
        model.item_out_bias,
    )


@kernel
def _item_vectors(
    offsets: NDArray[np.int64],
    slots: NDArray[np.int32],
    shares: NDArray[np.float32],
    index: NDArray[np.int32],
    tokens: NDArray[np.float32],
    ids: NDArray[np.float32],
    inward: NDArray[np.float32],
    inward_bias: NDArray[np.float32],
    outward: NDArray[np.float32],
    outward_bias: NDArray[np.float32],
) -> NDArray[np.float32]:
    rows, d, h = len(index), inward.shape[0], inward.shape[1]
    found = np.empty((rows, d), np.float32)
    x = np.empty(d, np.float32)
    hidden = np.empty(h, np.float32)
    for row in range(rows):
        out = found[row]
        if index[row] < 0 and offsets[row] == offsets[row + 1]:
            out[:] = np.nan
            continue
        x[:] = 0.0
        for at in range(offsets[row], offsets[row + 1]):
            share, token = shares[at], tokens[slots[at]]
            for k in range(d):
                x[k] += share * token[k]
        if index[row] >= 0:
            x += ids[index[row]]
        hidden[:] = inward_bias
        for k in range(d):  # the inner loop is over outputs, so that no sum runs across a register
            for j in range(h):
                hidden[j] += x[k] * inward[k, j]
        for k in range(d):
            out[k] = x[k] + outward_bias[k]
        for j in range(h):
            if hidden[j] > 0:
                for k in range(d):
                    out[k] += hidden[j] * outward[j, k]
    return found


def person_vector(
    model: TwoTowerModel, history: NDArray[np.float32], slots: NDArray[np.int32] | None = None
) -> NDArray[np.float32]:
    """float32[d] from `history`, the vectors of items, newest first, and the person's tokens, by slot of the model."""
    n, d = len(history), model.dimensions
    keys = np.concatenate([history, model.start[None, :]])
    logits = keys @ model.queries.T
    logits[:n] -= model.slopes * np.log1p(np.arange(n, dtype=np.float32))[:, None]
    weights = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    pooled = weights.T @ keys
    hidden = pooled.reshape(-1) @ model.person_in + model.person_in_bias
    known = model.person_tokens[slots] if slots is not None and len(slots) else np.zeros((1, d), np.float32)
    vector = pooled.mean(axis=0) + known.mean(axis=0) + np.maximum(hidden, 0) @ model.person_out + model.person_out_bias
    return np.asarray(vector, np.float32)
