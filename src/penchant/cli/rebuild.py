"""`penchant rebuild`: a state for changed settings, beside the one that serves."""

from __future__ import annotations

from typing import Annotated

import typer

from penchant.cli.context import Dir, Json, clean, err, print_json, settings_of
from penchant.cli.progress import bars


@clean
def rebuild(
    dir: Dir = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete the old state afterwards; stop what still folds or serves it first.")
    ] = False,
    json: Json = False,
) -> None:
    """Fold the log anew for the present settings while the old state serves; then put the new one in its place.

    \b
    penchant rebuild --dir films                # after [features] have changed
    penchant rebuild --dir films --drop

    For a state in Redis; one in the folder is rebuilt by itself at the next start. Afterwards start stream and serve
    with the new settings: serve is not ready before. Can be stopped and started again.
    """
    from penchant.assembly.cluster.rebuilding import Rebuilding

    folder, settings = settings_of(dir)
    rebuilding = Rebuilding(folder, settings)
    try:
        with bars() as tell:
            done = rebuilding.run(tell, drop=drop)
    finally:
        rebuilding.close()
    if json:
        print_json(done)
        return
    err.print(
        f"{done.messages:,} messages folded, {done.compared:,} profiles compared, 0 differ; {done.after} serves now"
        + (f" instead of {done.before}" if done.before else "")
        + (f", of which {done.dropped:,} keys were deleted" if done.dropped else "")
    )
