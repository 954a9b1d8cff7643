"""`penchant replay`: recorded slates derived again, and whether they are equal."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from penchant.cli.context import Dir, Json, clean, out, print_json, settings_of
from penchant.cli.progress import bars


@clean
def replay(
    last: Annotated[int, typer.Option(help="How many of the newest recorded slates.", min=1)] = 1_000,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Derive the newest recorded slates again from the log and compare them, bit for bit.

    After a change of settings it shows how many slates the change would have altered. Exits with 1 when any differs.

    \b
    penchant replay
    penchant replay --last 200 --json
    """
    from penchant.assembly.history import derive, served_records
    from penchant.assembly.parts import open_parts
    from penchant.assembly.services import check_folder

    folder, settings = settings_of(dir)
    check_folder(settings, "replay")
    parts = open_parts(folder, settings)
    differing: list[str] = []
    why: Counter[str] = Counter()
    try:
        with bars() as tell:
            records = served_records(parts.log, last, lambda done, total: tell("reading", done, total))
            for done, derived in enumerate(derive(parts, records), start=1):
                if not derived.equal:
                    differing.append(derived.request_id)
                    why.update(derived.differences)
                tell("deriving", done, len(records))
    finally:
        parts.close()
    if json:
        print_json({"derived": len(records), "equal": len(records) - len(differing), "differ": differing, "why": why})
    else:
        out.print(
            f"{len(records)} slates derived again, {len(records) - len(differing)} equal, {len(differing)} differ"
        )
        for reason, count in why.most_common():
            out.print(f"  {count} differ in {reason}")
        for request_id in differing[:5]:
            out.print(f"  penchant explain {request_id}")
    if differing:
        raise typer.Exit(1)
