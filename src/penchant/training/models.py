"""The models that sources ask, by the names of those sources: how each is trained, kept and read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.core.items import Items
from penchant.retrieval.factors import FactorModel, fit_ials
from penchant.retrieval.graph_filter import GraphFilterModel, fit_graph_filter
from penchant.retrieval.linear import EaseModel, fit_ease
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sparse_linear import fit_sparse_ease
from penchant.retrieval.two_tower.batches import Sequences
from penchant.retrieval.two_tower.model import TwoTowerModel
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


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What models learn from: who took what and when, and what the items are, made when a model asks for it."""

    interactions: Interactions
    items: Callable[[], Items]


@dataclass(frozen=True, slots=True)
class ModelKind:
    """How a model is trained on the past, and read from the part of an artifact that keeps it."""

    read: Callable[[Mapping[str, NDArray[Any]]], Model]
    train: Callable[[Past, Training, int, Tell], Model | None]
    """From interactions in which two items share a user, the settings and a seed; None where there is nothing to learn.
    """


def _ease(told: Past, settings: Training, _seed: int, tell: Tell) -> EaseModel:
    past = told.interactions
    if len(past.items) > settings.dense_items:
        return fit_sparse_ease(past.matrix, past.items, reg=settings.reg, threads=1, progress=partial(tell, "ease"))
    tell("ease", 0, 1)
    model = fit_ease(past.matrix, past.items, reg=settings.reg)
    tell("ease", 1, 1)
    return model


def _ials(told: Past, settings: Training, seed: int, tell: Tell) -> FactorModel:
    how = settings.ials
    return fit_ials(
        told.interactions.matrix,
        told.interactions.items,
        dim=how.embedding_size,
        reg=how.reg,
        unobserved_weight=how.unobserved_weight,
        epochs=how.epochs,
        seed=seed,
        threads=1,
        progress=partial(tell, "ials"),
    )


def _graph_filter(told: Past, _settings: Training, seed: int, tell: Tell) -> GraphFilterModel:
    tell("graph_filter", 0, 1)
    model = fit_graph_filter(told.interactions.matrix, told.interactions.items, seed=seed)
    tell("graph_filter", 1, 1)
    return model


def _sequence(told: Past, settings: Training, seed: int, tell: Tell) -> SequenceModel:
    from penchant.retrieval.sequence.options import SequenceOptions
    from penchant.retrieval.sequence.training import fit_sequence
    from penchant.retrieval.sequence.weights import Shape

    how, past = settings.sequence, told.interactions
    options = SequenceOptions(
        shape=Shape(dim=how.embedding_size, blocks=how.blocks, heads=how.heads, length=how.length, times=how.times),
        dropout=how.dropout,
        negatives=how.negatives,
        rate=how.learning_rate,
        epochs=how.epochs,
        restart=how.restart,
    )
    return fit_sequence(
        past.rows,
        past.columns,
        past.ts,
        past.items,
        options,
        seed=seed,
        progress=lambda _what, done, total: tell("sequence", done, total),
    )


def _two_tower(told: Past, settings: Training, seed: int, tell: Tell) -> TwoTowerModel | None:
    from penchant.retrieval.two_tower.training import Fitting, fit_two_tower

    how, past, items = settings.two_tower, told.interactions, told.items()
    rows = np.array([items.rows.get(key, items.count) for key in past.items.tolist()], np.int64)
    known = rows < items.count  # interactions may name what no item event brought
    number = np.cumsum(known) - 1
    there = known[past.columns]
    if not there.any():
        return None
    people = past.rows[there]
    order = np.argsort(people, kind="stable")
    counts = np.bincount(people, minlength=len(past.users))
    sequences = Sequences(
        number[past.columns[there]][order].astype(np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    )
    return fit_two_tower(
        sequences,
        items,
        rows[known],
        attributes=(*items.categories, *items.tags, *items.texts),
        numbers=(*items.numbers, *items.timestamps),
        seed=seed,
        fitting=Fitting(dimensions=how.embedding_size, epochs=how.epochs),
        progress=lambda done, total, _loss: tell("two_tower", done, total),
    )


KINDS: Mapping[str, ModelKind] = {
    "ease": ModelKind(EaseModel.from_parts, _ease),
    "ials": ModelKind(FactorModel.from_parts, _ials),
    "graph_filter": ModelKind(GraphFilterModel.from_parts, _graph_filter),
    "sequence": ModelKind(SequenceModel.from_parts, _sequence),
    "two_tower": ModelKind(TwoTowerModel.from_parts, _two_tower),
}
"""By the name of the source; an artifact keeps each as the part `<name>.npz`."""


def part_of(name: str) -> str:
    """The part of an artifact that keeps the model of a source."""
    return f"{name}.npz"


def train_models(
    names: Iterable[str], past: Past, settings: Training, *, seed: int = 0, tell: Tell = lambda *_: None
) -> dict[str, Model]:
    """The models of these names, of which those that find nothing to learn are left out; none when no two items share
    a user.

    The caller bounds the items (`interactions_csr(max_items=…)`).
    """
    matrix = past.interactions.matrix
    if matrix.shape[1] < 2 or (matrix.getnnz(axis=1) > 1).sum() == 0:
        return {}
    wanted = set(names)
    trained = {name: kind.train(past, settings, seed, tell) for name, kind in KINDS.items() if name in wanted}
    return {name: model for name, model in trained.items() if model is not None}
