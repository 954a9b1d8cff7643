"""`penchant playlist`: slates made ahead of time for everybody, such as a weekly playlist."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from penchant.cli.context import Dir, Json, check_surface, clean, err, out, print_json, settings_of
from penchant.cli.progress import Tell, bars
from penchant.core.errors import PenchantError

if TYPE_CHECKING:
    from penchant.assembly.playlists import Order, World
    from penchant.settings import Settings


@clean
def playlist(
    to: Annotated[Path, typer.Option("--out", help="The file to write: .parquet or .jsonl.")],
    surface: Annotated[str, typer.Option(help="A surface of penchant.toml.")] = "weekly",
    n: Annotated[int, typer.Option("-n", help="How many items a person.", min=1, max=1000)] = 30,
    discovery: Annotated[
        float, typer.Option(help="Share of items that are new ground for the person.", min=0, max=1)
    ] = 0.3,
    by: Annotated[
        str | None,
        typer.Option(help="New ground goes by this attribute; default: the first category.", show_default=False),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(help="Only these users, an id a line; default: all in the state.", show_default=False),
    ] = None,
    spark: Annotated[
        str | None,
        typer.Option(help="Let Spark make them, at this master: local[4], spark://HOST:PORT.", show_default=False),
    ] = None,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Make a playlist for everybody, with a stated share of discovery, from one frozen picture of the state.

    Nothing is recorded: whoever shows a playlist sends the impression. The file appears when all are made; stopped
    before, nothing is left, and the next run starts anew.

    \b
    penchant playlist --out weekly.parquet
    penchant playlist --out weekly.jsonl --surface home -n 50 --discovery 0.5 --by creator
    penchant playlist --out weekly.parquet --spark 'local[2]'
    """
    from penchant.assembly.playlist_file import FORMATS, write
    from penchant.assembly.playlists import Order

    if to.suffix not in FORMATS:
        raise typer.BadParameter(f"must end in {' or '.join(FORMATS)}", param_hint="--out")
    folder, settings = settings_of(dir)
    _check(settings, surface)
    os.nice(5)
    started = time.perf_counter()
    chosen = _ids(users)
    order = Order(surface=surface, n=n, share=discovery, by=by)
    with (
        _world(folder, settings) as world,
        bars() as tell,
        _whole(to) as unfinished,
        closing(_made(world, order, chosen, spark, unfinished, tell)) as made,
    ):
        written = write(made, unfinished / to.name)
    seconds = time.perf_counter() - started
    if json:
        print_json({**msgspec.structs.asdict(written), "seconds": round(seconds, 3), "file": str(to)})
        return
    share = written.discoveries / max(written.items, 1)
    out.print(f"playlists  {written.playlists:,} of {surface}, {written.items:,} items, in {seconds:.1f} s")
    out.print(f"discovery  {share:.1%} of the items; asked for: {discovery:.0%}")
    out.print(f"file       {to}", soft_wrap=True)
    if written.empty:
        err.print(f"{written.empty:,} are empty: the rules of the surface leave these people nothing")
    if written.degraded:
        err.print(f"{written.degraded:,} were made without a source or a scorer that failed; `degraded` names it")
    if not written.playlists:
        err.print("nobody is in the state: send events first, or run penchant import")


def _check(settings: Settings, surface: str) -> None:
    if surface == "weekly" and surface not in settings.surfaces:
        raise PenchantError(
            "--surface: there is no surface 'weekly'; declare one as [surfaces.weekly] in penchant.toml, or name "
            "another, as in: --surface home"
        )
    check_surface(settings, surface)


def _ids(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise PenchantError(f"--users: {path} cannot be read: {error}") from None


@contextmanager
def _world(folder: Path, settings: Settings) -> Iterator[World]:
    from penchant.assembly.cluster.parts import ClusterParts, is_distributed

    if is_distributed(settings):
        from penchant.assembly.cluster.playlists import cluster_world

        parts = ClusterParts.of(folder, settings)
        with closing(parts.state()) as state, cluster_world(parts, state) as world:
            yield world
        return
    from penchant.assembly.parts import open_parts
    from penchant.assembly.playlists import folder_world

    with closing(open_parts(folder, settings)) as opened, folder_world(opened) as world:
        yield world


def _made(
    world: World, order: Order, users: list[str] | None, spark: str | None, unfinished: Path, tell: Tell
) -> Generator[bytes, None, None]:
    if spark is None:
        from penchant.assembly.playlists import playlists

        return playlists(world, order, users, tell)
    from penchant.assembly.spark_playlists import freeze, spark_playlists
    from penchant.features.spark import session

    with err.status("starting Spark"):
        running = session(spark)
    frozen = unfinished / "world"
    frozen.mkdir()
    return spark_playlists(running, frozen, freeze(world, frozen, order, users, tell), tell)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A folder beside `path` in which to make it: `path` appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield folder
        (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
