"""Models put through a protocol, batch after batch, in memory that does not grow with the cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation import metrics
from penchant.evaluation.beyond import Likeness
from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.memory import forget_peak, peak_bytes
from penchant.evaluation.offline import Learner, Recommender, Sparing, Tunable
from penchant.evaluation.protocols.extras import Extras, extras_of
from penchant.evaluation.protocols.ranking import best, places
from penchant.evaluation.protocols.recipe import PLAIN, Options, Recipe
from penchant.evaluation.protocols.report import Report, Row, compared
from penchant.evaluation.protocols.rounds import Round

Tell = Callable[[str, int, int], None]

_CELLS = 8_000_000
"""How many scores are held at a time: 32 MB."""
LIVE_STEP = 64
"""How many events pass before a learner is told of them."""


@dataclass(slots=True, eq=False)
class _Tally:
    """What one model got in one round."""

    extras: Extras
    shown: NDArray[np.int64]
    values: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    extras_s: float = 0.0

    def add(self, name: str, values: NDArray[np.float64]) -> None:
        self.values.setdefault(name, []).append(values)


def judge(
    recipe: Recipe,
    data: Dataset,
    models: Sequence[Recommender],
    options: Options = PLAIN,
    progress: Tell = lambda *_: None,
    live_step: int = LIVE_STEP,
) -> Report:
    """Fit each model on each round of the protocol, ask it all cases and count.

    A figure is the mean over the cases of a round, averaged over rounds. Intervals are 95 % paired bootstraps, over
    users or sessions, of the difference to the first model. With `options.live` a model that is a `Learner` is told of
    every event after it was asked for, at most `live_step` events later; 1 is at once, and slow.
    """
    rows = [_row(recipe, data, model, options, progress, live_step) for model in models]
    report = compared(recipe, data, rows, options)
    return replace(report, alike="company" if data.traits is None else "attributes")


def _row(recipe: Recipe, data: Dataset, model: Recommender, options: Options, progress: Tell, live_step: int) -> Row:
    forget_peak()
    learner = model if options.live and isinstance(model, Learner) else None
    told = recipe.rounds(data, options)
    row = Row(model.name, live=learner is not None)
    extras = extras_of(recipe.shown, None if told.traits is None else Likeness.of(told.traits))
    for number, one in enumerate(told.rounds):
        if not len(one.asked):
            raise Unsuited(f"{data.name}, {one.name}: nothing to ask; users with more interactions are needed")
        row.fit_s += _fit(model, one)
        fitted = time.perf_counter()
        tally = _Tally(extras(one.train, len(one.asked)), np.zeros(one.train.n_items, np.int64))
        tally.extras_s = time.perf_counter() - fitted
        step = max(1, min(4_096, _CELLS // max(one.train.n_items, 1)))
        for begin, end in _batches(one, learner, step, live_step):
            _ask(recipe, model, one, begin, end, tally)
            done = (number + end / len(one.asked)) / told.count
            progress(model.name, round(1_000 * done), 1_000)
        row.ask_s += time.perf_counter() - fitted - tally.extras_s
        counts = tally.extras.counts
        row.add(
            {name: np.concatenate(values) for name, values in tally.values.items()},
            one.asked.groups,
            coverage=float((tally.shown > 0).sum() / max(1, (counts > 0).sum())),
            novelty=novelty_of(tally.shown, counts),
            gini=metrics.gini(tally.shown[counts > 0]),
            extras=tally.extras.values(),
        )
    row.peak_bytes = peak_bytes()
    return row


def _fit(model: Recommender, one: Round) -> float:
    """Seconds that it takes, with those that were spared as another row had it fitted to the same log."""
    begun, spared = time.perf_counter(), _spared(model)
    if isinstance(model, Tunable) and one.tuning is not None and len(one.tuning):
        every = len(one.tuning)
        model.tune(one.train, one.tuning.cases(0, every), *one.tuning.targets(0, every))
    else:
        model.fit(one.train)
    return time.perf_counter() - begun + _spared(model) - spared


def _spared(model: Recommender) -> float:
    return model.spared_s if isinstance(model, Sparing) else 0.0


def _batches(one: Round, learner: Learner | None, step: int, live_step: int) -> Iterator[tuple[int, int]]:
    """Cases `begin` to `end`; before each batch a learner is told of what happened before its first case."""
    begin = told = 0
    while begin < len(one.asked):
        end = min(begin + step, len(one.asked))
        if learner is not None and one.live is not None and one.at is not None:
            now = int(one.at[begin])
            if now > told:
                learner.learn(one.live.take(slice(told, now)))
            told = now
            end = min(end, int(np.searchsorted(one.at, now + live_step)))
        yield begin, end
        begin = end


def _ask(recipe: Recipe, model: Recommender, one: Round, begin: int, end: int, tally: _Tally) -> None:
    cases = one.asked.cases(begin, end)
    answers, first = one.asked.targets(begin, end)
    scores = model.scores(cases)
    if scores.shape != (len(cases), one.train.n_items):
        expected = (len(cases), one.train.n_items)
        raise ValueError(f"{model.name} gave scores of shape {scores.shape}, not {expected}")
    scores = np.ascontiguousarray(scores, np.float32)
    if recipe.filter_seen:
        scores[cases.owners(), cases.items] = -np.inf
    if one.candidates is not None:
        scores[:, ~one.candidates] = -np.inf
    lists = best(scores, answers, first, recipe.k)
    ranked = metrics.listed(lists, answers.astype(np.int64), first)
    for name, measure in recipe.measures.items():
        values = measure(ranked)
        if one.strata is None:
            tally.add(name, values)
        else:
            for number, label in enumerate(one.strata.names):
                tally.add(f"{name} {label}", np.where(one.strata.of[begin:end] == number, values, np.nan))
    if recipe.full_mrr:
        ranks = places(scores, answers)
        tally.add("MRR", np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=ranks > 0))
    shown = lists[:, : recipe.shown]
    np.add.at(tally.shown, shown[shown >= 0], 1)
    judged = time.perf_counter()
    tally.extras.add(cases, lists, ranked, begin)
    tally.extras_s += time.perf_counter() - judged


def novelty_of(shown: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """`metrics.novelty` from how often each item was shown."""
    return float(shown @ metrics.surprise(counts) / shown.sum()) if shown.sum() else float("nan")
