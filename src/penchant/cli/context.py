"""What every verb shares: the folder, the way to print, the exit codes."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
import typer
from rich.console import Console

from penchant.cli.interrupts import interrupted, interruptible
from penchant.core.errors import PenchantError
from penchant.settings import InvalidSettings, Settings, find, load

F = TypeVar("F", bound=Callable[..., Any])

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)

Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The folder with penchant.toml; default: PENCHANT_DIR, else the nearest one upwards.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def folder(given: Path | None) -> Path:
    """The folder a verb works in; raises `InvalidSettings` when there is none."""
    named = os.environ.get("PENCHANT_DIR")
    return find(given if given is not None else Path(named) if named else Path.cwd())


def settings_of(given: Path | None) -> tuple[Path, Settings]:
    """The folder and its settings."""
    path = folder(given)
    return path, load(path)


def check_surface(settings: Settings, name: str) -> None:
    """Raises `PenchantError` naming the nearest unless there is a surface of that name."""
    from penchant.assembly.defaults import surfaces_of

    known = sorted(surfaces_of(settings))
    if name not in known:
        raise PenchantError(f"--surface: no surface {name!r}; {hint(name, known)}")


def hint(name: str, known: Sequence[str]) -> str:
    """What somebody who wrote `name` may have meant: the nearest of the known names, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def fail(message: str) -> typer.Exit:
    """Say what is wrong on standard error; raise what is returned to exit with 1."""
    err.print(f"[bold red]penchant:[/] {message}", soft_wrap=True, markup=True)
    return typer.Exit(1)


def clean(verb: F) -> F:
    """Turn what users can mend into one line and exit code 1; Ctrl-C into 130, with everything accepted on disk."""

    @wraps(verb)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            with interruptible():
                return verb(*args, **kwargs)
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            if interrupted() or isinstance(error, KeyboardInterrupt):
                err.print("stopped; everything accepted is on disk")
                raise typer.Exit(130) from None
            if not isinstance(error, (PenchantError, InvalidSettings)):
                raise
            err.print("[bold red]penchant:[/] ", end="")
            err.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(1) from None

    return cast("F", run)
