"""The folder that a demo runs in, and what it says of itself."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from penchant.cli.context import err, out
from penchant.cli.demo.server import DemoFailed, Server
from penchant.settings import FILE

_MARK = ".penchant-demo"


def prepare(folder: Path) -> None:
    """An empty folder for the demo; refuses to clear one that no demo made."""
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise DemoFailed(f"{folder} is there already and no demo made it; name another with --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()


def write_settings(folder: Path, text: str) -> None:
    """The settings, on a clock that follows the events: simulated and recorded time pass faster than ours."""
    text = text.replace('source = "system"', 'source = "events"')
    (folder / FILE).write_text(text, encoding="utf-8")


def announce(trained: dict[str, Any], json: bool, what: str = "a model") -> None:
    """Say what the gate said."""
    verdict = "published" if trained["published"] else "not published, the present one goes on"
    told = f"trained {what} on {trained['requests']:,} slates: {verdict} ({trained['gate']['reason']})"
    (err if json else out).print(told, soft_wrap=True, markup=False)


def stay(server: Server, user: str, folder: Path) -> None:
    """Say where to look, and stay up until Ctrl-C."""
    err.print(f"\nstill up at {server.url}, until Ctrl-C")
    err.print(f"  {server.url}/docs          every call")
    err.print(f"  {server.url}/v1/trending   what is popular now")
    err.print(f"  {server.url}/metrics       for Prometheus")
    err.print(f"  penchant recommend {user} --dir {folder}")
    err.print(f"  penchant replay --dir {folder}    derive what was shown again, bit for bit")
    try:
        while True:
            time.sleep(3_600)
    except KeyboardInterrupt:
        err.print("stopping")
