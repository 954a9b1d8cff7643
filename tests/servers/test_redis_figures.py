"""What reads and commits take on a real Redis, kept in `.figures/redis.json`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.redis
def test_redis(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "bench.redis_read", "--brief"]
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    (ROOT / ".figures").mkdir(exist_ok=True)
    (ROOT / ".figures" / "redis.json").write_text(json.dumps(told, indent=2) + "\n")
    with capsys.disabled():
        print(f"\nredis: {json.dumps(told)}")
    # Generous: machines that run tests are busy. The typical read is what a request pays for.
    assert told["alone"]["p50_ms"] < 5
    assert told["commits_100"]["events_per_s"] > 500
