"""`penchant demo`: the whole loop, on a simulated film service or on recorded ratings."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.live import Live

from penchant.cli.context import Json, clean, err, out, print_json
from penchant.cli.demo.films import SETTINGS, FilmService
from penchant.cli.demo.folder import announce, prepare, stay, write_settings
from penchant.cli.demo.server import STARTING, Server, Training
from penchant.cli.demo.show import table
from penchant.cli.init import preset
from penchant.cli.progress import bars


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
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, _leave)
    prepare(dir)
    if data is not None:
        from penchant.cli.demo.movielens import replay_ratings

        figures = replay_ratings(dir, data, requests=requests, seed=seed, once=once, begun=begun, json=json)
    else:
        figures = _films(dir, once, slates, events, films, viewers, seed, begun, json)
    if json:
        print_json(figures)
    if not figures["passed"]:
        raise typer.Exit(1)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Asked to end, it takes the engine that it started with it."""
    del number, frame
    raise KeyboardInterrupt


def _films(
    folder: Path, once: bool, slates: int, events: int, films: int, viewers: int, seed: int, begun: float, json: bool
) -> dict[str, Any]:
    write_settings(folder, preset("films") + SETTINGS)
    server = Server(folder)
    try:
        with bars() as tell:
            tell(STARTING, 0, 1)
            server.wait_ready()
            tell(STARTING, 1, 1)
            service = FilmService(server.url, seed=seed, films=films, viewers=viewers)
            for name, stream, total in (
                ("catalogue", service.catalogue(), films + viewers),
                ("history", service.world.history(events), events),
            ):
                for done in service.post(stream):
                    tell(name, min(done, total), total)
                tell(name, total, total)
            service.serve(1)
            first = time.monotonic() - begun
            tell("train", 0, 1)
            trained = [Training(folder, simulate=4_000, seed=seed).result()]
            tell("train", 1, 1)
        announce(trained[0], json, "a first model, on the history,")
        trained.append(_serve(service, folder, slates, seed, json))
        figures = service.tally.figures(len(service.world.films))
        figures["audit"] = service.audit()
        figures["training"] = trained
        figures["seconds"] = {"first_slate": round(first, 1), "total": round(time.monotonic() - begun, 1)}
        audit, answered = figures["audit"], figures["requests"]
        figures["passed"] = audit["lost"] == 0 and audit["doubled"] == 0 and answered["failed"] == 0
        if not json:
            out.print(table(figures, "Penchant, on a simulated film service"))
            out.print(f"time to first slate {first:.1f} s, total {figures['seconds']['total']:.1f} s")
        if not once:
            stay(server, "v17", folder)
    finally:
        server.stop()
    return figures


def _serve(service: FilmService, folder: Path, slates: int, seed: int, json: bool) -> dict[str, Any]:
    """Serve while the figures are shown, training once more on real impressions half-way."""
    serving = threading.Thread(target=service.serve, args=(slates,), daemon=True)
    serving.start()
    second: Training | None = None
    try:
        with Live(console=err, refresh_per_second=2, transient=True) as live:
            while serving.is_alive() or (second is not None and second.running()):
                shown = len(service.tally.requests)
                if second is None and shown >= slates // 2:
                    second = Training(folder, simulate=4_000, seed=seed)
                step = "" if second is None or not second.running() else ", training beside it"
                title = f"{shown:,} of {slates:,} slates{step}"
                live.update(table(service.tally.figures(len(service.world.films)), title))
                time.sleep(0.5)
        told = second.result() if second is not None else {}
    finally:
        service.stop()
        if second is not None:
            second.stop()
        serving.join(10)
    if told:
        announce(told, json, "a second one, on what was shown since,")
    return told
