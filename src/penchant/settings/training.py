"""What `penchant train` does by default."""

from __future__ import annotations

from typing import Annotated

import msgspec

from penchant.settings.table import Table


class IalsTraining(Table, frozen=True):
    """`[training.ials]`: least squares over factors of users and items, for surfaces that list the source `ials`."""

    embedding_size: Annotated[int, msgspec.Meta(ge=1, le=2_048)] = 64
    epochs: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 16
    reg: Annotated[float, msgspec.Meta(gt=0)] = 0.003
    """L2 regularisation, times how often a user or an item occurs."""
    unobserved_weight: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.1
    """What not having taken an item weighs beside having taken it."""


class SequenceTraining(Table, frozen=True):
    """`[training.sequence]`: an encoder of histories, for surfaces that list the source `sequence`; needs JAX."""

    embedding_size: Annotated[int, msgspec.Meta(ge=4, le=512)] = 64
    blocks: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    heads: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    length: Annotated[int, msgspec.Meta(ge=2, le=1_000)] = 200
    """How many of the newest items are read."""
    times: bool = False
    """Whether the time between two visits counts, beside their order."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.2
    negatives: Annotated[int, msgspec.Meta(ge=0, le=100_000)] | None = None
    """How many uniform draws a batch shares; 0: the softmax is over all items, as it is up to 5,000; else 512."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.001
    epochs: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 40
    restart: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    """After so many epochs the rate begins anew; 0: never."""


class TwoTowerTraining(Table, frozen=True):
    """`[training.two_tower]`: vectors from what items are, for surfaces that list `two_tower`; needs JAX."""

    embedding_size: Annotated[int, msgspec.Meta(ge=4, le=512)] = 64
    epochs: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 8


class Training(Table, frozen=True):
    """`[training]`: what `penchant train` does by default."""

    attribution: str = "24h"
    """How long after an impression an interaction still counts for it."""
    reg: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """EASE: L2 regularisation."""
    trees: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 200
    leaves: Annotated[int, msgspec.Meta(ge=2, le=64)] = 31
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    max_items: Annotated[int, msgspec.Meta(ge=1)] = 200_000
    """Models keep the most popular items up to this many."""
    dense_items: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """EASE weighs all pairs of items up to this many, above them an item's nearest ones alone."""
    holdout: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    """Share of the newest requests that the gate is measured on."""
    ials: IalsTraining = IalsTraining()
    sequence: SequenceTraining = SequenceTraining()
    two_tower: TwoTowerTraining = TwoTowerTraining()
