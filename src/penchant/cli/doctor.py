"""`penchant doctor`: is this folder fit to run, and if not, what to do."""

from __future__ import annotations

import typer

from penchant.cli.context import Dir, Json, clean, folder, out, print_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@clean
def doctor(
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Check settings, log, state, artifact, disk, clock, keys and server; change nothing. Exits with 1 on any fail.

    \b
    penchant doctor
    penchant doctor --dir films --json
    """
    from penchant.cli.checkup import examine

    checks = examine(folder(dir))
    failed = any(check.status == "fail" for check in checks)
    if json:
        print_json({"passed": not failed, "checks": checks})
    else:
        for check in checks:
            out.print(f"[{_COLOURS[check.status]}]{check.status:4}[/]  {check.name:11} ", end="")
            out.print(check.message, markup=False, soft_wrap=True)
            if check.fix:
                out.print(f"                  {check.fix}", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
