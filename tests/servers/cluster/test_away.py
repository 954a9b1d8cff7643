"""Redis and PostgreSQL that hang or are gone: requests are answered in milliseconds, events are refused as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from penchant.testing.servers import Redis, free_port
from servers.cluster.conftest import Deployment
from servers.cluster.world import Service, click, film, make_folder, traces, until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.pg, pytest.mark.slow]

DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "reference" / "http.md"
TIMEOUT_MS = 50
BUSY_MS = 1_000
"""What other programs on the machine may take from one request."""


@pytest.fixture
def redis(deployment: Deployment) -> Iterator[Redis]:
    """As it is found it is left: running, with what was written."""
    yield deployment.redis
    if deployment.redis.alive:
        deployment.redis.resume()
    deployment.redis.start()
    until(lambda: deployment.serve.slate("u1")["degraded"] == [], 30)
    deployment.stream.ready()


def _asked(serve: Service, times: int) -> tuple[list[float], list[str], list[int]]:
    """Milliseconds of some requests, their words, and how many items they had."""
    took, words, sizes = [], [], []
    for number in range(times):
        began = time.perf_counter()
        slate = serve.slate(f"u{number % 7}", n=5)
        took.append(1e3 * (time.perf_counter() - began))
        words += slate["degraded"]
        sizes.append(len(slate["items"]))
    return took, words, sizes


@pytest.mark.parametrize("how", ["hangs", "is killed"])
def test_a_redis_that_is_away_costs_a_request_milliseconds(
    deployment: Deployment, redis: Redis, how: str, figures: Callable[[str], None]
) -> None:
    serve, collect = deployment.serve, deployment.collect
    serve.reaches(collect.send([click(f"u{number}", "f1") for number in range(7)])["position"])
    before, _, _ = _asked(serve, 30)
    if how == "hangs":
        redis.pause()
    else:
        redis.kill()
    first, words, sizes = _asked(serve, 3)  # so many until the breaker opens
    later, more, others = _asked(serve, 100)
    assert set(words + more) == {"state"}
    assert words + more == ["state"] * 103
    assert "| `state` |" in DOCUMENTED.read_text(encoding="utf-8")
    assert set(sizes + others) == {5}, "the pictures of the items are at hand"
    began = time.perf_counter()
    status = serve.get("/v1/status")
    metrics = serve.client.get("/metrics").text
    answered = 1e3 * (time.perf_counter() - began)
    assert status["items"] > 0
    assert 'penchant_breaker_open{dependency="state"} 1' in metrics, metrics
    stale = serve.slate("u1", after=collect.send([click("u1", "f2")])["position"], wait_ms=50)
    assert "stale" in stale["degraded"]
    assert serve.answers("/healthz") == httpx.codes.OK
    assert serve.missing() == "", "a slate without live state is better than none"
    p50, p99 = np.percentile(later, [50, 99])
    figures(
        f"Redis {how}: before p50 {np.median(before):.1f} ms; the first three {', '.join(f'{ms:.0f}' for ms in first)}"
        f" ms; then p50 {p50:.1f}, p99 {p99:.1f}, most {max(later):.0f} ms; status and metrics {answered:.0f} ms"
    )
    assert max(first) < TIMEOUT_MS + BUSY_MS
    assert p50 < 20
    assert sum(took > TIMEOUT_MS for took in later) <= 10, "now and then one tries"
    assert max(later) < TIMEOUT_MS + BUSY_MS
    assert answered < 1_000
    if how == "hangs":
        redis.resume()
    else:
        redis.start()
    began = time.perf_counter()
    until(lambda: serve.slate("u1")["degraded"] == [], 15, 0.01)
    told = collect.send([click("u1", "f4")])["position"]
    until(lambda: serve.slate("u1", after=told, wait_ms=1_000)["degraded"] == [], 30)
    figures(f"Redis is back: slates from live state with a new click {time.perf_counter() - began:.1f} s later")
    assert "f4" not in serve.shown("u1", n=60)
    said = serve.said()
    assert traces(said) == 0, said[-3_000:]
    # One line for every request would fill a disk.
    assert said.count("\n") < 40, said[-3_000:]


def test_an_outbox_that_is_away_takes_nothing(deployment: Deployment) -> None:
    shared, postgres, serve = deployment.shared, deployment.postgres, deployment.serve
    for stop, go_on in ((postgres.pause, postgres.resume), (postgres.kill, postgres.start)):
        stop()
        began = time.perf_counter()
        answers = [
            shared.client.post("/v1/events", json={"events": [click("away", "f1", id=f"away-{number}")]})
            for number in range(3)
        ]
        assert time.perf_counter() - began < 30
        for answer in answers:
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            assert int(answer.headers["Retry-After"]) > 0
            assert "nothing of this batch was taken" in answer.json()["detail"]
        began = time.perf_counter()
        for path in ("/healthz", "/v1/status", "/metrics"):
            assert shared.answers(path) == httpx.codes.OK
        assert time.perf_counter() - began < 2
        until(lambda: "PostgreSQL" in shared.missing(), 15)
        go_on()
        shared.ready()
        # A batch whose answer was lost may have been taken after all; its ids keep it from counting twice.
        for number in range(3):
            told = until(lambda n=number: _taken(shared, click("away", "f1", id=f"away-{n}")), 30)  # type: ignore[misc]
        serve.reaches(told)
    assert serve.get("/v1/users/away")["counters"]["click"] == 3
    assert traces(shared.said()) == 0, shared.said()


def test_a_full_outbox_takes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    service = deployment.cluster.service(
        "collect",
        folder=make_folder(tmp_path / "full", "films"),
        PENCHANT_LOG__URL=f"kafka://{nobody}/films",
        PENCHANT_OUTBOX__MAX_EVENTS="1000",
    )
    service.alive()
    service.send([film(number) for number in range(900)])
    answer = service.client.post("/v1/events", json={"events": [film(number) for number in range(900, 1_001)]})
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert int(answer.headers["Retry-After"]) > 0
    assert service.get("/v1/status")["outbox"]["pending"] in (0, 900), "as last known"
    assert service.send([film(number) for number in range(900, 1_000)])["accepted"] == 100
    service.send([film(1)], status=httpx.codes.SERVICE_UNAVAILABLE)
    service.stop()


def _taken(service: Service, event: dict[str, object]) -> str:
    answer = service.client.post("/v1/events", json={"events": [event]})
    return str(answer.json()["position"]) if answer.status_code == httpx.codes.ACCEPTED else ""
