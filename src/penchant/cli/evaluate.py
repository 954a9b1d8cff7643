"""`penchant evaluate`: how live slates do on the log, beside frozen state and popularity."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from penchant.cli.context import Dir, Json, check_surface, clean, err, out, print_json, settings_of
from penchant.cli.progress import bars


@clean
def evaluate(
    surface: Annotated[str, typer.Option(help="The surface to judge.")] = "home",
    share: Annotated[float, typer.Option(help="The newest share of the interactions to walk through.")] = 0.2,
    requests: Annotated[int, typer.Option(help="At most so many slates.", min=1)] = 5_000,
    k: Annotated[int, typer.Option("-k", help="Length of the slates.", min=1, max=100)] = 10,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Ask for a slate just before each interaction of the newest part of the log, and see whether it holds the item.

    The same is asked with the state frozen at the start (what a nightly engine would show) and of decayed popularity.

    \b
    penchant evaluate
    penchant evaluate --share 0.1 --requests 1000 --json
    """
    from penchant.assembly.evaluating import prequential
    from penchant.assembly.parts import open_parts

    if not 0 < share < 1:
        raise typer.BadParameter("must lie between 0 and 1", param_hint="--share")
    folder, settings = settings_of(dir)
    check_surface(settings, surface)
    parts = open_parts(folder, settings)
    try:
        with bars() as tell:
            report = prequential(parts, surface=surface, share=share, requests=requests, k=k, progress=tell)
    finally:
        parts.close()
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
