"""`penchant demo`: the whole loop, on a simulated film service or on recorded ratings."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.context import Json, clean, print_json
from penchant.cli.interrupts import interrupt


@clean
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit at the end instead of staying up.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="Replay this MovieLens folder or zip instead.", show_default=False)
    ] = None,
    slates: Annotated[int, typer.Option(help="How many slates viewers are shown.", min=100)] = 6_000,
    events: Annotated[int, typer.Option(help="Interactions before the launch.", min=1_000)] = 100_000,
    films: Annotated[int, typer.Option(min=100)] = 2_000,
    viewers: Annotated[int, typer.Option(min=100)] = 5_000,
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 1,
    requests: Annotated[int, typer.Option(help="With --data: how many slates are judged.", min=10)] = 2_000,
    dir: Annotated[Path, typer.Option("--dir", help="Made anew on each run.")] = Path("demo"),
    json: Json = False,
) -> None:
    """Show the whole loop: events in, slates out, training, publishing, and what it is worth.

    \b
    penchant demo                 # a simulated film service; stays up
    penchant demo --once
    penchant demo --once --data ml-latest-small
    """
    from penchant.cli.demo.folder import prepare

    begun = time.monotonic()
    signal.signal(signal.SIGTERM, interrupt)  # asked to end, it takes the engine that it started with it
    prepare(dir)
    if data is not None:
        from penchant.cli.demo.movielens import replay_ratings

        figures = replay_ratings(dir, data, requests=requests, seed=seed, once=once, begun=begun, json=json)
    else:
        from penchant.cli.demo.simulated import show_films

        figures = show_films(dir, once, slates, events, films, viewers, seed, begun, json)
    if json:
        print_json(figures)
    if not figures["passed"]:
        raise typer.Exit(1)
