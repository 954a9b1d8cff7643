"""The load: events that are sent until they are accepted, and requests that are answered or not."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException

import httpx
import msgspec
import numpy as np
from bench.chaos.world import Events

BUDGET_S = 0.25
_JSON = {"content-type": "application/json"}
_STRIDE = 7_919
"""Odd and large, so that the askers go through everybody out of order."""


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
        self.tokens: dict[int, str] = {}
        """By thread, the place of what it sent last."""
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

    def post(self, events: list[dict[str, object]], client: httpx.Client, patience_s: float = 300) -> str:
        """Send until accepted; the token that says where."""
        body = msgspec.json.encode({"events": events})
        deadline = time.monotonic() + patience_s
        while True:
            try:
                answer = client.post(f"{self._url}/v1/events", content=body, headers=_JSON)
                if answer.status_code == httpx.codes.ACCEPTED:
                    told = answer.json()
                    if told["rejected"]:
                        raise SystemExit(f"refused for good: {told['rejected'][:2]}")
                    return str(told["position"])
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
                token = self.post(events, client)
                with self._lock:
                    self.tokens[seed] = token
                    self.accepted.append(number)
                    self.last_at = time.monotonic()
                if rng.random() < self._again:
                    self.post(events, client)
                    self.resent += len(events)


class Asker:
    """Asks for slates at a rate, each due at its time, and notes how long every answer took from then.

    By plain connections, one a thread: the client shares the processors with what it asks.
    """

    def __init__(self, url: str, users: int, rate: float, *, threads: int = 32) -> None:
        self._address = url.removeprefix("http://")
        self._users = users
        self._every = 1 / rate
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.milliseconds: list[float] = []
        self.degraded: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.slow: list[tuple[float, float]] = []
        """Seconds since the start and milliseconds of each answer over the budget."""
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def told(self) -> dict[str, object]:
        """The figures."""
        asked = len(self.milliseconds) + sum(self.failed.values())
        within = sum(one <= BUDGET_S * 1_000 for one in self.milliseconds)
        return {
            "requests": asked,
            "answered_within_250_ms": within / max(asked, 1),
            "failed": dict(self.failed),
            "slow": len(self.slow),
            "slow_at": sorted({round(at) for at, _ in self.slow}),
            "slowest_ms": round(max((ms for _, ms in self.slow), default=0.0)),
            "p50_ms": round(float(np.percentile(self.milliseconds, 50)), 2),
            "p99_ms": round(float(np.percentile(self.milliseconds, 99)), 2),
            "p99.9_ms": round(float(np.percentile(self.milliseconds, 99.9)), 2),
            "degraded": dict(self.degraded),
        }

    def _run(self) -> None:
        connection = HTTPConnection(self._address, timeout=10.0)
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
            due = self._began + number * self._every
            if self._stop.wait(max(0.0, due - time.monotonic())):
                break
            body = {"user_id": f"u{number * _STRIDE % self._users}", "surface": "home", "n": 20}
            try:
                connection.request("POST", "/v1/recommendations", msgspec.json.encode(body), _JSON)
                answer = connection.getresponse()
                found = msgspec.json.decode(answer.read(), type=_Slate)
            except (OSError, HTTPException, msgspec.DecodeError) as error:
                connection.close()
                found, name = None, type(error).__name__
            else:
                name = str(answer.status)
            self._note(due, found, name)
        connection.close()

    def _note(self, due: float, found: _Slate | None, name: str) -> None:
        took = (time.monotonic() - due) * 1_000
        with self._lock:
            if found is None or not found.items:
                self.failed[name] += 1
                return
            self.milliseconds.append(took)
            if took > BUDGET_S * 1_000:
                self.slow.append((due - self._began, took))
            self.degraded.update(found.degraded)


class _Slate(msgspec.Struct):
    """What is looked at of an answer."""

    items: list[msgspec.Raw] = []
    degraded: list[str] = []
