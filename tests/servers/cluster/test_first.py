"""Each service starts before all that it needs, says what it waits for, and goes on when that appears."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from penchant.testing.servers import Kafka, Redis, free_port
from servers.cluster.world import Cluster, Service, click, film, make_folder, traces, until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

VERBS = ("collect", "stream", "serve")
DRAINS_S = 12.0
"""Some seconds alone; others share the machine."""


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Where servers will be, and are not."""
    return {"kafka": free_port(), "redis": free_port()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Cluster]:
    folder = make_folder(tmp_path_factory.mktemp("first"), "first")
    environment = {
        "PENCHANT_LOG__URL": f"kafka://127.0.0.1:{ports['kafka']}/first",
        "PENCHANT_STATE__URL": f"redis://127.0.0.1:{ports['redis']}/0",
    }
    with Cluster(folder, environment) as cluster:
        yield cluster


def _fits(service: Service) -> None:
    """Whether a service without anything that it needs behaves."""
    service.alive()
    missing = service.missing()
    if service.verb == "collect":
        assert missing == "", "a collector with an outbox of its own can take events"
        assert service.send([film(1)])["accepted"] == 1
    elif service.verb == "stream":
        assert "log at 127.0.0.1" in missing, missing
    else:
        assert "redis://127.0.0.1" in missing, missing
        assert "pictures" in missing, missing
    for path in ("/v1/status", "/metrics", "/healthz"):
        began = time.monotonic()
        assert service.answers(path) == httpx.codes.OK
        assert time.monotonic() - began < 2.0, f"{path} waits for what is not there"


@pytest.mark.parametrize("verb", VERBS)
def test_each_starts_alone_and_drains_while_nothing_is_there(
    verb: str, cluster: Cluster, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    service = cluster.service(verb, folder=make_folder(tmp_path / verb, "first"))
    _fits(service)
    words = {
        "collect": ["events wait in the outbox"],
        "stream": ["the fold waits"],
        "serve": ["no new pictures of the items", "events wait in the outbox"],
    }
    until(lambda: all(word in service.said() for word in words[verb]), 30)
    code, took = service.stop()
    assert code == 0, service.said()[-2_000:]
    assert took < DRAINS_S
    said = service.said()
    assert "Traceback" not in said, said
    figures(f"{verb}, with nothing there: SIGTERM to exit {took:.1f} s")


def test_they_go_on_by_themselves(cluster: Cluster, ports: dict[str, int], figures: Callable[[str], None]) -> None:
    collect, stream, serve = (cluster.service(verb) for verb in VERBS)
    for service in (collect, stream, serve):
        _fits(service)
    films = collect.send([film(number) for number in range(2, 40)])["position"]
    token = collect.send([click("u1", "f3", id="c1")])["position"]
    assert serve.slate("u1", wait_ms=0)["degraded"], "there is nothing to answer from"
    with ExitStack() as stack:
        began = time.monotonic()
        stack.enter_context(Redis(port=ports["redis"]))
        until(lambda: "redis" not in serve.missing(), 30)
        stack.enter_context(Kafka(port=ports["kafka"]))
        there = time.monotonic()
        for service in (stream, serve):
            service.ready()
        asked = {"position": token, "wait_ms": 1_000}
        until(lambda: serve.client.get("/v1/status", params=asked).json().get("reached"), 60)
        took = time.monotonic() - there
        figures(
            f"collect, stream and serve started first; {took:.1f} s after the last server appeared"
            f" ({there - began:.1f} s after the first) the event is in the slate's state"
        )
        serve.reaches(films)
        shown = serve.shown("u1", n=30, after=token, wait_ms=5_000)
        assert len(shown) > 10
        assert "f3" not in shown
        assert serve.get("/v1/users/u1")["recent"][0]["item_id"] == "f3"
        for service in (collect, stream, serve):
            code, took = service.stop()
            assert code == 0, service.said()[-2_000:]
            assert took < DRAINS_S, service.verb
            assert traces(service.said()) <= 2, service.said()
            figures(f"{service.verb}, with all there: SIGTERM to exit {took:.1f} s")


def test_a_port_where_nobody_answers_costs_a_start_no_more(cluster: Cluster, tmp_path: Path) -> None:
    """A server that takes connections and says nothing, as one behind a firewall does."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1]
        service = cluster.service(
            "serve",
            folder=make_folder(tmp_path / "silent", "first"),
            PENCHANT_STATE__URL=f"redis://127.0.0.1:{port}/0",
            PENCHANT_LOG__URL=f"kafka://127.0.0.1:{port}/first",
        )
        _fits(service)
        code, took = service.stop()
        assert code == 0
        assert took < DRAINS_S
