"""Requests over loopback HTTP against `penchant serve` with two workers; the client is this process.

    python -m bench.http_load [--items 100000] [--seconds 8]

The folder is made the way any is: events into `log.sqlite`, folded into `state.sqlite`, `penchant train --force`
(EASE over at most 5,000 items, two heads or more). Saturated: 8 connections, each asking again at once. Open loop:
requests at drawn times at 30 % of that rate, timed from when they were due. Slates are recorded, as in service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bench.ingest import interactions, world

from penchant.assembly.parts import open_parts
from penchant.cli.application import free_port
from penchant.core.parse import parse_event
from penchant.settings import load
from penchant.stream.runner import StreamRunner

CONNECTIONS = 8
LOAD = 0.3


def make_folder(folder: Path, items: int, viewers: int, events: int, simulate: int) -> dict[str, Any]:
    """A deployment with history and a published artifact; what training said."""
    first = world(folder, items, viewers)
    parts = open_parts(folder, load(folder))
    for start in range(0, len(first), 5_000):
        parts.log.append(first[start : start + 5_000])
    raw = interactions(events, items, viewers, skew=8)
    schema = parts.definition.schema
    for start in range(0, events, 5_000):
        parts.log.append([parse_event(one, schema) for one in raw[start : start + 5_000]])
    runner = StreamRunner(parts.log, parts.store, parts.definition.folds())
    while runner.step():
        pass
    parts.close()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "penchant",
            "train",
            "--dir",
            str(folder),
            "--json",
            "--force",
            "--simulate",
            str(simulate),
        ],
        env={**os.environ, "PENCHANT_TRAINING__MAX_ITEMS": "5000"},
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"training failed: {done.stderr.decode()[-2_000:]}")
    told: dict[str, Any] = msgspec.json.decode(done.stdout)
    return told


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        """Open it anew: servers close what was idle for some seconds."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, user: int) -> int:
        """The status of one answer."""
        body = b'{"user_id":"viewer%d","surface":"home","n":20}' % user
        self._writer.write(
            b"POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await self._reader.readexactly(size)
        return int(head.split(b" ")[1])

    def close(self) -> None:
        self._writer.close()


async def load_test(port: int, viewers: int, seconds: float) -> dict[str, Any]:
    """Concurrency 1, saturated, and open loop at a share of that."""
    rng = np.random.default_rng(0)
    clients = [Client(port) for _ in range(CONNECTIONS)]

    async def reopen() -> None:
        for client in clients:
            await client.open()

    await reopen()
    statuses: dict[int, int] = {}

    async def closed(client: Client, until: float, times: list[float]) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            status = await client.ask(int(rng.integers(viewers)))
            times.append(time.perf_counter() - began)
            statuses[status] = statuses.get(status, 0) + 1

    warm: list[float] = []
    await asyncio.gather(*(closed(client, time.perf_counter() + seconds / 4, warm) for client in clients))
    alone: list[float] = []
    await closed(clients[0], time.perf_counter() + seconds, alone)
    await reopen()
    busy: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(closed(client, began + seconds, busy) for client in clients))
    rate = len(busy) / (time.perf_counter() - began)

    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in clients:
        free.put_nowait(client)
    waited: list[float] = []

    async def due(at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        client = await free.get()
        await client.ask(int(rng.integers(viewers)))
        waited.append(time.perf_counter() - at)
        free.put_nowait(client)

    gaps = rng.exponential(1 / (LOAD * rate), int(LOAD * rate * seconds) + 1)
    begin = time.perf_counter() + 0.05
    await asyncio.gather(*(due(begin + at) for at in np.cumsum(gaps).tolist()))
    for client in clients:
        client.close()
    return {
        "statuses": statuses,
        "concurrency_1": _percentiles(alone),
        "saturated": {"per_s": rate, **_percentiles(busy)},
        f"open_loop_at_{LOAD:.0%}": {"per_s": LOAD * rate, **_percentiles(waited)},
    }


def _percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{percent}_ms": float(np.percentile(times, percent)) * 1_000 for percent in (50, 99)}


def measure(
    items: int = 100_000, viewers: int = 20_000, events: int = 200_000, seconds: float = 8.0, simulate: int = 2_000
) -> dict[str, Any]:
    """The figures of two workers, and how long they took from their start until ready."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = make_folder(folder, items, viewers, events, simulate)
        port = free_port("127.0.0.1")
        began = time.perf_counter()
        with (folder / "server.log").open("wb") as output:
            server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "penchant",
                    "serve",
                    "--dir",
                    str(folder),
                    "--port",
                    str(port),
                    "--workers",
                    "2",
                ],
                stdout=output,
                stderr=output,
            )
        try:
            asyncio.run(_ready(port, server))
            ready = time.perf_counter() - began
            told = asyncio.run(load_test(port, viewers, seconds))
        finally:
            server.terminate()
            server.wait(30)
    return {"items": items, "workers": 2, "heads": trained.get("heads", []), "ready_s": ready, **told}


async def _ready(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1_800):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
        except OSError:
            pass
        if server.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise SystemExit("the server did not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    print(json.dumps(measure(given.items, seconds=given.seconds), indent=2))


if __name__ == "__main__":
    main()
