"""`penchant demo` on a simulated film service."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from rich.live import Live

from penchant.cli.context import err, out
from penchant.cli.demo.films import SETTINGS, FilmService
from penchant.cli.demo.folder import announce, stay, write_settings
from penchant.cli.demo.server import STARTING, Server, Training
from penchant.cli.demo.show import table
from penchant.cli.init import preset
from penchant.cli.progress import bars


def show_films(
    folder: Path, once: bool, slates: int, events: int, films: int, viewers: int, seed: int, begun: float, json: bool
) -> dict[str, Any]:
    """Start an engine in `folder`, give it history, let viewers come, train twice; the figures of it all."""
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
