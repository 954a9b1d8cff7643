"""The tools that check what is in deploy/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from penchant.testing.servers.found import cache_folder

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def run(*command: str | Path, cwd: Path | None = None) -> tuple[int, str]:
    """The exit code of a program and all that it said."""
    told = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    return told.returncode, told.stdout + told.stderr


def absent(reason: str) -> None:
    """Leave the test out; where CI runs, fail it."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker; the lane says when there is none."""
    unpacked = cache_folder() / "prometheus" / "usr" / "bin" / "promtool"
    return str(unpacked) if unpacked.exists() else str(shutil.which("promtool"))


@pytest.fixture(scope="session")
def hadolint() -> str:
    """The checker of Dockerfiles."""
    beside = Path(sys.executable).parent / "hadolint"
    return str(beside) if beside.exists() else str(shutil.which("hadolint"))


@pytest.fixture(scope="session")
def compose() -> Path:
    """The reader of compose files in deploy/validate, built once for each state of its source."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/go/bin")
    if go is None:
        absent("Go 1.24 or newer is not installed, with which the checker of compose files is built")
    source = DEPLOY / "validate"
    digest = xxhash.xxh3_64()
    for path in sorted(source.iterdir()):
        digest.update(path.read_bytes())
    program = cache_folder() / "validate" / digest.hexdigest()
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        code, told = run(str(go), "build", "-trimpath", "-o", made, ".", cwd=source)
        if code:
            absent(f"the checker of compose files could not be built: {told.strip()[-500:]}")
        made.replace(program)
    return program
