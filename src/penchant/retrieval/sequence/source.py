"""Retrieval by a sequence encoder: the whole live history is read at every request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.history import FromHistory, Visits
from penchant.retrieval.sequence.encoder import encode
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.weights import seconds


@dataclass(frozen=True, slots=True)
class Sequence(FromHistory[SequenceModel]):
    """Scores by the product of the state after the newest `depth` items and each item's embedding.

    A softmax leaves the level of scores open: they are given less their mean over all items, so that proposed is what
    is more likely than the middle. Order says how old a visit is, and to a model that reads times how long ago; `decay`
    is not used.
    """

    depth: int = 200

    def _score(self, model: SequenceModel, past: Visits) -> NDArray[np.float32]:
        state = encode(model, _oldest_first(past.items), _times(model, past)).states[0]
        scores = np.asarray(model.factors @ state, np.float32)
        scores -= scores.mean(dtype=np.float32)
        return scores

    def _largest(self, model: SequenceModel, past: Visits, wanted: NDArray[np.int32]) -> NDArray[np.int32]:
        # Against the mean embedding, as scores are: what a place adds to all items alike says nothing about one.
        factors = model.factors[np.maximum(wanted, 0)] - model.factors.mean(axis=0)
        taken = encode(model, _oldest_first(past.items), _times(model, past), terms=True).terms
        assert taken is not None
        terms = factors @ taken[0].T[:, ::-1]
        found: NDArray[np.int32] = terms.argmax(axis=1).astype(np.int32)
        found[(wanted < 0) | (terms.max(axis=1) <= 0)] = -1
        return found


def _oldest_first(past: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.ascontiguousarray(past[None, ::-1])


def _times(model: SequenceModel, past: Visits) -> NDArray[np.int32] | None:
    return _oldest_first(seconds(past.times[::-1])[::-1]) if model.shape.times else None
