"""The simulated film service: its events through HTTP, its viewers before the slates they are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import httpx
import numpy as np

from penchant.cli.demo.tally import ARMS, Tally
from penchant.client import Client
from penchant.client.conversation import ApiError
from penchant.evaluation.simulate import World
from penchant.serving import wire

STEP_MS = 40_000
"""Simulated time between two slates."""
_REPEAT = 20
"""Every so many batches one is sent twice, as a client does whose answer was lost."""
_FRESH = 5
"""Every so many clicked slates the time until the click shows is measured."""

SETTINGS = """
[log]
lateness = "30d"

[surfaces.popular]
sources = [{ name = "trending", n = 400 }]
filters = ["seen", "hidden", "listed", "age"]
rank = "source"

[experiments.demo]
surface = "home"
arms = { popularity = { share = 0.5, surface = "popular" } }
"""
"""What the demo adds to the preset: an arm that sees popularity only."""


class FilmService:
    """Drives one world against one server; counts in `tally`."""

    def __init__(self, url: str, *, seed: int, films: int, viewers: int) -> None:
        self.url = url
        self.world = World(seed, films=films, viewers=viewers)
        self.tally = Tally()
        self._rng = np.random.default_rng(seed + 1)
        self._lock = threading.Lock()
        self._batches = 0
        self._clicked = 0
        self._stop = threading.Event()

    def catalogue(self) -> Iterator[dict[str, object]]:
        """Films and viewers, before anybody watched."""
        yield from self.world.item_events()
        yield from self.world.user_events()

    def post(self, events: Iterable[dict[str, object]], batch: int = 500) -> Iterator[int]:
        """Send events in batches; yields how many were sent so far."""
        done = 0
        left = iter(events)
        with Client(self.url, timeout=30.0) as client:
            while chunk := list(islice(left, batch)):
                self._send(client, chunk)
                done += len(chunk)
                yield done

    def serve(self, slates: int, clients: int = 2) -> None:
        """Viewers come, are shown slates and react, until `slates` were shown; blocks."""
        numbers = iter(range(slates))
        threads = [threading.Thread(target=self._viewers, args=(numbers,), daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        """Send the viewers home: `serve` returns soon."""
        self._stop.set()

    def audit(self) -> dict[str, int]:
        """Hold the engine's exact counters of every film against what was sent: events lost and doubled."""
        lost = doubled = 0
        with httpx.Client(base_url=self.url, timeout=30.0) as client:
            for film in self.world.films:
                answer = client.get(f"/v1/items/{film}")
                counters = answer.json()["counters"] if answer.status_code == httpx.codes.OK else {}
                for action in ("click", "watch", "like", "hide"):
                    difference = counters.get(action, 0) - self.tally.actions[film, action]
                    lost += max(0, -difference)
                    doubled += max(0, difference)
        return {"lost": lost, "doubled": doubled, "films": len(self.world.films)}

    def _send(self, client: Client, events: list[dict[str, object]]) -> wire.Accepted:
        answer = client.send(events)
        self.tally.send(events, answer.accepted, answer.duplicates)
        with self._lock:
            self._batches += 1
            again = self._batches % _REPEAT == 0
        if again:
            self.tally.repeat(len(events), client.send(events).duplicates)
        return answer

    def _viewers(self, numbers: Iterator[int]) -> None:
        with Client(self.url, timeout=30.0) as client:
            while not self._stop.is_set():
                with self._lock:
                    if next(numbers, None) is None:
                        return
                    arrived = self.world.advance(STEP_MS)
                    viewer = self.world.next_viewer()
                try:
                    if arrived:
                        self._send(client, arrived)
                    self._visit(client, viewer)
                except (ApiError, httpx.TransportError):
                    if not self._stop.is_set():
                        self.tally.failure()

    def _visit(self, client: Client, viewer: str) -> None:
        begun = time.perf_counter()
        answer = client.recommend(wire.Request(user_id=viewer, n=20))
        seconds = time.perf_counter() - begun
        shown = [item.item_id for item in answer.items]
        with self._lock:
            events = self.world.react(viewer, shown, self.world.now, self._rng, answer.request_id)
        clicks = [str(event["item_id"]) for event in events if event["action"] == "click"]
        arm = ARMS[answer.experiment.get("demo") == "popularity"]
        self.tally.slate(arm, shown, seconds, clicked=bool(clicks))
        if events:
            self._send(client, events)
        if clicks:
            self._clicked += 1
            if self._clicked % _FRESH == 0:
                self._measure(client, viewer, clicks[-1])

    def _measure(self, client: Client, viewer: str, clicked: str) -> None:
        """Ask until the clicked film has left the slate: it was in the one before, and what was seen is filtered."""
        begun = time.perf_counter()
        request = wire.Request(user_id=viewer, n=20, record=False)
        while time.perf_counter() - begun < 5.0:
            if clicked not in {item.item_id for item in client.recommend(request).items}:
                break
        self.tally.freshness(time.perf_counter() - begun)
