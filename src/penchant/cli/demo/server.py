"""The real engine, started as anyone would start it: `penchant up` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from penchant.cli.application import free_port
from penchant.core.errors import PenchantError


class DemoFailed(PenchantError):
    """Something that the demo started did not do what it should; the text ends with what it printed."""


STARTING = "start engine (first time: compiles, 1-2 min)"
"""What the bar says while it comes up; a fresh clone has no machine code yet."""


class Server:
    """`penchant up` on a folder; its output goes to `server.log` there."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port or free_port('127.0.0.1')}"
        self._output = folder / "server.log"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "penchant", "up", "--dir", str(folder), "--port", self.url.rsplit(":", 1)[1]],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self, seconds: float = 180.0) -> None:
        """Until it can answer; the first start compiles the hot loops, which takes a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2.0).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise DemoFailed(f"the server did not become ready; it printed:\n{self._output.read_text()[-2_000:]}")

    def stop(self) -> None:
        """Ask it to drain and end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Training:
    """`penchant train` beside the server, so that no request waits for it."""

    def __init__(self, folder: Path, *, simulate: int, seed: int, objective: str = "binary") -> None:
        arguments = ["--dir", str(folder), "--json", "--simulate", str(simulate), "--seed", str(seed)]
        arguments += ["--objective", objective]
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "penchant", "train", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def stop(self) -> None:
        """End it, whatever it is at; what it has not published is not missed."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate()

    def running(self) -> bool:
        """Whether it is still at it."""
        return self._process.poll() is None

    def result(self) -> dict[str, Any]:
        """What it printed; waits for its end. A refusal of the gate is a result, a failure is not."""
        output, errors = self._process.communicate()
        try:
            told: dict[str, Any] = msgspec.json.decode(output)
        except msgspec.DecodeError:
            raise DemoFailed(f"penchant train failed:\n{errors.decode()[-2_000:]}") from None
        return told
