"""The command line: one file per verb."""

from __future__ import annotations

from typing import Annotated

import typer

import penchant
from penchant.cli.cluster import cluster
from penchant.cli.demo import demo
from penchant.cli.doctor import doctor
from penchant.cli.evaluate import evaluate
from penchant.cli.explain import explain
from penchant.cli.importing import import_events
from penchant.cli.init import init
from penchant.cli.migrate import migrate
from penchant.cli.playlist import playlist
from penchant.cli.rebuild import rebuild
from penchant.cli.recommend import recommend
from penchant.cli.replay import replay
from penchant.cli.services import archive, collect, pictures, serve, stream, up
from penchant.cli.train import train

app = typer.Typer(
    name="penchant",
    help="A real-time personalised recommendation engine that starts in one folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"penchant {penchant.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


app.command()(init)
app.command("import")(import_events)
app.command()(up)
app.command()(collect)
app.command()(stream)
app.command()(serve)
app.command()(pictures)
app.command()(archive)
app.command()(train)
app.command()(evaluate)
app.command()(replay)
app.command()(recommend)
app.command()(playlist)
app.command()(explain)
app.command()(demo)
app.command()(doctor)
app.command()(migrate)
app.command()(rebuild)
app.add_typer(cluster, name="cluster")
