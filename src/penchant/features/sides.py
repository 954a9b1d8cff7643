"""The feature fold side by side: the touches of many people, or of many items, gathered one by one and merged at once.

Where people and items are kept in partitions of their own, no fold sees both. Each side is then given what the other
one knew at that point: hashes and attributes. Blobs are those of `FeatureFold`, by the same kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penchant.core.schema import Schema
from penchant.features.attributes import GivenKeys, Keys
from penchant.features.fold import SideFold, clamped
from penchant.features.plan import Plan, SidePlan

_WIDTH = 8


class FeatureSide:
    """One side of a plan, `user` or `item`. Makes a `Gathering` for each batch."""

    def __init__(self, plan: Plan, side: SidePlan, schema: Schema) -> None:
        self.codes = {name: action.code for name, action in schema.actions.items()}
        self.impression = len(schema.actions)
        self.given = GivenKeys(side.attributes)
        self._fold = SideFold(side, len(plan.actions))

    def gathering(self) -> Gathering:
        """Nothing gathered yet."""
        return Gathering(self._fold)


class Gathering:
    """What one batch does to the entities of one side, in log order for each."""

    __slots__ = ("_fold", "_keys", "_keys_at", "_rows")

    def __init__(self, fold: SideFold) -> None:
        self._fold = fold
        self._rows: list[int] = []
        self._keys: list[int] = []
        self._keys_at = [0]

    def add(
        self,
        entity: int,
        ts: int,
        position: int,
        ingested_at: int,
        action: int,
        q: int,
        present: bool,
        other: int,
        keys: Keys,
    ) -> None:
        """A touch of an entity, by its place in `merged`; `other` is the other side's id as a hash, `keys` its keys."""
        self._rows += (entity, ts, position, ingested_at, action, clamped(q), present, other)
        for values in keys:
            self._keys += values
            self._keys_at.append(len(self._keys))

    def merged(self, blobs: Sequence[bytes | None]) -> list[bytes]:
        """The new blobs of all entities, from their old ones; every entity has been touched or keeps its blob."""
        if not self._rows:
            return [blob or b"" for blob in blobs]
        columns = np.array(self._rows, np.int64).reshape(-1, _WIDTH)
        order = np.argsort(columns[:, 0], kind="stable")
        touches = np.empty((len(columns), _WIDTH), np.int64)
        touches[:, :7] = columns[order, 1:]
        touches[:, 7] = order  # keys are laid out touch by touch
        at = np.zeros(len(blobs) + 1, np.int64)
        np.cumsum(np.bincount(columns[:, 0], minlength=len(blobs)), out=at[1:])
        keys_at, keys = np.array(self._keys_at, np.int64), np.array(self._keys, np.int64)
        return self._fold.merge(blobs, at, touches, keys_at, keys)
