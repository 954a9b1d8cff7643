"""`penchant evaluate --protocol freshness`: what a log loses when parts of an engine are renewed late."""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from penchant.cli.context import hint, out, print_json
from penchant.cli.progress import bars
from penchant.core.errors import PenchantError

if TYPE_CHECKING:
    from penchant.evaluation.datasets import Dataset
    from penchant.evaluation.freshness import Curve, Engine, Interval, Plan
    from penchant.evaluation.freshness.intervals import Unit

_HALF_LIVES = (7, 30, 90, 365)
"""Days: of the counters of a log with times, that with the best NDCG before what is judged."""
_OFTEN = 20
"""EASE is fitted again and again, and only on items with so many interactions."""


def run_freshness(
    data: Path | None,
    models: list[str],
    *,
    every: str | None,
    refit: str | None,
    seed: int,
    users: int | None,
    cases: int | None,
    validation: bool,
    plot: Path | None,
    json: bool,
) -> None:
    """Read the file, walk through its newest tenth, print the curve as a table and write the plot."""
    from penchant.evaluation.datasets import Unsuited
    from penchant.evaluation.freshness import Plan, measure
    from penchant.evaluation.plots import freshness_plot, ready, write

    if data is None:
        raise PenchantError("--data: --protocol freshness needs a file with times (ratings.csv), or one in order")
    if len(models) > 1:
        raise PenchantError("--model: --protocol freshness renews one model at a time; give one")
    if plot is not None:
        ready(plot)
    try:
        dataset = _read(data)
        timed = dataset.log.times is not None
        intervals, unit = _parsed("--every", every or ("0s,1m,1h,1d,never" if timed else "0,100,1k,10k,never"))
        fitted, counted = _parsed("--refit", refit or ("1d" if unit == "time" else "10k"))
        if counted != unit or len(fitted) > 1 or fitted[0].step == 0:
            raise PenchantError(f"--refit: give one interval above 0, counted as those of --every, not {refit!r}")
        sessions = dataset.bounds is not None
        plan = Plan(
            intervals,
            unit,
            refit=fitted[0],
            k=20 if sessions else 10,
            users=users,
            cases=cases,
            seed=seed,
            part="validation" if validation else "test",
            filter_seen=not sessions,
        )
        engine = _engine(dataset, models[0] if models else "itemknn" if sessions else "ease-decay", plan)
        with bars() as tell:
            curve = measure(dataset, engine, plan, tell)
    except Unsuited as error:
        raise PenchantError(f"--data: {error}") from None
    if plot is not None:
        write(freshness_plot(curve), plot)
    if json:
        print_json(curve.document())
        return
    out.print(curve.made())
    out.print(table(curve))


def table(curve: Curve) -> Table:
    """A row for each component and interval."""
    names, judged = list(curve.points[0].figures), f"NDCG@{curve.k}"
    found = Table(title=f"models fitted {curve.fits:,} times, {curve.seconds:,.0f} s", title_justify="left")
    for column in ("component", "every", *names, f"{judged} minus fresh, 95 %", f"{judged} alone"):
        found.add_column(column)
    for one in curve.points:
        behind = one.behind[judged]
        found.add_row(
            one.component,
            one.interval.name,
            *(f"{one.figures[name]:.4f}" for name in names),
            f"{behind.low:+.4f} to {behind.high:+.4f}",
            f"{one.alone[judged]:.4f}" if one.alone else "",
        )
    return found


def _parsed(option: str, text: str) -> tuple[tuple[Interval, ...], Unit]:
    from penchant.evaluation.freshness import parse

    try:
        return parse(text)
    except ValueError as error:
        raise PenchantError(f"{option}: {error}") from None


def _engine(data: Dataset, model: str, plan: Plan) -> Engine:
    from penchant.evaluation.freshness import Engine, Frequent, best_counters
    from penchant.evaluation.recommenders import MODELS, RecentPopularity, SessionKnn

    if model not in MODELS:
        raise PenchantError(f"--model: there is no {model!r}; {hint(model, list(MODELS))}")
    make = partial(MODELS[model], plan.seed)
    counters = [RecentPopularity]
    if data.log.times is not None:
        counters = [partial(RecentPopularity, half_life_ms=days * 86_400_000.0) for days in _HALF_LIVES]  # type: ignore[misc]
    return Engine(
        best_counters(data, counters, plan),
        SessionKnn,
        (lambda: Frequent(make(), _OFTEN)) if model.startswith("ease") else make,
    )


def _read(path: Path) -> Dataset:
    from penchant.evaluation import loaders

    if not path.exists():
        raise PenchantError(f"--data: there is no {path}; give a ratings.csv, lines of `user item`, or periods")
    file = path / "ratings.csv" if path.is_dir() and (path / "ratings.csv").is_file() else path
    if file.suffix == ".csv":
        return loaders.read_ratings(file)
    if file.is_dir() or tarfile.is_tarfile(file):
        return loaders.read_periods(file)
    return loaders.read_lines(file)
