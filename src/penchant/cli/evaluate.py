"""`penchant evaluate`: live slates on the log beside frozen state and popularity; recorded rankings; or a protocol."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from penchant.cli.context import Dir, Json, check_surface, clean, err, out, print_json, settings_of
from penchant.cli.freshness import run_freshness
from penchant.cli.progress import bars
from penchant.cli.protocols import run_protocol
from penchant.cli.train import Objective

if TYPE_CHECKING:
    from penchant.assembly.rankings import RankingReport


@clean
def evaluate(
    surface: Annotated[str, typer.Option(help="The surface to judge.")] = "home",
    share: Annotated[
        float, typer.Option(help="The newest share of the interactions to walk through; of users with --rankings.")
    ] = 0.2,
    requests: Annotated[int, typer.Option(help="At most so many slates.", min=1)] = 5_000,
    k: Annotated[int, typer.Option("-k", help="Length of the slates.", min=1, max=100)] = 10,
    rankings: Annotated[
        bool, typer.Option("--rankings", help="Rank recorded rankings again, of users that the ranker never saw.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="With --rankings: which users are held out. With --protocol: of all draws.")
    ] = 7,
    folds: Annotated[
        int,
        typer.Option(
            help="With --rankings --mixed: splits of the seed, each with other users held out.", min=1, max=20
        ),
    ] = 1,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="With --rankings: leave the users mixed in time, as they were recorded.")
    ] = False,
    ranker: Annotated[
        bool, typer.Option("--ranker", help="Train a ranker on the part before, too; else sources are fused by rank.")
    ] = False,
    objective: Annotated[
        Objective, typer.Option(help="With --rankings or --ranker: P(action) per action, or one order.")
    ] = Objective.binary,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Judge models on --data by a recipe: loo-full, strong, split, continual, time-split, "
            "time-split-successive, per-impression or freshness; prequential walks through the log of this folder.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --protocol: the file or folder to read.", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="With --protocol: a model beside the baselines, or several as blend:one+other; may be repeated.",
            show_default=False,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="With --protocol: a parameter, MODEL.NAME=VALUE; may be repeated.", show_default=False
        ),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(help="With --protocol: judge only so many users or sessions.", min=1, show_default=False),
    ] = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="With --protocol: judge the validation part; choose settings there.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="With protocols that go on in time: models that can learn of what happens.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option(
            help="With --protocol freshness: how late parts are renewed, 0s,1m,1h,1d,never or events: 0,100,10k.",
            show_default=False,
        ),
    ] = None,
    refit: Annotated[
        str | None,
        typer.Option(
            help="With --protocol freshness: models are fitted no more often than this; 1d or 10k events.",
            show_default=False,
        ),
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option(help="With --protocol freshness: ask only so many times.", min=1, show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="With --protocol: write a plot, OUT.html, OUT.png or OUT.svg.", show_default=False),
    ] = None,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Ask for a slate just before each interaction of the newest part of the log, and see whether it holds the item.

    The same is asked with the state frozen at the start (what a nightly engine would show) and of decayed popularity.
    With --rankings what people were shown is ranked again: a ranker learns from 80 % of the users and orders the
    rankings of the others, beside the order shown, click rates and chance. The others come after the first, as new
    users come after a launch; with --mixed all come in order of time.

    With --protocol no folder of ours is needed: models are fitted on a file and judged by a named recipe, beside
    popularity, recent popularity, item-kNN and published figures for the same data. per-impression orders what was
    shown inside each impression; prequential is what is done without --protocol.

    \b
    penchant evaluate
    penchant evaluate --share 0.1 --requests 1000 --json
    penchant evaluate --ranker --objective lambdarank
    penchant evaluate --rankings --seed 7
    penchant evaluate --rankings --mixed --seed 7 --folds 5
    penchant evaluate --protocol loo-full --data ratings.csv --model ease --model blend:ease+ials
    penchant evaluate --protocol split --data gowalla --model ials --set ials.dim=256 --validation
    penchant evaluate --protocol time-split --data ratings.csv --model ease-decay
    penchant evaluate --protocol per-impression --data shown.parquet --live
    penchant evaluate --protocol continual --data periods.tar.gz --users 1000 --live --json
    penchant evaluate --protocol freshness --data ratings.csv --every 0s,1m,1h,1d --cases 2500 --plot curve.html
    """
    if ranker and (rankings or protocol not in (None, "prequential")):
        raise typer.BadParameter("goes with the walk through the log of this folder alone", param_hint="--ranker")
    if protocol is not None and protocol != "prequential":
        if protocol == "freshness":
            if given:
                raise typer.BadParameter("goes with protocols that fit models once", param_hint="--set")
            if live:
                raise typer.BadParameter("freshness is live as it is; --every says how late", param_hint="--live")
            run_freshness(
                data, model or [], every=every, refit=refit, seed=seed, users=users, cases=cases,
                validation=validation, plot=plot, json=json,
            )  # fmt: skip
            return
        if given and protocol == "per-impression":
            raise typer.BadParameter("goes with protocols that fit models", param_hint="--set")
        for option, text in {"--every": every, "--refit": refit, "--cases": cases}.items():
            if text is not None:
                raise typer.BadParameter("goes with --protocol freshness", param_hint=option)
        run_protocol(
            protocol, data, model or [], seed=seed, users=users, validation=validation, live=live, json=json, plot=plot,
            given=given,
        )  # fmt: skip
        return
    for option, value in {
        "--data": data, "--model": model, "--set": given, "--users": users, "--validation": validation, "--live": live,
        "--every": every, "--refit": refit, "--cases": cases, "--plot": plot,
    }.items():  # fmt: skip
        if value and protocol is not None:
            raise typer.BadParameter(
                "prequential walks through the log of this folder; leave it out", param_hint=option
            )
        if value:
            raise typer.BadParameter("goes with --protocol; add --protocol loo-full, say", param_hint=option)
    if not 0 < share < 1:
        raise typer.BadParameter("must lie between 0 and 1", param_hint="--share")
    if folds * share > 1 + 1e-9:
        raise typer.BadParameter(f"{folds} folds of {share:.0%} are more than all users", param_hint="--folds")
    if folds > 1 and not mixed:
        raise typer.BadParameter("several folds need --mixed", param_hint="--folds")
    from penchant.assembly.evaluating import prequential
    from penchant.assembly.rankings import after_launch, judge, read_rankings
    from penchant.assembly.services import open_past

    folder, settings = settings_of(dir)
    check_surface(settings, surface)
    with bars() as tell, closing(open_past(folder, settings, tell)) as parts:
        if rankings:
            world = parts if mixed else after_launch(parts, share, seed)
            examples = read_rankings(world, surface=surface, progress=tell)
            judged = judge(
                examples, parts, share=share, seed=seed, folds=folds, objective=objective.value, progress=tell
            )
        else:
            report = prequential(
                parts, surface=surface, share=share, requests=requests, k=k,
                objective=objective.value if ranker else None, progress=tell,
            )  # fmt: skip
    if rankings:
        _tell(judged, json)
        return
    variants = (report.live, report.frozen, report.popular)
    rows = [one.report(None if one is report.live else report.live, report.users) for one in variants]
    if json:
        print_json({"start": report.start, "model": report.model, "variants": rows})
        return
    out.print(results(rows, k, f"{surface}, {len(report.users)} requests, {report.model}"))
    if not report.users:
        err.print("the log has no positive interactions yet: send events or run penchant import")


def results(rows: list[dict[str, Any]], k: int, title: str) -> Table:
    """The figures of variants as a table."""
    table = Table(title=title, title_justify="left")
    for column in ("slates", f"HR@{k}", f"NDCG@{k}", "live is better by (95 %)"):
        table.add_column(column)
    for row in rows:
        interval = row.get(f"live minus this, ndcg@{k}")
        told = f"{interval[0]:+.4f} to {interval[1]:+.4f}" if isinstance(interval, list) else ""
        table.add_row(str(row["name"]), f"{row[f'hr@{k}']:.4f}", f"{row[f'ndcg@{k}']:.4f}", told)
    return table


def _tell(report: RankingReport, json: bool) -> None:
    if json:
        print_json(report.figures())
        return
    table = Table(
        title=f"seed {report.seed}: {report.judged} rankings of {report.test_users} users, by a ranker "
        f"({report.objective}) trained on {report.train_rankings} of {report.train_users} others",
        title_justify="left",
    )
    for column in ("order", "NDCG@10", "95 % over users", "the ranker is better by"):
        table.add_column(column)
    for order in report.orders:
        better = "" if order.behind is None else f"{order.behind[0]:+.4f} to {order.behind[1]:+.4f}"
        table.add_row(order.name, f"{order.ndcg:.4f}", f"{order.interval[0]:.4f} to {order.interval[1]:.4f}", better)
    out.print(table)
    if report.folds > 1:
        out.print(f"the ranker by fold: {', '.join(f'{value:.4f}' for value in report.by_fold)}")
    left = report.test_rankings - report.judged
    out.print(f"{left} more rankings of those users were followed by nothing: their NDCG is not defined")
