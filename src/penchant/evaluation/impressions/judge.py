"""`per-impression`: what was shown is ordered anew inside each recorded impression, as MIND has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation import metrics
from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.impressions.models import Orderer, Progressive
from penchant.evaluation.impressions.rows import Impressions
from penchant.evaluation.memory import forget_peak, peak_bytes
from penchant.evaluation.protocols.recipe import PLAIN, Options, Recipe, ndcg_at
from penchant.evaluation.protocols.report import Report, Row, behind
from penchant.evaluation.protocols.rounds import Told

DAY = 86_400_000
Tell = Callable[[str, int, int], None]


def _no_rounds(data: Dataset, _options: Options) -> Told:
    raise Unsuited(f"{data.name}: per-impression is judged by judge_impressions, on what was shown")


PER_IMPRESSION = Recipe(
    name="per-impression",
    version=1,
    told="What was shown is ordered inside each impression of the last 24 hours by what was known before them; judged "
    "are impressions with something clicked and something not. AUC: equal scores count half; MRR: over all clicks, as "
    "MIND's evaluation; NDCG: ties against the model.",
    k=10,
    shown=0,
    measures={"MRR": metrics.mean_reciprocal, "NDCG@5": ndcg_at(5), "NDCG@10": ndcg_at(10)},
    rounds=_no_rounds,
    filter_seen=False,
)


def judge_impressions(
    data: Impressions, models: Sequence[Orderer], options: Options = PLAIN, progress: Tell = lambda *_: None
) -> Report:
    """Fit each model on what was shown before the last 24 hours, and let it order the impressions since.

    Validation orders the 24 hours before those, by what came before them. Intervals are 95 % paired bootstraps over
    users of the difference to the first model. With `options.live` a model that is `Progressive` is told of every row
    before the first row of the impression that it orders (the progressive protocol); the others stay as they were.
    """
    begun = data.begun
    last = int(data.rows.times.max()) - DAY
    begin, end = (last, last + DAY) if options.part == "test" else (last - DAY, last)
    past = data.rows.take(_in_time(data.rows.times, None, begin))
    if not len(past):
        raise Unsuited(f"{data.name}: nothing was shown before the day that is judged; a longer log is needed")
    users = data.rows.users[data.offsets[:-1]]
    wanted = (begun > begin) & (begun <= end) & _mixed(data)
    if options.users is not None and len(who := np.unique(users[wanted])) > options.users:
        drawn = np.random.default_rng(options.seed).choice(who, options.users, replace=False)
        wanted &= np.isin(users, drawn)
    cases = np.flatnonzero(wanted)
    if not len(cases):
        raise Unsuited(f"{data.name}: no impression of the day that is judged has both a click and something without")
    rows = [_row(data, model, begin, cases, options, progress) for model in models]
    behind(rows, options)
    left = int(((begun > begin) & (begun <= end)).sum() - len(cases))
    told = f"{left:,} impressions of the day were not judged: all of each was clicked, or nothing"
    if options.users is not None:
        told += ", or their users were not drawn"
    return Report(
        PER_IMPRESSION, data.name, options, len(cases), data.rows.n_users, data.rows.n_items, len(data.rows), rows, (),
        left_out=f"an impression is {data.by}; {told}",
    )  # fmt: skip


def _row(
    data: Impressions, model: Orderer, begin: int, cases: NDArray[np.int64], options: Options, progress: Tell
) -> Row:
    forget_peak()
    learner = model if options.live and isinstance(model, Progressive) else None
    row = Row(model.name, live=learner is not None)
    started = time.perf_counter()
    order = _in_time(data.rows.times, None, begin)
    model.fit(data.rows.take(order))
    row.fit_s = time.perf_counter() - started
    since = _in_time(data.rows.times, begin, None)
    at, told = data.rows.times[since], 0
    parts: list[NDArray[np.float32]] = []
    for number, case in enumerate(cases.tolist()):
        span = slice(int(data.offsets[case]), int(data.offsets[case + 1]))
        if learner is not None:
            now = int(np.searchsorted(at, data.rows.times[span.start]))
            learner.learn(data.rows.take(since[told:now]))
            told = now
        parts.append(model.scores(data.rows.take(span).blind()))
        if number % 1_000 == 0:
            progress(model.name, 1_000 * number // len(cases), 1_000)
    progress(model.name, 1_000, 1_000)
    row.ask_s = time.perf_counter() - started - row.fit_s
    gains = np.concatenate([data.rows.clicked[data.offsets[case] : data.offsets[case + 1]] for case in cases])
    offsets = np.concatenate([[0], np.cumsum(np.diff(data.offsets)[cases])]).astype(np.int64)
    scores = np.concatenate(parts)
    ranked = metrics.rank(scores, gains.astype(np.float64), offsets)
    values = {"AUC": metrics.auc(scores, gains.astype(np.float64), offsets)}
    values |= {name: measure(ranked) for name, measure in PER_IMPRESSION.measures.items()}
    groups = data.rows.users[data.offsets[cases]].astype(np.int64)
    row.add(values, groups, coverage=float("nan"), novelty=float("nan"))
    row.peak_bytes = peak_bytes()
    return row


def _in_time(times: NDArray[np.int64], after: int | None, until: int | None) -> NDArray[np.int64]:
    """The rows after a moment, and until another, both where given, in order of time."""
    kept = np.ones(len(times), bool)
    if after is not None:
        kept &= times > after
    if until is not None:
        kept &= times <= until
    found = np.flatnonzero(kept)
    return found[np.argsort(times[found], kind="stable")]


def _mixed(data: Impressions) -> NDArray[np.bool_]:
    """Impressions with something clicked and something not."""
    clicks = np.add.reduceat(data.rows.clicked.astype(np.int64), data.offsets[:-1])
    mixed: NDArray[np.bool_] = (clicks > 0) & (clicks < np.diff(data.offsets))
    return mixed
