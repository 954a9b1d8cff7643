"""The demo, small: the whole loop from an empty folder, and what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

SMALL = ("--slates", "100", "--events", "1000", "--films", "100", "--viewers", "100")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "penchant", "demo", "--dir", str(folder), *SMALL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_small_demo_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    process = start(tmp_path / "demo", "--once", "--json")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    told = json.loads(output)
    assert told["passed"]
    assert told["audit"]["lost"] == told["audit"]["doubled"] == 0
    assert told["events"]["accepted"] == told["events"]["sent"] >= 1_000
    assert told["events"]["lost"] == told["events"]["doubled"] == 0
    assert told["requests"]["answered"] >= 100
    assert told["requests"]["failed"] == 0
    assert told["seconds"]["first_slate"] <= told["seconds"]["total"]
    assert "Traceback" not in errors
    again = start(tmp_path, "--once")  # a folder that no demo made
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 1
    assert "no demo made it" in errors


@pytest.mark.slow
def test_interrupted_it_takes_the_engine_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = start(folder, "--once")
    try:
        address = ""
        deadline = time.monotonic() + 120
        while not address and time.monotonic() < deadline:
            log = folder / "server.log"
            words = log.read_text().split() if log.exists() else []
            address = next((word for word in words if word.startswith("http://")), "")
            time.sleep(0.1)
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "everything accepted is on disk" in errors
        assert "Traceback" not in errors
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/healthz")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
