"""`penchant up` killed again and again under posting clients: what was acknowledged is there, once."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flow.world import FILMS, records_of
from penchant.assembly.parts import Definition, open_parts
from penchant.cli.application import free_port
from penchant.cli.demo.server import Server
from penchant.core.events import Interaction
from penchant.settings import parse

KILLS = 20
CLIENTS = 4
ITEMS = 30


class Poster(threading.Thread):
    """Sends batches with ids, each again and again until it is acknowledged."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"poster {number}", daemon=True)
        self.url, self.number, self.stopped = url, number, stop
        self.acknowledged: list[dict[str, object]] = []
        self.retries = 0
        self.answered_twice = 0
        self.failed: list[str] = []

    def run(self) -> None:
        rng = random.Random(self.number)
        numbers = itertools.count()
        with httpx.Client(base_url=self.url, timeout=5.0) as client:
            while not self.stopped.is_set():
                batch = [self._event(rng, next(numbers)) for _ in range(rng.randrange(1, 40))]
                if not self._deliver(client, batch):
                    return
                self.acknowledged += batch

    def _event(self, rng: random.Random, number: int) -> dict[str, object]:
        return {
            "type": "interaction",
            "id": f"{self.number}:{number}",
            "user_id": f"u{rng.randrange(50)}",
            "item_id": f"f{rng.randrange(ITEMS)}",
            "action": rng.choice(["click", "like", "hide"]),
        }

    def _deliver(self, client: httpx.Client, batch: list[dict[str, object]]) -> bool:
        """Whether it was acknowledged; only the end of the test makes it give up, and then it counts for nothing."""
        while True:
            try:
                answer = client.post("/v1/events", json={"events": batch})
            except httpx.TransportError:
                self.retries += 1
                if self.stopped.wait(0.1):
                    return False
                continue
            if answer.status_code != httpx.codes.ACCEPTED:
                self.failed.append(f"{answer.status_code}: {answer.text[:300]}")
                return False
            told = answer.json()
            if told["accepted"] + told["duplicates"] != len(batch) or told["rejected"]:
                self.failed.append(answer.text[:300])
            self.answered_twice += told["duplicates"]
            return True


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path, figures: Callable[[str], None]) -> None:
    seed = int(os.environ.get("PENCHANT_SEED", int.from_bytes(os.urandom(4), "big")))
    print(f"PENCHANT_SEED={seed}")
    rng = random.Random(seed)
    (tmp_path / "penchant.toml").write_text(FILMS, encoding="utf-8")
    port = free_port("127.0.0.1")
    starts: list[float] = []
    stop = threading.Event()

    def started() -> Server:
        before = time.perf_counter()
        server = Server(tmp_path, port=port)
        server.wait_ready()
        starts.append(time.perf_counter() - before)
        return server

    server = started()
    try:
        httpx.post(
            f"{server.url}/v1/items", json={"items": [{"item_id": f"f{i}", "attributes": {}} for i in range(ITEMS)]}
        ).raise_for_status()
        posters = [Poster(server.url, number, stop) for number in range(CLIENTS)]
        for poster in posters:
            poster.start()
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.1, 0.6))
            server._process.kill()
            server._process.wait()
            server = started()
        time.sleep(0.3)
        stop.set()
        for poster in posters:
            poster.join(20)
        assert not any(poster.is_alive() for poster in posters)
        assert [poster.failed for poster in posters] == [[]] * CLIENTS

        with httpx.Client(base_url=server.url, timeout=20.0) as client:
            end = client.post("/v1/events", json={"events": [posters[0].acknowledged[0]]}).json()
            assert end["duplicates"] == 1
            status = client.get("/v1/status", params={"position": end["position"], "wait_ms": 10_000}).json()
            assert status["reached"]
            assert status["lag_events"] == 0
            counters = {f"f{i}": client.get(f"/v1/items/f{i}").json()["counters"] for i in range(ITEMS)}
    finally:
        stop.set()
        server.stop()

    acknowledged = [event for poster in posters for event in poster.acknowledged]
    definition = Definition.of(parse(FILMS))
    parts = open_parts(tmp_path, definition.settings)
    logged = [record.event for record in records_of(parts.log) if isinstance(record.event, Interaction)]
    parts.close()
    times = Counter(event.id for event in logged)
    lost = sum(times[str(event["id"])] == 0 for event in acknowledged)
    doubled = sum(count > 1 for count in times.values())

    # What was never acknowledged may be there too (the answer died with the server): the tally is of the log.
    tally = Counter((event.item_id, event.action) for event in logged)
    counted = {(item, action): n for item, told in counters.items() for action, n in told.items() if n}
    wrong = sum(tally[key] != counted.get(key, 0) for key in tally | counted)
    warm = sorted(starts[1:])
    retries, again = sum(one.retries for one in posters), sum(one.answered_twice for one in posters)
    figures(
        f"seed {seed}: {KILLS} kills of penchant up under {CLIENTS} clients, {len(acknowledged)} events acknowledged"
        f" ({retries} retries, {again} redelivered), lost {lost}, doubled {doubled}, item counters wrong {wrong};"
        f" until ready {warm[len(warm) // 2]:.1f} s (most {warm[-1]:.1f} s)"
    )
    assert (lost, doubled, wrong) == (0, 0, 0)
    assert set(times) >= {str(event["id"]) for event in acknowledged}
