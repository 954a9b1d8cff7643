"""A lane that cannot run is left out and named in the last line, and fails where CI runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from penchant.testing.servers import install
from penchant.testing.servers.lanes import LANES

ROOT = Path(__file__).resolve().parents[2]


def lane_without_jars(folder: Path, **environment: str) -> tuple[int, list[str]]:
    """Exit code and output of the Kafka lane of test_servers.py where the cache folder is empty."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/servers/test_servers.py", "-m", "kafka"],
        cwd=ROOT,
        env={**inherited, "PENCHANT_SERVERS": str(folder), **environment},
        capture_output=True,
        text=True,
    )
    return told.returncode, told.stdout.splitlines()


def test_a_missing_lane_is_left_out_and_the_last_line_says_so(tmp_path: Path) -> None:
    code, lines = lane_without_jars(tmp_path)
    assert code == 0, lines
    assert lines[-1] == "left out, tests that need a server: kafka (2); `make servers` adds them"


def test_a_missing_lane_fails_in_ci(tmp_path: Path) -> None:
    code, lines = lane_without_jars(tmp_path, CI="true")
    assert code == 1
    assert sum("lane kafka:" in line for line in lines) >= 2


def test_what_cannot_be_installed_is_said(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "penchant.testing.servers", "kafka"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "PENCHANT_SERVERS": str(tmp_path / "servers")},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 1
    assert "apt-get install default-jre-headless maven" in told.stderr
    assert told.stdout == "lanes that can run: none\n"


def test_nothing_is_installed_for_lanes_that_run() -> None:
    fit = [lane for lane, missing in LANES.items() if missing() is None]
    told: list[str] = []
    assert install.debian_packages(fit) == []
    assert install.install([lane for lane in fit if lane != "kafka"], told.append) == []
    assert told == []
