"""The archive's process: told, heard, begun again when it died, and left behind when it hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penchant.assembly.cluster import archiving
from penchant.assembly.cluster.archiving import Archiving
from penchant.core.errors import LogUnavailable
from penchant.telemetry import ARCHIVE_LAG

ANSWERS = """
import os
while os.read(0, 1):
    {does}
"""


@contextmanager
def made(does: str) -> Iterator[Archiving]:
    """One whose process does that for each byte."""
    made = Archiving(Path())
    made._command = [sys.executable, "-c", ANSWERS.format(does=does)]
    try:
        yield made
    finally:
        made.close()


def says(line: str) -> str:
    return f"os.write(1, {line.encode()!r} + b'\\n')"


def test_it_is_told_and_heard() -> None:
    with made(says('{"left": 7, "error": null}')) as told:
        for _ in range(3):
            told.work(threading.Event())
        assert told._process is not None
        assert told._process.poll() is None
    assert ARCHIVE_LAG._value.get() == 7


def test_what_fails_there_fails_here() -> None:
    with made(says('{"left": 3, "error": "no broker"}')) as told, pytest.raises(LogUnavailable, match="no broker"):
        told.work(threading.Event())
    assert ARCHIVE_LAG._value.get() == 3


def test_one_that_died_is_begun_again() -> None:
    with made("os._exit(3)") as told:
        with pytest.raises(LogUnavailable, match="ended with 3"):
            told.work(threading.Event())
        told._command[-1] = ANSWERS.format(does=says('{"left": 0, "error": null}'))
        told.work(threading.Event())


def test_whoever_ends_does_not_wait_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_DRAIN_S", 0.3)
    stop = threading.Event()
    stop.set()
    with made("import time; time.sleep(60)") as told:
        began = time.monotonic()
        told.work(stop)
    assert time.monotonic() - began < 30


def test_it_ends_with_whoever_began_it() -> None:
    with made(says('{"left": 0, "error": null}')) as told:
        told.work(threading.Event())
        process = told._process
    assert process is not None
    assert process.returncode == 0
