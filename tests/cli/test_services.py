"""The services as processes: how they listen, work together, and end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import made

READY_S = 60.0


@contextmanager
def service(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service that is ready, and its address; killed at the end, unless it has ended."""
    process = made.start(*arguments, "--port", "0")
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.search(r"http://\S+", line)
        assert match, line + process.stderr.read()
        url = match[0]
        until(lambda: _ready(url), "it did not become ready")
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(true: Any, message: str, seconds: float = READY_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _post(url: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v1/events", json={"events": events}, timeout=10.0, trust_env=False)
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def _slate(url: str, **request: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v1/recommendations", json=request, timeout=10.0, trust_env=False)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def children(pid: int) -> list[int]:
    """Processes below a process."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_drains_and_exits_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with service("up", "--dir", made.folder(tmp_path)) as (process, url):
        told = _post(url, made.events(n=50))
        assert told["accepted"] == 90
        process.send_signal(number)
        assert process.wait(20) == 0
    again = made.start("import", made.jsonl(tmp_path / "none.jsonl", []), "--dir", tmp_path, "--json")
    output, _ = again.communicate()
    assert '"position": 90' in output


def test_asked_to_end_before_it_is_up_it_exits_with_0(tmp_path: Path) -> None:
    process = made.start("up", "--dir", made.folder(tmp_path), "--port", "0")
    assert process.stderr is not None
    process.stderr.readline()
    process.terminate()
    assert process.wait(60) == 0
    process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_told(tmp_path: Path, workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = made.start("up", "--dir", made.folder(tmp_path), "--port", port, "--workers", workers)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    told = " ".join(errors.split())
    assert f"port {port} on 127.0.0.1 is in use" in told
    assert "--port" in told
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dir", "missing"], "penchant init"),
        (["--dir", "in", "--host", "0.0.0.0"], "PENCHANT_KEYS"),
        (["--dir", "broken"], "did you mean 'window'?"),
        (["--dir", "wrong", "--port", "0", "--workers", "2"], "no action"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    made.folder(tmp_path / "in")
    made.folder(tmp_path / "broken", made.SETTINGS.replace("window", "windw"))
    made.folder(tmp_path / "wrong", made.SETTINGS.replace('of = "click"', 'of = "clack"'))
    environ = {key: value for key, value in os.environ.items() if key != "PENCHANT_KEYS"}
    process = made.start("up", *arguments, cwd=tmp_path, env=environ)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert says in " ".join(errors.split())
    assert "Traceback" not in errors


def test_two_workers_and_a_fold_of_their_own(tmp_path: Path) -> None:
    with service("up", "--workers", "2", "--dir", made.folder(tmp_path)) as (process, url):
        position = _post(url, made.events(n=200))["position"]
        for _ in range(8):
            slate = _slate(url, user_id="u1", n=5, after=position, wait_ms=10_000)
            assert len(slate["items"]) == 5
            assert "stale" not in slate["degraded"]
        for _ in range(4):  # whichever worker answers, it answers for both
            text = httpx.get(f"{url}/metrics", timeout=10.0, trust_env=False).text
            assert 'penchant_request_milliseconds_count{route="/v1/recommendations"} 8.0' in text
        family = children(process.pid)
        fold = next(pid for pid in family if b"stream" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(fold, signal.SIGKILL)
        position = _post(url, made.events(n=10, seed=3))["position"]
        slate = _slate(url, user_id="u1", n=5, after=position, wait_ms=10_000)
        until(lambda: "stale" not in _slate(url, user_id="u1", after=position, wait_ms=1_000)["degraded"], "no fold")
        family = children(process.pid)
        process.terminate()
        assert process.wait(30) == 0
        until(lambda: not any(map(alive, family)), "somebody stayed", 20)


def test_killed_it_takes_its_processes_with_it(tmp_path: Path) -> None:
    with service("up", "--workers", "2", "--dir", made.folder(tmp_path)) as (process, _):
        family = children(process.pid)
        assert len(family) >= 3
        process.kill()
        process.wait()
        until(lambda: not any(map(alive, family)), "somebody stayed", 20)


def test_three_processes_on_one_folder(tmp_path: Path) -> None:
    folder = made.folder(tmp_path)
    stream = made.start("stream", "--dir", folder)
    try:
        with service("collect", "--dir", folder) as (_, ingest), service("serve", "--dir", folder) as (_, read):
            position = _post(ingest, made.events(n=200))["position"]
            slate = _slate(read, user_id="u1", n=5, after=position, wait_ms=10_000)
            assert len(slate["items"]) == 5
            assert "stale" not in slate["degraded"]
            hidden = slate["items"][0]["item_id"]
            hide = {"type": "interaction", "user_id": "u1", "item_id": hidden, "action": "hide"}
            position = _post(ingest, [hide])["position"]
            after = _slate(read, user_id="u1", n=5, after=position, wait_ms=10_000)
            assert hidden not in [shown["item_id"] for shown in after["items"]]
        stream.terminate()
        assert stream.wait(20) == 0
    finally:
        if stream.poll() is None:
            stream.kill()
        stream.communicate()
