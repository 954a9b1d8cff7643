"""Models that read attributes of items, as the engine serves them, on an offline log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.items import Items
from penchant.core.query import Query, UserState
from penchant.core.stages import RowScorer, Source
from penchant.evaluation.offline import Cases, Log, Recommender
from penchant.evaluation.protocols.rounds import by_user
from penchant.retrieval import content
from penchant.retrieval.two_tower.batches import Sequences
from penchant.retrieval.two_tower.source import TwoTower
from penchant.retrieval.two_tower.training import Fitting, fit_two_tower


@dataclass(slots=True, eq=False)
class Content:
    """`retrieval.content`: TF-IDF of texts, tags and categories; what shares nothing with a history is not proposed."""

    items: Items
    """Row `i` is the item `i` of the log."""
    name: str = "content"
    source: content.Content = field(default_factory=lambda: content.Content("content"))

    def fit(self, log: Log) -> None:
        assert log.n_items == self.items.count, "attributes are of other items"
        self.items.tables[self.source.name] = self.source.prepare(self.items)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found = served(self.source, self.items, cases)
        found[~(found > 0)] = -np.inf
        return found


@dataclass(slots=True, eq=False)
class TwoTowers:
    """`retrieval.two_tower`: trained on the log's items; all others are scored by their attributes alone."""

    items: Items
    name: str = "two-tower"
    seed: int = 0
    fitting: Fitting = field(default_factory=Fitting)
    progress: Callable[[int, int, float], None] = lambda *_: None
    source: TwoTower = field(default_factory=lambda: TwoTower("two-tower"))

    def fit(self, log: Log) -> None:
        order, offsets = by_user(log)
        trained, places = np.unique(log.items[order], return_inverse=True)
        kinds = (self.items.categories, self.items.tags, self.items.texts)
        model = fit_two_tower(
            Sequences(places.astype(np.int32), offsets),
            self.items,
            trained.astype(np.int64),
            attributes=tuple(sorted(name for kind in kinds for name in kind)),
            numbers=tuple(sorted((*self.items.numbers, *self.items.timestamps))),
            seed=self.seed,
            fitting=self.fitting,
            progress=self.progress,
        )
        self.source = TwoTower("two-tower", model, depth=self.fitting.length)
        self.items.tables[self.source.name] = self.source.prepare(self.items)

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        found = served(self.source, self.items, cases)
        found[np.isnan(found)] = -np.inf
        return found


def served(source: Source, items: Items, cases: Cases) -> NDArray[np.float32]:
    """What a source, prepared for the picture, scores every row with, float32[cases, rows]; NaN where it has none."""
    assert isinstance(source, RowScorer)
    rows = np.arange(items.count, dtype=np.int32)
    found = np.empty((len(cases), items.count), np.float32)
    for case in range(len(cases)):
        past = cases.items[cases.offsets[case] : cases.offsets[case + 1]][::-1]
        _, newest = np.unique(past, return_index=True)
        history = past[np.sort(newest)].astype(np.int32)
        query = Query(
            request_id="",
            now=items.time,
            user_id="",
            surface="",
            size=0,
            user=UserState(position=items.position),
            items=items,
            eligible=items.listed,
            history=history,
            history_times=np.full(len(history), items.time, np.int64),
        )
        found[case] = source.score_rows(query, rows)
    return found


ATTRIBUTED: dict[str, Callable[[int, Items], Recommender]] = {
    "content": lambda _seed, items: Content(items),
    "two-tower": lambda seed, items: TwoTowers(items, seed=seed),
}
"""From the name of a model to what makes one from the seed of its draws and the attributes of the items."""
