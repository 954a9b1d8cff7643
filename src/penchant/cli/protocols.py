"""`penchant evaluate --protocol`: models on a file, by a named recipe, beside published figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table

from penchant.cli.context import hint, out, print_json
from penchant.cli.impressions import impressions_report
from penchant.cli.parameters import named_in, with_parameters
from penchant.cli.progress import bars
from penchant.core.errors import PenchantError

if TYPE_CHECKING:
    from penchant.evaluation.datasets import Dataset
    from penchant.evaluation.offline import Recommender
    from penchant.evaluation.protocols import Report
    from penchant.evaluation.protocols.recipe import Recipe
    from penchant.evaluation.recommenders.blend import Blend

NONE: Mapping[str, dict[str, float]] = {}
LIKED = 3.5
"""`strong` counts ratings above it, as published; `loo-full` counts all."""


def run_protocol(
    name: str,
    data: Path | None,
    models: list[str],
    *,
    seed: int,
    users: int | None,
    validation: bool,
    live: bool,
    json: bool,
    plot: Path | None = None,
    given: list[str] | None = None,
) -> None:
    """Read the file, put the models and the baselines through the protocol, print the report."""
    from penchant.evaluation.datasets import Unsuited
    from penchant.evaluation.plots import ready
    from penchant.evaluation.protocols import RECIPES, Options, judge
    from penchant.evaluation.recommenders import BASELINES, MODELS
    from penchant.evaluation.recommenders.attributed import ATTRIBUTED
    from penchant.evaluation.recommenders.blend import Blend

    if plot is not None:
        ready(plot)
    if _known("--protocol", name, (*RECIPES, "freshness", "per-impression", "prequential")) == "per-impression":
        options = Options(seed=seed, users=users, part="validation" if validation else "test", live=live)
        try:
            _tell(impressions_report(data, models, options), json=json, plot=plot)
        except Unsuited as error:
            raise PenchantError(f"--data: {error}") from None
        return
    recipe = RECIPES[name]
    for one in models:
        for part in _parts(one):
            _known("--model", part, (*MODELS, *ATTRIBUTED) if name in _DESCRIBED and part == one else MODELS)
    if data is None:
        raise PenchantError(f"--data: --protocol {name} needs a file or folder to read, {_WANTED[name]}")
    if live and name not in _LIVE:
        raise PenchantError(f"--live: {name} asks everything at one moment; it goes with {', '.join(_LIVE)}")
    try:
        dataset = _read(name, data)
        _check_given(given or [], [part for one in [*models, *BASELINES] for part in _parts(one)])
        chosen = list(dict.fromkeys([*models, *BASELINES]))
        if not dataset.ordered and "recent-popularity" not in models:
            chosen.remove("recent-popularity")
        options = Options(seed=seed, users=users, part="validation" if validation else "test", live=live)
        plain = _plain([one for one in chosen if one not in ATTRIBUTED], seed, given or [], live=live)
        made: list[Recommender] = []
        for one in chosen:
            if one in ATTRIBUTED and dataset.catalogue is not None:
                made.append(with_parameters(ATTRIBUTED[one](seed, dataset.catalogue), given or []))
            else:
                made.append(_make(one, plain, seed, recipe, ordered=dataset.ordered))
        with bars() as tell:
            report = judge(recipe, dataset, made, options, tell)
    except Unsuited as error:
        raise PenchantError(f"--data: {error}") from None
    blends = {one.name: _shares(one) for one in made if isinstance(one, Blend)}
    _tell(report, blends, json=json, plot=plot)


def _tell(report: Report, blends: Mapping[str, dict[str, float]] = NONE, *, json: bool, plot: Path | None) -> None:
    if plot is not None:
        from penchant.evaluation.plots import report_plot, write

        write(report_plot(report), plot)
    if json:
        document = report.document()
        for row in document["models"]:
            if row["model"] in blends:
                row["weights"] = blends[row["model"]]
        print_json(document)
        return
    recipe, options = report.recipe, report.options
    log = f"{report.data}: {report.interactions:,} interactions, {report.users:,} users, {report.items:,} items"
    out.print(f"{recipe.name} v{recipe.version}, {options.part}, {report.cases:,} cases, seed {options.seed}; {log}")
    out.print(recipe.told)
    if report.left_out:
        out.print(report.left_out)
    for table in tables(report):
        out.print(table)
    for blend, weights in blends.items():
        out.print(f"{blend}: {', '.join(f'{share:.2f} {model}' for model, share in weights.items())}")


def tables(report: Report) -> Iterable[Table]:
    """The models of a report: how well they did, at what cost, and what others published."""
    names = list(report.rows[0].figures)
    judged, first = names[-1] if report.recipe.name == "per-impression" else names[1], report.rows[0].name
    called = {row.name: f"{row.name} (live)" if row.live else row.name for row in report.rows}
    table = _table("", ("model", *names, f"{judged} minus {first}, 95 %"))
    for row in report.rows:
        behind = row.behind.get(judged)
        told = f"{behind.low:+.4f} to {behind.high:+.4f}" if behind else ""
        table.add_row(called[row.name], *(f"{row.figures[name]:.4f}" for name in names), told)
    yield table
    if report.rows[0].beyond:
        yield _shown(report, called)
    costs = _table("what they cost", ("model", "fit", "ask", "peak"))
    for row in report.rows:
        costs.add_row(called[row.name], f"{row.fit_s:.1f} s", f"{row.ask_s:.1f} s", f"{row.peak_bytes / 1e6:,.0f} MB")
    yield costs
    if report.published:
        others = _table("published for these data under this protocol", ("model", *names, "source"))
        for one in report.published:
            figures = [f"{one.figures[name]:.4f}" if name in one.figures else "" for name in names]
            others.add_row(one.model, *figures, one.source if one.mark == "read" else "from memory, not verified")
        yield others


def _shown(report: Report, called: dict[str, str]) -> Table:
    names = list(report.rows[0].beyond)
    short = ["lift" if name == "popularity lift" else name for name in names]
    table = _table(
        f"what they show (diversity by {report.alike}, novelty in bits)", ("model", *short, "coverage", "novelty")
    )
    for row in report.rows:
        figures = [f"{row.beyond[name]:.{2 if name == 'popularity lift' else 4}f}" for name in names]
        table.add_row(called[row.name], *figures, f"{row.coverage:.3f}", f"{row.novelty:.1f}")
    return table


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


_LIVE = ("continual", "time-split", "time-split-successive")
_WANTED = {
    "time-split": "a MovieLens ratings.csv: it needs times",
    "time-split-successive": "a MovieLens ratings.csv: it needs times",
    "loo-full": "lines of `user item` or a MovieLens ratings.csv",
    "strong": "lines of `user item` or a MovieLens ratings.csv",
    "split": "a folder with train.txt and test.txt",
    "continual": "a folder or tar file of period_0.txt, period_1.txt …",
    "cold-items": "a MovieLens folder with ratings.csv and movies.csv",
    "cold-items-only": "a MovieLens folder with ratings.csv and movies.csv",
    "cold-users": "a MovieLens folder with ratings.csv and movies.csv",
}
_DESCRIBED = ("cold-items", "cold-items-only", "cold-users")
"""What reads attributes of items beside the log."""


BLEND = "blend:"


def _parts(model: str) -> list[str]:
    """The models that a name stands for: itself, or the members of `blend:one+other`."""
    if not model.startswith(BLEND):
        return [model]
    parts = model.removeprefix(BLEND).split("+")
    if len(parts) < 2 or len(set(parts)) < len(parts):
        raise PenchantError(f"--model: {model!r} must name two different models or more, as in blend:ease+ials")
    return parts


def _plain(chosen: Iterable[str], seed: int, given: list[str], *, live: bool) -> Callable[[str], Recommender]:
    """What makes a model by its name; those that are chosen more than once, alone and in blends, are fitted once."""
    from penchant.evaluation.recommenders import MODELS
    from penchant.evaluation.recommenders.shared import Shared

    times = Counter(part for one in chosen for part in _parts(one))
    shared: dict[str, Recommender] = {}

    def make(name: str) -> Recommender:
        made: Recommender = with_parameters(MODELS[name](seed), given)
        return made if live or times[name] == 1 else shared.setdefault(name, Shared(made))

    return make


def _make(model: str, plain: Callable[[str], Recommender], seed: int, recipe: Recipe, *, ordered: bool) -> Recommender:
    """A model by its name; a blend learns its weights for the lists of the protocol."""
    from penchant.evaluation.recommenders.blend import Blend

    if not model.startswith(BLEND):
        return plain(model)
    hold: Literal["last", "random"] = "last" if ordered else "random"
    return Blend([plain(part) for part in _parts(model)], seed, hold, recipe.filter_seen, recipe.k)


def _check_given(given: list[str], asked: list[str]) -> None:
    for name in named_in(given):
        if name not in asked:
            raise PenchantError(f"--set: {name!r} is not judged here; add --model {name}, or name one of it")


def _shares(blend: Blend) -> dict[str, float]:
    """The weight of each member, of sum 1."""
    return {model.name: float(weight) for model, weight in zip(blend.models, blend.weights, strict=True)}


def _known(option: str, name: str, names: Iterable[str]) -> str:
    known = list(names)
    if name not in known:
        raise PenchantError(f"{option}: there is no {name!r}; {hint(name, known)}")
    return name


def _read(protocol: str, path: Path) -> Dataset:
    from penchant.evaluation import loaders

    if not path.exists():
        raise PenchantError(f"--data: there is no {path}; give {_WANTED[protocol]}")
    if protocol in ("split", "continual"):
        read: Callable[[Path], Dataset] = loaders.read_split if protocol == "split" else loaders.read_periods
        return read(path)
    if protocol in _DESCRIBED:
        from penchant.evaluation.catalogue import read_films

        return read_films(path)
    file = path / "ratings.csv" if path.is_dir() else path
    if not file.is_file():
        raise PenchantError(f"--data: {path} is a folder without ratings.csv; give {_WANTED[protocol]}")
    if file.suffix == ".csv":
        return loaders.read_ratings(file, above=LIKED if protocol == "strong" else None)
    return loaders.read_lines(file)
