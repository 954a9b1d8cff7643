"""The archive's process: a worker tells it when to archive, and its fold waits for no Parquet."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import LogUnavailable
from penchant.log.archive_reader import Archiver
from penchant.settings import duration
from penchant.telemetry import ARCHIVE_LAG

_NICE = 10
"""What is fresh comes before what is kept."""
_DRAIN_S = 5.0
_LOOK_S = 0.1


class _Answer(msgspec.Struct, frozen=True):
    """What came of one time."""

    left: int
    error: str | None


def archiver_of(parts: ClusterParts) -> Archiver:
    """From the log into the archive."""
    return Archiver(
        parts.reader(),
        parts.archive(),
        parts.layout.all(),
        parts.clock,
        schema=parts.definition.schema,
        lateness_ms=duration(parts.settings.log.lateness, "log.lateness"),
    )


def archive_now(parts: ClusterParts, tell: Callable[[int], None]) -> None:
    """Archive all that is new; `tell` hears how many messages are left. Raises `LogUnavailable`."""
    archiver = archiver_of(parts)
    while left := archiver.step():
        tell(left)
    archiver.tidy()


def archive_when_told(parts: ClusterParts) -> None:
    """For each byte of standard input archive all that is new, answer with a line, and end when the input does."""
    os.nice(_NICE)
    archiver = archiver_of(parts)
    while os.read(0, 1):
        left, error = 0, None
        try:
            while (left := archiver.step()) and not _readable(0):  # it can be read when there is nobody any more
                pass
            archiver.tidy()
        except LogUnavailable as unavailable:
            error = str(unavailable)
        os.write(1, msgspec.json.encode(_Answer(left, error)) + b"\n")


def _readable(file: int, seconds: float = 0.0) -> bool:
    return bool(select.select([file], [], [], seconds)[0])


class Archiving:
    """An archiver in a process of its own, begun when it is first needed. For one thread.

    Its standard input is a pipe of which only this process has the other end: however this process ends, the other
    finishes what it has in hand and goes. Two may well archive at the same time, see `Archive`.
    """

    def __init__(self, folder: Path) -> None:
        self._command = [sys.executable, "-m", "penchant", "archive", "--lifeline", "--dir", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def work(self, stop: threading.Event) -> None:
        """Archive all that is new; raises `LogUnavailable` when that cannot be done.

        Once told to stop, what is not done in a few seconds is left in the log.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            os.write(process.stdin.fileno(), b"\n")
        except BrokenPipeError:
            line = b""
        else:
            patience = _DRAIN_S
            while not _readable(process.stdout.fileno(), _LOOK_S):
                patience -= _LOOK_S if stop.is_set() else 0.0
                if patience < 0:
                    return
            line = process.stdout.readline()
        if not line:
            raise LogUnavailable(f"its process ended with {process.wait()}; it is started again")
        answer = msgspec.json.decode(line, type=_Answer)
        ARCHIVE_LAG.set(answer.left)
        if answer.error is not None:
            raise LogUnavailable(answer.error)

    def close(self) -> None:
        """Let it finish what it has in hand, if it can within a few seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()  # what is half written is in no manifest
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(  # noqa: S603
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        return self._process
