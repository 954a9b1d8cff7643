"""`penchant init`: a folder to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.context import Json, clean, err, fail, print_json
from penchant.settings import FILE, parse


def presets() -> list[str]:
    """The names of the presets."""
    files = resources.files("penchant.cli") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in files.iterdir() if entry.name.endswith(".toml"))


def preset(name: str) -> str:
    """The text of a preset."""
    return (resources.files("penchant.cli") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


@clean
def init(
    directory: Annotated[Path, typer.Argument(help="Where to write penchant.toml; made if missing.")],
    name: Annotated[str, typer.Option("--preset", help=f"One of: {', '.join(presets())}.")] = "films",
    json: Json = False,
) -> None:
    """Write a penchant.toml to start from.

    \b
    penchant init films
    penchant init news --preset news
    """
    if name not in presets():
        raise fail(f"no preset {name!r}; there are: {', '.join(presets())}")
    path = directory / FILE
    if path.exists():
        raise fail(f"{path} exists already; it was left as it is")
    text = preset(name)
    parse(text)
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if json:
        print_json({"path": str(path), "preset": name})
        return
    err.print(f"wrote {path}; next: penchant up --dir {directory}")
