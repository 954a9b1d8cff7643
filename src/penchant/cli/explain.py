"""`penchant explain`: a past slate derived again from the log."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from penchant.cli.context import Dir, Json, clean, fail, out, print_json, settings_of


@clean
def explain(
    request_id: Annotated[str, typer.Argument(help="The request_id of a recorded answer.")],
    features: Annotated[bool, typer.Option("--features", help="Show the features of every shown item.")] = False,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Derive a past slate again from the log, with its trace, and say whether it is equal, bit for bit.

    Exits with 1 when it is not.

    \b
    penchant explain 3f2a9c
    penchant explain 3f2a9c --json
    """
    from penchant.assembly.history import derive
    from penchant.assembly.parts import open_parts
    from penchant.assembly.services import check_folder
    from penchant.serving.answers import trace_of

    folder, settings = settings_of(dir)
    check_folder(settings, "explain")
    parts = open_parts(folder, settings)
    try:
        record = parts.log.impression(request_id)
        if record is None:
            raise fail(f"no impression of request {request_id!r} in the log (record: false, or another folder?)")
        derived = next(derive(parts, [record]))
    finally:
        parts.close()
    items, slate = derived.query.items, derived.outcome.slate
    trace = trace_of(derived.outcome, items, derived.compiled.column_names)
    if json:
        print_json(
            {
                "request_id": request_id,
                "equal": derived.equal,
                "differences": list(derived.differences),
                "user_id": derived.query.user_id,
                "items": [items.ids[row] for row in slate.rows.tolist()],
                "scores": slate.scores.tolist(),
                "propensities": slate.propensities.tolist(),
                "trace": trace,
            }
        )
    else:
        table = Table(title=f"request {request_id} for {derived.query.user_id}", title_justify="left")
        for column in ("rank", "item", "score", "propensity", "reason"):
            table.add_column(column)
        for rank, row in enumerate(slate.rows.tolist()):
            table.add_row(
                str(rank + 1),
                items.ids[row],
                f"{slate.scores[rank]:.6f}",
                f"{slate.propensities[rank]:.4f}",
                slate.reasons[rank].kind,
            )
        out.print(table)
        for stage in trace.stages:
            out.print(f"{stage.kind:9} {stage.name:16} {stage.ms:8.3f} ms  {stage.rows_in:5} -> {stage.rows_out}")
        if features:
            for item in trace.items:
                out.print(
                    f"{item.item_id}: " + ", ".join(f"{k}={v:.6g}" for k, v in item.features.items() if v is not None)
                )
        out.print(
            "equal to what was served, bit for bit" if derived.equal else f"NOT equal: {', '.join(derived.differences)}"
        )
    if not derived.equal:
        raise typer.Exit(1)
