"""Lanes: tests that need a server or a tool run where it is, are left out elsewhere, and fail where CI lacks it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from penchant.testing.servers import lanes
from penchant.testing.servers.found import cache_folder, has_library

# A shell starts what runs in the background with SIGINT ignored, and children inherit that: tests that interrupt them
# would find that nothing happens.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On CI a commit is judged by the same examples each time; elsewhere new ones are drawn.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

LANE_OF_FIXTURE = {
    "kafka": "kafka",
    "postgres": "pg",
    "redis_server": "redis",
    "redis_cluster": "redis",
    "valkey_server": "valkey",
}
"""A test that asks for one of these fixtures is in the lane, marked or not."""


@cache
def deploy_missing() -> str | None:
    """Why files for deployment cannot be checked here, in one sentence."""
    beside = Path(sys.executable).parent
    absent = []
    if not (shutil.which("hadolint") or (beside / "hadolint").exists()):
        absent.append("hadolint")
    if not has_library("kubernetes_validate"):
        absent.append("kubernetes-validate")
    if not (shutil.which("promtool") or (cache_folder() / "prometheus" / "usr" / "bin" / "promtool").exists()):
        absent.append("promtool")
    return f"{', '.join(absent)} not installed: `make servers` adds it" if absent else None


def missing(lane: str) -> str | None:
    return deploy_missing() if lane == "deploy" else lanes.missing(lane)


def lanes_of(item: pytest.Item) -> list[str]:
    return [lane for lane in (*lanes.LANES, "deploy") if item.get_closest_marker(lane)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in LANE_OF_FIXTURE:
                item.add_marker(LANE_OF_FIXTURE[fixture])


LEFT_OUT = pytest.StashKey[dict[str, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for lane in lanes_of(item):
        reason = missing(lane)
        if reason is None:
            continue
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"lane {lane}: {reason}", pytrace=False)
        counted = item.config.stash.setdefault(LEFT_OUT, {})
        counted[lane] = counted.get(lane, 0) + 1
        pytest.skip(f"lane {lane}: {reason}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """After pytest's own last line."""
    counted = config.stash.get(LEFT_OUT, {})
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if counted and reporter is not None:
        told = ", ".join(f"{lane} ({tests})" for lane, tests in sorted(counted.items()))
        line = f"left out, tests that need a server: {told}; `make servers` adds them"
        reporter.write_line(line, yellow=True)
