"""The load: events that are sent until they are accepted, and requests that are answered or not."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter

import httpx
import msgspec
import numpy as np
from bench.chaos.world import Events

BUDGET_S = 0.25
_JSON = {"content-type": "application/json"}


class Sender:
    """Sends batches at a rate; what was not answered with 202 is sent again, and some of what was as well."""

    def __init__(self, url: str, events: Events, rate: float, *, threads: int = 4, again: float = 0.01) -> None:
        self._url = url
        self._events = events
        self._every = events.size / rate
        self._again = again
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.accepted: list[int] = []
        """Batches that were answered with 202."""
        self.resent = 0
        self.refused: Counter[str] = Counter()
        self.first_at = self.last_at = time.monotonic()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(threads)]

    def start(self) -> None:
        self._began = self.first_at = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop with every batch that was begun accepted."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def post(self, events: list[dict[str, object]], client: httpx.Client, patience_s: float = 300) -> None:
        """Send until accepted."""
        body = msgspec.json.encode({"events": events})
        deadline = time.monotonic() + patience_s
        while True:
            try:
                answer = client.post(f"{self._url}/v1/events", content=body, headers=_JSON)
                if answer.status_code == httpx.codes.ACCEPTED:
                    rejected = answer.json()["rejected"]
                    if rejected:
                        raise SystemExit(f"refused for good: {rejected[:2]}")
                    return
                self.refused[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                self.refused[type(error).__name__] += 1
            if time.monotonic() > deadline:
                raise SystemExit(f"not accepted within {patience_s:.0f} s: {dict(self.refused)}")
            time.sleep(0.2)

    def _run(self, seed: int) -> None:
        rng = random.Random(seed)
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            while not self._stop.is_set():
                number = next(self._numbers)
                due = self._began + number * self._every
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                events = self._events.batch(number)
                self.post(events, client)
                with self._lock:
                    self.accepted.append(number)
                    self.last_at = time.monotonic()
                if rng.random() < self._again:
                    self.post(events, client)
                    self.resent += len(events)


class Asker:
    """Asks for slates at a rate, each due at its time, and notes how long every answer took from then."""

    def __init__(self, url: str, users: int, rate: float) -> None:
        self._url = url
        self._users = users
        self._every = 1 / rate
        self._stop = threading.Event()
        self.milliseconds: list[float] = []
        self.degraded: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.slow: list[tuple[float, float]] = []
        """Seconds since the start and milliseconds of each answer over the budget."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def told(self) -> dict[str, object]:
        """The figures."""
        asked = len(self.milliseconds) + sum(self.failed.values())
        within = sum(one <= BUDGET_S * 1_000 for one in self.milliseconds)
        return {
            "requests": asked,
            "answered_within_250_ms": f"{within / max(asked, 1):.5%}",
            "failed": dict(self.failed),
            "slow": [(round(at, 1), round(ms)) for at, ms in self.slow],
            "p50_ms": round(float(np.percentile(self.milliseconds, 50)), 2),
            "p99_ms": round(float(np.percentile(self.milliseconds, 99)), 2),
            "p99.9_ms": round(float(np.percentile(self.milliseconds, 99.9)), 2),
            "degraded": dict(self.degraded),
        }

    async def _run(self) -> None:
        rng = random.Random(1)
        began = time.monotonic()
        pending: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(timeout=10.0, trust_env=False, limits=limits) as client:
            for number in itertools.count():
                due = began + number * self._every
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._stop.is_set():
                    break
                body = {"user_id": f"u{rng.randrange(self._users)}", "surface": "home", "n": 20}
                task = asyncio.create_task(self._ask(client, body, due, began))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, object], due: float, began: float) -> None:
        try:
            answer = await client.post(f"{self._url}/v1/recommendations", json=body)
        except httpx.HTTPError as error:
            self.failed[type(error).__name__] += 1
            return
        took = (time.monotonic() - due) * 1_000
        if answer.status_code != httpx.codes.OK or not answer.json()["items"]:
            self.failed[f"{answer.status_code}"] += 1
            return
        self.milliseconds.append(took)
        if took > BUDGET_S * 1_000:
            self.slow.append((due - began, took))
        for word in answer.json()["degraded"]:
            self.degraded[word] += 1
