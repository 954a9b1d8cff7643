"""`penchant recommend`: a slate in the terminal, with reasons."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from penchant.cli.context import Dir, Json, check_surface, clean, err, out, print_json, settings_of


@clean
def recommend(
    user: Annotated[str, typer.Argument(help="The user id; need not exist.")],
    n: Annotated[int, typer.Option("-n", help="How many items.", min=1, max=1000)] = 10,
    surface: Annotated[str, typer.Option(help="A surface of penchant.toml.")] = "home",
    item: Annotated[str | None, typer.Option(help="The item that the slate is about.", show_default=False)] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every stage of the request.")] = False,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Show what a user would see now. Nothing is recorded.

    \b
    penchant recommend u1
    penchant recommend u1 -n 5 --surface similar --item i9
    penchant recommend u1 --explain --json
    """
    from penchant.assembly.services import look
    from penchant.serving import wire

    folder, settings = settings_of(dir)
    check_surface(settings, surface)
    title = next((name for name, kind in settings.attributes.item.items() if kind == "text"), None)
    request = wire.Request(
        user_id=user, surface=surface, n=n, item_id=item, record=False, explain=explain, fields=[title] if title else []
    )
    answer = look(folder, settings, request)
    if json:
        print_json(answer)
        return
    table = Table(title=f"{surface} for {user} (state at {answer.position})", title_justify="left")
    for column, justify in (
        ("rank", "right"),
        ("item", "left"),
        ("title", "left"),
        ("score", "right"),
        ("why", "left"),
    ):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for shown in answer.items:
        name = str(shown.attributes.get(title, "")) if title else ""
        table.add_row(str(shown.rank), shown.item_id, name, f"{shown.score:.4f}", shown.reason.text)
    out.print(table)
    if answer.trace is not None:
        stages = Table(title="stages", title_justify="left")
        for column in ("kind", "name", "ms", "in", "out"):
            stages.add_column(column)
        for stage in answer.trace.stages:
            stages.add_row(stage.kind, stage.name, f"{stage.ms:.3f}", str(stage.rows_in), str(stage.rows_out))
        out.print(stages)
    if answer.degraded:
        err.print(f"degraded: {', '.join(answer.degraded)}")
    if not answer.items:
        err.print("nothing to show: send item events first, or run penchant import")
