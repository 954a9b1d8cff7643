"""A private server for tests: started on a free loopback port with data of its own, stopped by its pid."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from penchant.testing.servers.ports import HOST, free_port, is_free

_PID = "server.pid"


class Process(ABC):
    """One server process with its port and its data; a context manager that starts it and stops it.

    `folder` holds the data and the server's output; without one, a temporary folder is made and removed at the end. A
    folder that is given keeps its data, and a process that a killed owner left running on it is ended before the next
    start.
    """

    name = "server"
    starts_within = 60.0
    """Seconds until a start is given up: machines are busy."""
    stops_within = 20.0
    """Seconds between the request to stop and SIGKILL."""

    def __init__(self, folder: Path | str | None = None, *, port: int | None = None) -> None:
        self._ours = folder is None
        self.folder = Path(folder or tempfile.mkdtemp(prefix=f"penchant-{self.name}-")).resolve()
        self.port = port or self._choose_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Why this server cannot run here, with the command that changes it, in one sentence; None when it can."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where Penchant's settings find it."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line of the server."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether the server answers now; takes at most a few seconds."""

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Make the data folder fit for a first start; called before each start."""

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"{HOST}:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id; raises `RuntimeError` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def output(self) -> Path:
        """The file that holds what the server prints."""
        return self.folder / f"{self.name}.out"

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises `RuntimeError` with the end of its output when it exits or is not ready in `starts_within` seconds, and
        with the reason when it cannot run here.
        """
        if self.alive:
            return self
        reason = self.missing()
        if reason:
            raise RuntimeError(reason)
        self.folder.mkdir(parents=True, exist_ok=True)
        end_left_over(self.folder)
        if not is_free(self.port):
            raise RuntimeError(f"another process has the port {self.port} of {self.name}")
        self.prepare()
        with self.output.open("ab") as output:
            self._process = self._popen(self.command(), output.fileno())
        atexit.register(self.kill)
        (self.folder / _PID).write_text(str(self._process.pid))
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ask the server to stop, wait, and kill it if it does not; nothing when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.send_signal(self._stop_signal())
            try:
                self._process.wait(self.stops_within)
            except subprocess.TimeoutExpired:
                self.kill()
        self._ended()

    def kill(self) -> None:
        """`kill -9` the server and the processes that it started."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._ended()

    def restart(self) -> Self:
        """Start again on the same port and data; a server that still runs is stopped first."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Stop the server in its tracks (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove the data folder, unless it was given."""
        self.stop()
        if self._ours:
            shutil.rmtree(self.folder, ignore_errors=True)

    def tail(self, lines: int = 20) -> str:
        """The last lines that the server printed."""
        try:
            return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _choose_port(self) -> int:
        return free_port()

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    def _popen(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder, start_new_session=True
        )

    def _signal(self, number: signal.Signals) -> None:
        for pid in (self.pid, *_children(self.pid)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.starts_within
        while True:
            if not self.alive:
                code = self._process.returncode if self._process else None
                raise RuntimeError(f"{self.name} exited with {code}:\n{self.tail()}")
            if self.ready():
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} was not ready in {self.starts_within:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def _ended(self) -> None:
        atexit.unregister(self.kill)
        self._process = None
        (self.folder / _PID).unlink(missing_ok=True)


def _children(pid: int) -> list[int]:
    """The processes that a server started itself, on Linux."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def end_left_over(folder: Path) -> None:
    """End the process that a killed owner left running on this folder, if its command line still names the folder."""
    noted = folder / _PID
    try:
        pid = int(noted.read_text())
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + Process.stops_within
    number = signal.SIGINT  # which all of them take as: at once, but in order
    while str(folder) in _arguments(pid):
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    noted.unlink(missing_ok=True)


def _arguments(pid: int) -> str:
    """The command line of a process; "" when it has ended, even if nobody has waited for it."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            return ""
    shown = ["ps", "-o", "args=", "-ww", "-p", str(pid)]
    return subprocess.run(shown, capture_output=True, text=True, check=False).stdout
