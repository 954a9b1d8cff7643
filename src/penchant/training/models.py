"""The models that sources ask, by the names of those sources: how each is trained, kept and read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from numpy.typing import NDArray

from penchant.retrieval.factors import FactorModel, fit_ials
from penchant.retrieval.graph_filter import GraphFilterModel, fit_graph_filter
from penchant.retrieval.linear import EaseModel, fit_ease
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sparse_linear import fit_sparse_ease
from penchant.settings import Training
from penchant.training.interactions import Interactions

Tell = Callable[[str, int, int], None]


class Model(Protocol):
    """A model of retrieval: arrays that an artifact keeps."""

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays of the model, to be kept in one NPZ file."""
        ...


Models = Mapping[str, Any]
"""A `Model` by the name of the source that asks it, which knows its type."""


@dataclass(frozen=True, slots=True)
class ModelKind:
    """How a model is trained on the past, and read from the part of an artifact that keeps it."""

    read: Callable[[Mapping[str, NDArray[Any]]], Model]
    train: Callable[[Interactions, Training, int, Tell], Model]
    """From interactions in which two items share a user, the settings and a seed."""


def _ease(past: Interactions, settings: Training, _seed: int, tell: Tell) -> EaseModel:
    if len(past.items) > settings.dense_items:
        return fit_sparse_ease(past.matrix, past.items, reg=settings.reg, threads=1, progress=partial(tell, "ease"))
    tell("ease", 0, 1)
    model = fit_ease(past.matrix, past.items, reg=settings.reg)
    tell("ease", 1, 1)
    return model


def _ials(past: Interactions, settings: Training, seed: int, tell: Tell) -> FactorModel:
    told = settings.ials
    return fit_ials(
        past.matrix,
        past.items,
        dim=told.embedding_size,
        reg=told.reg,
        unobserved_weight=told.unobserved_weight,
        epochs=told.epochs,
        seed=seed,
        threads=1,
        progress=partial(tell, "ials"),
    )


def _graph_filter(past: Interactions, _settings: Training, seed: int, tell: Tell) -> GraphFilterModel:
    tell("graph_filter", 0, 1)
    model = fit_graph_filter(past.matrix, past.items, seed=seed)
    tell("graph_filter", 1, 1)
    return model


def _sequence(past: Interactions, settings: Training, seed: int, tell: Tell) -> SequenceModel:
    from penchant.retrieval.sequence.options import SequenceOptions
    from penchant.retrieval.sequence.training import fit_sequence
    from penchant.retrieval.sequence.weights import Shape

    told = settings.sequence
    options = SequenceOptions(
        shape=Shape(dim=told.embedding_size, blocks=told.blocks, heads=told.heads, length=told.length),
        dropout=told.dropout,
        negatives=told.negatives,
        rate=told.learning_rate,
        epochs=told.epochs,
    )
    return fit_sequence(
        past.rows,
        past.columns,
        None,
        past.items,
        options,
        seed=seed,
        progress=lambda _what, done, total: tell("sequence", done, total),
    )


KINDS: Mapping[str, ModelKind] = {
    "ease": ModelKind(EaseModel.from_parts, _ease),
    "ials": ModelKind(FactorModel.from_parts, _ials),
    "graph_filter": ModelKind(GraphFilterModel.from_parts, _graph_filter),
    "sequence": ModelKind(SequenceModel.from_parts, _sequence),
}
"""By the name of the source; an artifact keeps each as the part `<name>.npz`."""


def part_of(name: str) -> str:
    """The part of an artifact that keeps the model of a source."""
    return f"{name}.npz"


def train_models(
    names: Iterable[str], past: Interactions, settings: Training, *, seed: int = 0, tell: Tell = lambda *_: None
) -> dict[str, Model]:
    """The models of these names; none when no two items share a user.

    The caller bounds the items (`interactions_csr(max_items=…)`).
    """
    matrix = past.matrix
    if matrix.shape[1] < 2 or (matrix.getnnz(axis=1) > 1).sum() == 0:
        return {}
    return {name: KINDS[name].train(past, settings, seed, tell) for name in KINDS if name in set(names)}
