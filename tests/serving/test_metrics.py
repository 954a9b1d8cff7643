"""Ages grow by themselves, and processes of one service answer for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from penchant import telemetry
from penchant.telemetry import Age, exposition

COUNTS = """
import sys
from prometheus_client import CollectorRegistry
from penchant.serving.metrics import Metrics
from penchant.telemetry import BREAKER_OPEN, PICTURE_AGE, RELAYED, exposition

metrics = Metrics()
metrics.request("GET", "/v1/status", 200, 3.0)
RELAYED.inc(5)
PICTURE_AGE.set(float(sys.argv[1]))
BREAKER_OPEN.labels("redis").set(float(sys.argv[2]))
print("up", flush=True)
sys.stdin.readline()
sys.stdout.write(exposition(metrics.registry).decode())
"""


def test_an_age_grows_until_it_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    registry = CollectorRegistry()
    age = Age("some_age_seconds", "Some age.", ["side"], registry=registry)
    assert registry.get_sample_value("some_age_seconds", {"side": "users"}) is None
    age.labels("users").set(3.0)
    now = 60.0
    assert registry.get_sample_value("some_age_seconds", {"side": "users"}) == 13.0
    age.labels("users").set(0)
    assert registry.get_sample_value("some_age_seconds", {"side": "users"}) == 0.0


def test_an_age_never_set_is_not_given() -> None:
    registry = CollectorRegistry()
    Age("some_age_seconds", "Some age.", registry=registry)
    assert registry.get_sample_value("some_age_seconds") is None


def test_everything_called_an_age_is_one() -> None:
    ages = {name for name, one in vars(telemetry).items() if isinstance(one, Age)}
    called = {name for name in vars(telemetry) if name.endswith("_AGE")}
    assert ages == called
    assert len(telemetry._AGES) == len(ages)


def test_one_of_several_processes_answers_for_all(tmp_path: Path) -> None:
    def process(age: float, broken: int) -> subprocess.Popen[str]:
        environment = {**os.environ, telemetry.SHARED: str(tmp_path)}
        command = [sys.executable, "-c", COUNTS, str(age), str(broken)]
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert started.stdout is not None
        assert started.stdout.readline() == "up\n"
        return started

    dead, old, young = process(1000, 1), process(100, 0), process(1, 0)
    dead.kill()
    dead.communicate()
    text, _ = young.communicate("\n")
    old.communicate("\n")
    values = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    assert values["penchant_relayed_events_total",] == 15  # what the dead one counted still counts
    assert values["penchant_requests_total", "GET", "/v1/status", "200"] == 3
    assert 100 <= values["penchant_picture_age_seconds",] < 160  # what it measured does not
    assert values["penchant_breaker_open", "redis"] == 0
    assert ("penchant_copy_age_seconds",) not in values


def test_without_others_a_process_answers_for_itself() -> None:
    assert b"penchant_relayed_events_total" in exposition()
