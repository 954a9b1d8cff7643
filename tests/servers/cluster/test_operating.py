"""`penchant doctor` on a cluster, and `penchant cluster up --local`: all of it on one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from penchant.testing.servers import free_port
from servers.cluster.conftest import Deployment
from servers.cluster.world import Json, click, film, make_folder, until, verb

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.pg, pytest.mark.slow]


def _found(deployment: Deployment, code: int | None = None, **environment: str) -> dict[str, list[Json]]:
    """What the doctor says, by name."""
    given = {**deployment.cluster.environment, **environment}
    told = json.loads(verb(deployment.cluster.folder, given, "doctor", "--json", code=code).stdout)
    found: dict[str, list[Json]] = {}
    for check in told["checks"]:
        found.setdefault(check["name"], []).append(check)
    return found


def test_the_doctor_finds_a_cluster_well_and_names_what_is_away(deployment: Deployment) -> None:
    for service in deployment.cluster.services[:3]:
        if service.process.poll() is None:
            service.ready()
    found = _found(deployment, 0)
    assert {"outbox", "log", "state", "fold", "archive"} <= found.keys()
    wrong = [check for checks in found.values() for check in checks if check["status"] == "fail"]
    assert not wrong
    assert f"{16 + 4} partitions" in found["log"][0]["message"]
    assert found["fold"][0]["status"] == "ok", found["fold"]
    nobody = f"127.0.0.1:{free_port()}"
    kafka = _found(deployment, 1, PENCHANT_LOG__URL=f"kafka://{nobody}/films")
    assert kafka["log"][0]["status"] == "fail"
    assert kafka["state"][0]["status"] == "ok"
    assert kafka["log"][0]["fix"]
    redis = _found(deployment, 1, PENCHANT_STATE__URL=f"redis://{nobody}/0")
    assert redis["state"][0]["status"] == "fail"
    assert nobody in redis["state"][0]["message"]
    assert redis["log"][0]["status"] == "ok"
    postgres = _found(deployment, 1, PENCHANT_OUTBOX__URL=f"postgresql://nobody@{nobody}/x")
    assert postgres["outbox"][0]["status"] == "fail"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other accounts can enter: PostgreSQL does not run as root."""
    made = Path(tempfile.mkdtemp(prefix="penchant-up-"))
    made.chmod(0o755)
    yield make_folder(made, "local")
    shutil.rmtree(made)


@contextmanager
def _up(folder: Path, ports: dict[str, int]) -> Iterator[subprocess.Popen[bytes]]:
    """`penchant cluster up --local`, and that it drains."""
    given = [word for name, port in ports.items() for word in (f"--{name}", str(port))]
    command = [sys.executable, "-m", "penchant", "cluster", "up", "--local", *given, "--dir", str(folder)]
    with (folder / "up.out").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (folder / "up.out").read_text()[-3_000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_all_of_it_on_one_machine(folder: Path, figures: Callable[[str], None]) -> None:
    ports = {name: free_port() for name in ("port", "collect-port", "stream-port")}
    serve, collect = (
        httpx.Client(base_url=f"http://127.0.0.1:{ports[name]}", timeout=20.0, trust_env=False)
        for name in ("port", "collect-port")
    )

    def ready() -> bool:
        try:
            return all(one.get("/readyz").status_code == httpx.codes.OK for one in (serve, collect))
        except httpx.TransportError:
            return False

    began = time.monotonic()
    with _up(folder, ports):
        until(ready, 120)
        figures(f"penchant cluster up --local: ready in {time.monotonic() - began:.1f} s, servers included")
        events = [*(film(number) for number in range(30)), click("u1", "f3")]
        token = collect.post("/v1/events", json={"events": events}).json()["position"]
        asked = {"position": token, "wait_ms": 10_000}
        assert serve.get("/v1/status", params=asked).json()["reached"]
        slate = serve.post("/v1/recommendations", json={"user_id": "u1", "n": 30}).json()
        shown = [item["item_id"] for item in slate["items"]]
        assert len(shown) > 10
        assert "f3" not in shown
    with _up(folder, ports):
        until(ready, 120)
        assert serve.get("/v1/users/u1").json()["counters"]["click"] == 1
        assert serve.get("/v1/status", params=asked).json()["reached"], "the outbox has its name still"
        answer = collect.post("/v1/events", json={"events": [film(0)]}).json()
        assert answer["duplicates"] == 1
    for client in (serve, collect):
        client.close()
    text = (folder / "up.out").read_text()
    assert "Traceback" not in text, text[-3_000:]
    left = [int(path.read_text()) for path in (folder / "servers").glob("*/server.pid")]
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists() and pid != os.getpid()]
