"""Retrieval by two towers: every item of the picture has a vector, new ones by their attributes alone."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.retrieval.known import KnownItems, Meeting
from penchant.retrieval.topk import NOTHING, top_rows
from penchant.retrieval.two_tower.attributes import Reader, digests, pairs
from penchant.retrieval.two_tower.model import TwoTowerModel
from penchant.retrieval.two_tower.towers import item_vectors, person_vector


@dataclass(frozen=True, slots=True, eq=False)
class TowerTable:
    """Vectors of the rows of a picture."""

    vectors: NDArray[np.float32]
    """[rows, d]; NaN where the model knows neither an attribute nor the id."""
    digests: NDArray[np.uint64]
    """By row, of all that the vector was made from."""


class _Vectors:
    """Makes the tables of one model; only rows that changed since the last one are computed."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._last: TowerTable | None = None
        self._meeting = Meeting()

    def of(self, model: TwoTowerModel, items: Items) -> TowerTable:
        if self._reader is None:
            names = tuple(model.attributes.tolist()), tuple(model.numbers.tolist())
            self._reader = Reader(*names, model.knots, len(model.slots))
        known: KnownItems = self._meeting.of(items, model.items)
        tokens = self._reader.read(items).known(model.slots)
        found = digests(tokens.offsets, tokens.slots, tokens.shares.view(np.int32), known.of_row)
        last = self._last
        if last is not None and np.array_equal(last.digests, found):
            return last
        old = np.zeros(len(found), np.bool_)
        if last is not None:
            both = min(len(found), len(last.digests))
            old[:both] = last.digests[:both] == found[:both]
        new = np.flatnonzero(~old)
        vectors = np.empty((len(found), model.dimensions), np.float32)
        if last is not None:
            kept = np.flatnonzero(old)
            vectors[kept] = last.vectors[kept]
        vectors[new] = item_vectors(model, tokens.take(new), known.of_row[new])
        self._last = TowerTable(vectors, found)
        return self._last


class _Scores(threading.local):
    """The scores of all rows for the person that was asked for last, by thread: ranking asks again for some of them."""

    def __init__(self) -> None:
        self._table: TowerTable | None = None
        self._person = b""
        self._scores = np.empty(0, np.float32)

    def of(self, table: TowerTable, person: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._table is not table or self._person != person.tobytes():
            self._scores = table.vectors @ person
            self._table, self._person = table, person.tobytes()
        return self._scores


@dataclass(frozen=True, slots=True)
class TwoTower:
    """Scores every item by the product of its vector and the person's, who is what the live history says.

    An item that came after training is proposed from its first picture on; so is what a new person without history
    may like. With a seed it alone is the history. The newest `depth` items count; without a model nothing is proposed.
    """

    name: str
    model: TwoTowerModel | None = None
    depth: int = 64
    _vectors: _Vectors = field(default_factory=_Vectors, repr=False, compare=False)
    _scores: _Scores = field(default_factory=_Scores, repr=False, compare=False)

    def prepare(self, items: Items) -> TowerTable:
        if self.model is None:
            return TowerTable(np.empty((items.count, 0), np.float32), np.zeros(items.count, np.uint64))
        return self._vectors.of(self.model, items)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        table = self._table(query)
        if self.model is None or limit <= 0:
            return NOTHING
        scores = self._scores.of(table, self._person(self.model, table, query))
        return Retrieved(*top_rows(scores, query.eligible, limit, -np.inf, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        table = self._table(query)
        if self.model is None:
            return np.full(len(rows), np.nan, np.float32)
        return self._scores.of(table, self._person(self.model, table, query))[rows]

    def _table(self, query: Query) -> TowerTable:
        table = query.items.tables[self.name]
        assert isinstance(table, TowerTable)
        return table

    def _person(self, model: TwoTowerModel, table: TowerTable, query: Query) -> NDArray[np.float32]:
        rows = query.history if query.seed_row < 0 else np.array([query.seed_row], np.int32)
        rows = rows[~np.isnan(table.vectors[rows, 0])][: self.depth]
        slots = None
        if (model.person_slots >= 0).any():
            found = model.person_slots[pairs({**query.user.attributes, **query.context}, len(model.person_slots))]
            slots = found[found >= 0]
        return person_vector(model, table.vectors[rows], slots)
