"""`penchant import`: recorded history into the log."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant.cli.context import Dir, Json, clean, err, out, print_json
from penchant.cli.progress import bars
from penchant.core.errors import PenchantError
from penchant.settings import FILE, Settings, find, load, parse

if TYPE_CHECKING:
    from penchant.cli.intake import Opened

_SHOWN = 5


class Format(StrEnum):
    """What the sources are."""

    movielens = "movielens"
    metarank = "metarank"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@clean
def import_events(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Files, folders or zip archives.")],
    format: Annotated[
        Format | None, typer.Option(help="Default: told from the name and the first line.", show_default=False)
    ] = None,
    mapping: Annotated[
        str, typer.Option("--map", help="FIELD=COLUMN,... of tables; RATING=ACTION,... of MovieLens.")
    ] = "",
    batch: Annotated[int, typer.Option(help="Events made durable at a time.", min=1, max=100_000)] = 5_000,
    fold: Annotated[bool, typer.Option("--fold/--no-fold", help="Bring the state up to date afterwards.")] = True,
    late: Annotated[
        bool, typer.Option("--late", help="Take events that are too late to count, instead of stopping.")
    ] = False,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Take recorded history into the log, in order of time, each event once however often it is imported.

    While importing, time follows the data. Several sources are merged by time. With --dir NEW a folder is made, and a
    penchant.toml from what the source holds.

    \b
    penchant import ml-latest-small.zip --dir films
    penchant import items.jsonl events.jsonl.gz
    penchant import clicks.csv --map user_id=uid,item_id=sku,ts=time,action=:click
    """
    from penchant.cli import starter
    from penchant.cli.importers import parse_mapping
    from penchant.cli.intake import History, Intake

    names = parse_mapping(mapping)
    folder, settings, text = _settings(sources, format, names, dir)
    opened = _open(sources, format, names, settings)
    if text is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(text, encoding="utf-8")
        err.print(f"wrote {folder / FILE} from what the source holds; look over the weights", soft_wrap=True)
        settings = load(folder)  # with what the environment says
    history = History(opened)
    intake = Intake(folder, settings, keep_late=late, batch=batch)
    try:
        with bars() as tell:
            intake.take(history, tell)
            if fold and settings.state.url != "memory:" and intake.stopped is None:
                intake.fold(tell)
    except (Exception, KeyboardInterrupt):
        err.print(f"taken so far: {intake.accepted:,} events; import again to go on, nothing is taken twice")
        raise
    finally:
        told = intake.figures()
        intake.close()
    lacks = starter.missing(starter.merged([one.hint for one in opened]), settings)
    figures: dict[str, Any] = {
        "folder": str(folder),
        "wrote_settings": text is not None,
        **told,
        **history.figures(_SHOWN),
        "undeclared": lacks,
    }
    if json:
        print_json(figures)
    else:
        _print(figures)
    if lacks:
        err.print("penchant.toml does not declare, so it was left out:")
        err.print(lacks, markup=False)
    nothing = intake.accepted + intake.duplicates == 0 and history.rejected > 0
    if nothing:
        err.print("[bold red]penchant:[/] nothing could be taken")
    if intake.stopped is not None:
        err.print(f"[bold red]penchant:[/] {intake.stopped}", soft_wrap=True)
    if nothing or intake.stopped is not None:
        raise typer.Exit(1)


def _settings(
    sources: list[Path], format: str | None, names: dict[str, str], dir: Path | None
) -> tuple[Path, Settings, str | None]:
    """The folder, its settings and, where the folder is new, the text that they are to be written from."""
    from penchant.cli import starter
    from penchant.cli.importers import Options, detect
    from penchant.cli.importers import open as open_source

    if dir is None or (dir / FILE).is_file() or (dir.is_dir() and any(dir.iterdir())):
        try:
            folder = find(dir if dir is not None else Path.cwd())
        except ValueError as error:
            raise PenchantError(f"{error}, or from the data with: penchant import {sources[0]} --dir NEW") from None
        return folder, load(folder), None
    hints = []
    for source in sources:
        with err.status(f"looking at {source}"):
            hints.append(open_source(source, Options(mapping=names), format).settings_toml_hint)
    hint = starter.merged(hints)
    if not parse(hint).actions:
        raise PenchantError(
            f"{sources[0]} has no interactions to tell the actions from: name a source that has them as well, "
            f"or make the folder with: penchant init {dir}"
        )
    text = starter.write(hint, format or detect(sources[0]), dir.resolve().name)
    return dir, starter.checked(text), text


def _open(sources: list[Path], format: str | None, names: dict[str, str], settings: Settings) -> list[Opened]:
    from penchant.cli.importers import InvalidSource, Options
    from penchant.cli.importers import open as open_source
    from penchant.cli.intake import Opened
    from penchant.core.schema import Schema

    options = Options(schema=Schema.of(settings), mapping=names)
    opened = []
    for source in sources:
        with err.status(f"reading {source}"):
            try:
                opened.append(Opened(source, open_source(source, options, format)))
            except InvalidSource:
                _tell_missing(source, format, names, settings)
                raise
    return opened


def _tell_missing(source: Path, format: str | None, names: dict[str, str], settings: Settings) -> None:
    """What to declare, where the source can be read but not with these settings."""
    from penchant.cli import starter
    from penchant.cli.importers import InvalidSource, Options
    from penchant.cli.importers import open as open_source

    try:
        lacks = starter.missing(open_source(source, Options(mapping=names), format).settings_toml_hint, settings)
    except InvalidSource:
        return
    if lacks:
        err.print("penchant.toml does not declare:")
        err.print(lacks, markup=False)


def _print(figures: dict[str, Any]) -> None:
    out.print(
        f"events      {figures['events']:,} in {figures['seconds']:.1f} s ({figures['events_per_second']:,.0f}/s)\n"
        f"accepted    {figures['accepted']:,}\n"
        f"duplicates  {figures['duplicates']:,}\n"
        f"late        {figures['late']:,}\n"
        f"rejected    {figures['rejected']:,}"
    )
    if figures["folded_seconds"] is not None:
        position = figures["position"]
        upto = f"up to {position:,} " if isinstance(position, int) else ""
        out.print(f"folded      {upto}in {figures['folded_seconds']:.1f} s")
    for one in figures["first_rejected"]:
        where = f"{one['source']}, {one['place']}: {one['field']}"
        err.print(f"  {where}: {one['message']} ({one['reason']})", markup=False, soft_wrap=True)
    hidden = figures["rejected"] - len(figures["first_rejected"])
    if hidden > 0:
        err.print(f"  and {hidden:,} more")
