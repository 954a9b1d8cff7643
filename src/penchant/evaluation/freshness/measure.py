"""The freshness curve of a log: each part renewed late while the others are fresh, and all of them together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.bootstrap import paired_bootstrap
from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.freshness.curve import COMPONENTS, Curve, Point, gains
from penchant.evaluation.freshness.intervals import Interval, Unit, parse
from penchant.evaluation.freshness.walk import Engine, Variant, walk
from penchant.evaluation.offline import Learner, Log

Tell = Callable[[str, int, int], None]

_DAILY = parse("0s,1m,1h,1d,never")[0]
_GRID = 5
"""Weights are tried in fifths."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: the newest `share` of the log, or the same number of rows before it (`validation`)."""

    intervals: tuple[Interval, ...] = _DAILY
    unit: Unit = "time"
    refit: Interval = parse("1d")[0][0]
    """Models are fitted no more often than this."""
    k: int = 10
    share: float = 0.1
    users: int | None = None
    """Ask for at most so many users, drawn with the seed; everybody's events are learned from."""
    cases: int | None = None
    """Ask for at most so many interactions, drawn with the seed of those of all users that are judged."""
    seed: int = 7
    part: Literal["test", "validation"] = "test"
    filter_seen: bool = True
    depth: int = 50
    weights: tuple[float, float, float] | None = None
    """Of counters, tables and model; None: the best on as many rows before those that are judged."""
    choosing: int = 2_000
    """Rows drawn for that, at most."""


PLAN = Plan()


def best_counters(data: Dataset, choices: Sequence[Callable[[], Learner]], plan: Plan = PLAN) -> Callable[[], Learner]:
    """Which counters have, alone and at once, the best NDCG on the rows before those that are judged."""
    begin, end = _window(data, plan)
    rows = _before(data.log, begin, end, plan)
    if len(choices) == 1 or not len(rows):
        return choices[0]
    now = Interval(0.0, "0")
    found = []
    for counters in choices:
        engine = Engine(counters, counters, counters)  # the others have no weight, and are not made
        alone = Variant(now, now, now, now, (1.0, 0.0, 0.0))
        walked = walk(
            data.log, engine, rows, [alone],
            begin=begin - (end - begin), unit=plan.unit, filter_seen=plan.filter_seen, depth=plan.depth,
        )  # fmt: skip
        found.append(gains(walked.ranks[0], plan.k)[f"NDCG@{plan.k}"])
    return choices[_best(found)]


def measure(data: Dataset, engine: Engine, plan: Plan = PLAN, progress: Tell = lambda *_: None) -> Curve:
    """Quality by component and interval, prequentially.

    Every judged interaction is asked for just before it happens, where its user did something before (and, with
    `filter_seen`, did not have the item). One engine answers: the weighted sum of its counters, tables and model. In a
    line of the curve one component is renewed late and the others as early as the plan has it; `everything` is late
    together. Models are never renewed more often than every `refit`, which stands for 0 wherever they are to be fresh.
    Intervals are 95 % paired bootstraps over users of the difference to the fresh engine.
    """
    begun = time.perf_counter()
    log = data.log
    begin, end = _window(data, plan)
    rows = askable(log, begin, end, plan)
    if not len(rows):
        raise Unsuited(
            f"{data.name}: nothing to ask in the {end - begin:,} rows that are judged; users that come back are needed"
        )
    weights = plan.weights or _chosen(log, engine, begin, end, plan, progress)
    variants, fresh = _variants(plan, weights)
    walked = walk(
        log, engine, rows, list(variants.values()),
        begin=begin, unit=plan.unit, filter_seen=plan.filter_seen, depth=plan.depth,
        progress=lambda done, total: progress("freshness", done, total),
    )  # fmt: skip
    by_key = dict(zip(variants, walked.ranks, strict=True))
    users = log.users[rows].astype(np.int64)
    best = gains(by_key[fresh], plan.k)
    points = []
    for component in COMPONENTS:
        for interval in _steps(component, plan):
            values = gains(by_key[component, interval, False], plan.k)
            alone = by_key.get((component, interval, True))
            points.append(
                Point(
                    component,
                    interval,
                    {name: float(one.mean()) for name, one in values.items()},
                    {
                        name: paired_bootstrap(one, best[name], seed=plan.seed, clusters=users)
                        for name, one in values.items()
                    },
                    {} if alone is None else {name: float(one.mean()) for name, one in gains(alone, plan.k).items()},
                )
            )
    return Curve(
        data=data.name, unit=plan.unit, part=plan.part, k=plan.k, seed=plan.seed, share=plan.share,
        cases=len(rows), users=len(np.unique(users)), interactions=len(log), filter_seen=plan.filter_seen,
        days=_days(log, begin, end), parts=tuple(one().name for one in (engine.counters, engine.tables, engine.model)),
        weights=weights, refit=_steps("models", plan)[0], fits=walked.fits, fit_s=walked.fit_s,
        seconds=time.perf_counter() - begun, points=tuple(points),
    )  # fmt: skip


def _window(data: Dataset, plan: Plan) -> tuple[int, int]:
    """The rows that are judged; raises `Unsuited` where the log cannot be walked through."""
    log = data.log
    if not data.ordered:
        raise Unsuited(f"{data.name} has no order; a freshness curve needs a log in order of time")
    if plan.unit == "time" and log.times is None:
        raise Unsuited(f"{data.name} has no times; give numbers of events: --every 0,100,1k,10k,never")
    size = round(plan.share * len(log))
    end = len(log) if plan.part == "test" else len(log) - size
    begin = end - size
    if size < 1 or begin - size < 1:
        raise Unsuited(f"{data.name} has {len(log):,} interactions, too few for a share of {plan.share:g}")
    return begin, end


def askable(log: Log, begin: int, end: int, plan: Plan) -> NDArray[np.int64]:
    """The rows from `begin` to `end` that are asked for."""
    order = np.argsort(log.users, kind="stable")
    new = np.zeros(len(log), bool)
    new[order[np.flatnonzero(np.diff(log.users[order], prepend=-1))]] = True
    asked = ~new[begin:end]
    if plan.filter_seen:
        pairs = log.users.astype(np.int64) * log.n_items + log.items
        taken = np.zeros(len(log), bool)
        taken[np.unique(pairs, return_index=True)[1]] = True
        asked &= taken[begin:end]
    rows = begin + np.flatnonzero(asked)
    known = np.unique(log.users[rows])
    if plan.users is not None and len(known) > plan.users:
        drawn = np.random.default_rng(plan.seed).choice(known, plan.users, replace=False)
        rows = rows[np.isin(log.users[rows], drawn)]
    return _drawn(rows, plan.cases, plan.seed)


def _drawn(rows: NDArray[np.int64], most: int | None, seed: int) -> NDArray[np.int64]:
    if most is None or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _before(log: Log, begin: int, end: int, plan: Plan) -> NDArray[np.int64]:
    """What is asked for to choose by: as many rows before those that are judged, drawn."""
    rows = askable(log, begin - (end - begin), begin, plan)
    return _drawn(rows, plan.choosing, plan.seed)


_Key = tuple[str, Interval, bool]
"""Component, how late, and whether it answers alone."""


def _steps(component: str, plan: Plan) -> tuple[Interval, ...]:
    """The intervals of a component, the freshest first."""
    if component != "models":
        return plan.intervals
    late = tuple(one for one in plan.intervals if one.step >= plan.refit.step)
    return late if plan.refit in late else (plan.refit, *late)


def _variants(plan: Plan, weights: tuple[float, float, float]) -> tuple[dict[_Key, Variant], _Key]:
    first, refit = plan.intervals[0], _steps("models", plan)[0]
    found: dict[_Key, Variant] = {}
    for component in COMPONENTS:
        for late in _steps(component, plan):

            def of(name: str, component: str = component, late: Interval = late) -> Interval:
                return late if component in (name, "everything") else first

            model = max(of("models"), refit)
            lone = {"counters": 0, "tables": 1, "user state": 2, "models": 2}.get(component)
            for alone in (False, True):
                if alone and lone is None:
                    continue
                shares = weights if not alone else tuple(float(at == lone) for at in range(3))
                found[component, late, alone] = Variant(
                    of("counters"),
                    of("tables"),
                    of("user state"),
                    model,
                    shares,  # type: ignore[arg-type]
                )
    return found, (COMPONENTS[0], first, False)


def _chosen(log: Log, engine: Engine, begin: int, end: int, plan: Plan, progress: Tell) -> tuple[float, float, float]:
    """The weights with the best NDCG before what is judged, everything fresh but the model, which is fitted once."""
    rows = _before(log, begin, end, plan)
    if not len(rows):
        return (1 / 3, 1 / 3, 1 / 3)
    now, never = Interval(0.0, "0"), Interval(float("inf"), "never")
    grid = [(a / _GRID, b / _GRID, (_GRID - a - b) / _GRID) for a in range(_GRID + 1) for b in range(_GRID + 1 - a)]
    walked = walk(
        log, engine, rows, [Variant(now, now, now, never, one) for one in grid],
        begin=begin - (end - begin), unit=plan.unit, filter_seen=plan.filter_seen, depth=plan.depth,
        progress=lambda done, total: progress("weights", done, total),
    )  # fmt: skip
    return grid[_best([gains(one, plan.k)[f"NDCG@{plan.k}"] for one in walked.ranks])]


def _best(values: Sequence[NDArray[np.float64]]) -> int:
    return int(np.argmax([one.mean() for one in values]))


def _days(log: Log, begin: int, end: int) -> float | None:
    return None if log.times is None else float(log.times[end - 1] - log.times[begin]) / 86_400_000
