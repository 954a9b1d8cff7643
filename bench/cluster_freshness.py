"""From a click to a slate that has seen it, over HTTP, outbox, Kafka, fold and Redis:

    python -m bench.cluster_freshness [--rate 500] [--clicks 200] [--postgres] [--json]

Private servers on loopback, three services, a background load. Without `after`, slates are asked for until the clicked
item is gone; with it, the very next slate is asked once. Both count from before the click is sent.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from bench.chaos.fleet import Service, wait_ready
from bench.chaos.load import Sender
from bench.chaos.world import Events, make_folder

from penchant.testing.servers import Kafka, Postgres, Redis, free_port

_SETTLE_S = 5.0


class _Asked:
    """A viewer with a face: clicks and slates over HTTP."""

    def __init__(self, collect: str, serve: str) -> None:
        self._collect = httpx.Client(base_url=collect, timeout=20.0, trust_env=False)
        self._serve = httpx.Client(base_url=serve, timeout=20.0, trust_env=False)

    def send(self, events: list[dict[str, Any]]) -> str:
        """The token of a batch."""
        answer = self._collect.post("/v1/events", json={"events": events})
        answer.raise_for_status()
        return str(answer.json()["position"])

    def slate(self, user: str, **more: Any) -> tuple[list[str], list[str]]:
        """Items and words of a slate that nobody sees."""
        body = {"user_id": user, "n": 20, "record": False, **more}
        answer = self._serve.post("/v1/recommendations", json=body)
        answer.raise_for_status()
        told = answer.json()
        return [item["item_id"] for item in told["items"]], told["degraded"]

    def reaches(self, token: str) -> None:
        """Wait for state and pictures."""
        told = self._serve.get("/v1/status", params={"position": token, "wait_ms": 10_000}).json()
        if not told.get("reached"):
            raise SystemExit("the catalogue was not folded within 10 s")

    def click(self, user: str, item: str) -> str:
        return self.send([{"type": "interaction", "user_id": user, "item_id": item, "action": "click"}])


def measure(rate: float, clicks: int, *, postgres: bool = False, partitions: int = 64) -> dict[str, Any]:
    """Milliseconds of both ways, and how many slates with `after` had seen the click."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-freshness-")))
        make_folder(folder, partitions, 8)
        kafka, redis = stack.enter_context(Kafka()), stack.enter_context(Redis())
        environment = {"PENCHANT_LOG__URL": kafka.topic_url("freshness"), "PENCHANT_STATE__URL": redis.url}
        more = {}
        if postgres:
            server = stack.enter_context(Postgres())
            more = {"PENCHANT_OUTBOX__URL": server.create_database("freshness")}
        ports = {name: free_port() for name in ("collect", "stream", "serve")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        for name, port in ports.items():
            settings = {**environment, **(more if name == "collect" else {})}
            stack.callback(Service(folder, settings, name, name, "--port", str(port)).stop)
        for url in urls.values():
            wait_ready(url)
        events = Events(1, users=2_000, items=500, size=10)
        asked = _Asked(urls["collect"], urls["serve"])
        first = events.catalogue()
        for start in range(0, len(first), 500):
            asked.reaches(asked.send(first[start : start + 500]))
        if rate:
            sender = Sender(urls["collect"], events, rate, threads=2, again=0)
            sender.start()
            stack.callback(sender.stop)
            time.sleep(_SETTLE_S)
        for number in range(20):
            asked.slate(f"watcher-{number}")
        began = time.monotonic()
        without = [_without(asked, number) for number in range(clicks)]
        seen, stale, with_after = _with(asked, clicks)
        seconds = time.monotonic() - began
        told: dict[str, Any] = {
            "rate": rate,
            "outbox": "postgresql" if postgres else "sqlite",
            "clicks": clicks,
            "seconds": round(seconds, 1),
            "load": [round(one, 1) for one in os.getloadavg()],
            "without_after_ms": _percentiles(without),
            "with_after_ms": _percentiles(with_after),
            "with_after_seen": seen,
            "with_after_stale": stale,
        }
        if rate:
            told["sent_per_s"] = round(len(sender.accepted) * events.size / (sender.last_at - sender.first_at))
        return told


def _without(asked: _Asked, number: int) -> float:
    user = f"watcher-{number % 20}"
    item = asked.slate(user)[0][number % 5]
    began = time.perf_counter()
    asked.click(user, item)
    while item in asked.slate(user)[0]:
        time.sleep(0.001)
    return 1e3 * (time.perf_counter() - began)


def _with(asked: _Asked, clicks: int) -> tuple[int, int, list[float]]:
    seen = stale = 0
    times = []
    for number in range(clicks):
        user = f"follower-{number % 20}"
        item = asked.slate(user)[0][number % 5]
        began = time.perf_counter()
        items, degraded = asked.slate(user, after=asked.click(user, item), wait_ms=5_000)
        times.append(1e3 * (time.perf_counter() - began))
        seen += item not in items
        stale += "stale" in degraded
    return seen, stale, times


def _percentiles(times: list[float]) -> dict[str, float]:
    return {
        name: round(float(np.percentile(times, share)), 1) for name, share in (("p50", 50), ("p99", 99), ("most", 100))
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster_freshness", description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="events/s beside the clicks; 0: none")
    parser.add_argument("--clicks", type=int, default=200, help="of each way")
    parser.add_argument("--postgres", action="store_true", help="the collector's outbox in PostgreSQL")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped then as well
    told = measure(given.rate, given.clicks, postgres=given.postgres)
    if given.json:
        print(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        print(f"{name:20s} {value}")


if __name__ == "__main__":
    main()
