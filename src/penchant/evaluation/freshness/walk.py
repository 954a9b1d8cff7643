"""A log walked through in order of time, answered by engines whose parts are renewed late."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.freshness.intervals import Interval, Unit, seen
from penchant.evaluation.freshness.mixing import ranks, scale
from penchant.evaluation.offline import Cases, Learner, Log, Recommender
from penchant.evaluation.protocols.rounds import by_user, spans

Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Engine:
    """What makes the parts of an engine, each time anew."""

    counters: Callable[[], Learner]
    """The same for everybody: popularity."""
    tables: Callable[[], Learner]
    """Between items or sessions, renewed by single events; asked with a history."""
    model: Callable[[], Recommender]
    """Fitted on a whole log; asked with a history."""


@dataclass(frozen=True, slots=True)
class Variant:
    """An engine with the interval at which each of its parts is renewed, and the weights of the three in the sum."""

    counters: Interval
    tables: Interval
    state: Interval
    """Of the histories that tables and model are asked with."""
    model: Interval
    weights: tuple[float, float, float]
    """Of counters, tables and model."""


@dataclass(slots=True, eq=False)
class Late:
    """One part as it stands after so many rows of the log, which never fall.

    It is fitted on the rows before `begin`; of what follows a `Learner` is told, and another is fitted again on all.
    """

    part: Recommender
    log: Log
    begin: int
    at: int = -1
    fits: int = 0
    seconds: float = 0.0

    def renew(self, rows: int) -> Recommender:
        """The part with `rows` rows seen."""
        if rows == self.at:
            return self.part
        begun = time.perf_counter()
        learner = self.part if isinstance(self.part, Learner) else None
        if self.at < 0 or learner is None:
            self.at = rows if learner is None else self.begin
            self.part.fit(self.log.take(slice(0, self.at)))
            self.fits += 1
        if learner is not None and rows > self.at:
            learner.learn(self.log.take(slice(self.at, rows)))
        self.at = rows
        self.seconds += time.perf_counter() - begun
        return self.part


@dataclass(frozen=True, slots=True)
class Histories:
    """What every user did before any row of the log."""

    log: Log
    order: NDArray[np.int64]
    begins: NDArray[np.int64]
    keys: NDArray[np.int64]
    """Ascending: user and row, one number."""
    items: NDArray[np.int32]
    """In that order."""

    @classmethod
    def of(cls, log: Log) -> Histories:
        """Those of a log."""
        order, begins = by_user(log)
        return cls(log, order, begins, log.users[order] * np.int64(len(log) + 1) + order, log.items[order])

    def before(self, rows: NDArray[np.int64], until: NDArray[np.int64], newest: int | None = None) -> Cases:
        """The histories of the users of `rows` in the first `until` rows of the log; of each the newest so many."""
        users = self.log.users[rows]
        starts = self.begins[users]
        stops = np.searchsorted(self.keys, users * np.int64(len(self.log) + 1) + until)
        if newest is not None:
            starts = np.maximum(starts, stops - newest)
        return Cases(users, *spans(self.items, starts, stops))


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk found."""

    ranks: NDArray[np.int64]
    """int64[variants, rows], from 1; 0: not proposed."""
    fits: int
    """Of models."""
    fit_s: float


def walk(
    log: Log,
    engine: Engine,
    rows: NDArray[np.int64],
    variants: Sequence[Variant],
    *,
    begin: int,
    unit: Unit = "time",
    filter_seen: bool = True,
    depth: int = 50,
    cells: int = 24_000_000,
    progress: Tell = lambda *_: None,
) -> Walked:
    """Ask for the item of each of `rows` (ascending, none before `begin`) just before it, of every variant.

    What a part knows is given by `seen`. Histories are the `depth` newest events of the user that the state has seen.
    With `filter_seen` what the user had before the row is not ranked, whatever the state knows, so that no variant
    loses by proposing it again. Scores of a part are its own above zero, over the largest of the case; an item's score
    is their weighted sum, and among equal ones the right item stands last. At most
    `cells` scores (96 MB) are held at a time.
    """
    intervals = {one for v in variants for one in (v.counters, v.tables, v.state, v.model)}
    known = {one: seen(log, rows, one, unit, begin) for one in intervals}
    histories = Histories.of(log)
    made = {"counters": engine.counters, "tables": engine.tables, "model": engine.model}
    sources: dict[tuple[str, Interval, Interval | None], int] = {}
    parts: dict[tuple[str, Interval], Late] = {}
    index = np.empty((len(variants), 3), np.int64)
    for at, one in enumerate(variants):
        keys = (("counters", one.counters, None), ("tables", one.tables, one.state), ("model", one.model, one.state))
        for column, key in enumerate(keys):
            # A part without weight is not asked; any source stands in for it.
            if one.weights[column] == 0:
                index[at, column] = -1
                continue
            index[at, column] = sources.setdefault(key, len(sources))
            if key[:2] not in parts:
                parts[key[:2]] = Late(made[key[0]](), log, begin)
    index[index < 0] = 0
    weights = np.array([one.weights for one in variants], np.float32)
    found = np.zeros((len(variants), len(rows)), np.int64)
    step = max(1, cells // max(1, len(sources) * log.n_items))
    for start in range(0, len(rows), step):
        now = rows[start : start + step]
        scores = np.empty((len(sources), len(now), log.n_items), np.float32)
        for (kind, interval), part in parts.items():
            asked = [(key[2], at) for key, at in sources.items() if key[:2] == (kind, interval)]
            late = known[interval][start : start + step]
            cuts = [0, *(np.flatnonzero(np.diff(late)) + 1).tolist(), len(now)]
            for low, high in pairwise(cuts):
                model = part.renew(int(late[low]))
                for state, at in asked:
                    until = now[low:high] if state is None else known[state][start + low : start + high]
                    scores[at, low:high] = model.scores(histories.before(now[low:high], until, depth))
        past = histories.before(now, now if filter_seen else np.zeros(len(now), np.int64))
        scale(scores, past.items, past.offsets)
        ranks(scores, index, weights, log.items[now], found[:, start : start + step])
        progress(start + len(now), len(rows))
    models = [part for (kind, _), part in parts.items() if kind == "model"]
    return Walked(found, sum(one.fits for one in models), sum(one.seconds for one in models))
