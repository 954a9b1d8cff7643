"""The three services as processes that can be killed, paused and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx


class Service:
    """One `penchant` process; its output goes to a file."""

    def __init__(self, folder: Path, environment: Mapping[str, str], name: str, *arguments: str) -> None:
        self.name = name
        self._output = (folder / f"{name}.log").open("ab")
        self._command = [sys.executable, "-m", "penchant", *arguments, "--dir", str(folder)]
        self._environment = {**os.environ, **environment}
        self.kills = 0
        self.paused = False
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=self._output,
            stderr=self._output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def pause(self) -> None:
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._output.close()
        return self.process.wait()


class Reaper:
    """Kills one of some services every few seconds, in turn, and starts it again at once; not those that are paused."""

    def __init__(self, services: list[Service], every_s: float) -> None:
        self._services = services
        self._every = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._every):
            service = self._services[number % len(self._services)]
            number += 1
            if not service.paused:
                service.kill()
                service.start()


def wait_ready(url: str, within_s: float = 180) -> float:
    """Seconds until `/readyz` says ready."""
    began = time.monotonic()
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).status_code == httpx.codes.OK:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        if time.monotonic() - began > within_s:
            raise SystemExit(f"{url} was not ready within {within_s:.0f} s")
        time.sleep(0.1)


def lag_of(client: httpx.Client) -> tuple[int, int] | None:
    """`(messages in the log not folded, events in the outbox)` as a service says, None when it does not."""
    try:
        told = client.get("/v1/status").json()
        return int(told["lag_events"]), int(told["outbox"]["pending"])
    except (httpx.HTTPError, KeyError, ValueError):
        return None


def reached(client: httpx.Client, token: str) -> bool:
    """Whether a service says that the state has a place."""
    try:
        return bool(client.get("/v1/status", params={"position": token, "wait_ms": 500}).json()["reached"])
    except (httpx.HTTPError, KeyError, ValueError):
        return False
