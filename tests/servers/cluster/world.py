"""A small deployment: three services as processes over real servers, and what tests ask of it over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from penchant.testing.servers import free_port

SETTINGS = """
[project]
name = "{name}"

[log]
partitions = 16
item_partitions = 4

[actions]
view = {{ weight = 0.1 }}
click = {{ weight = 1.0 }}
watch = {{ weight = 2.0, value = "seconds", scale = 1 }}
hide = {{ weight = -5.0 }}

[attributes.item]
title = "text"
genres = "tags"
creator = "category"

[attributes.user]
country = "category"

[features.user_genre_watch_7d]
entity = ["user", "genres"]
of = "watch"
agg = "sum"
window = "7d"

[features.user_clicks_1h]
entity = "user"
of = "click"
window = "1h"

[features.item_clicks_1d]
entity = "item"
of = "click"
window = "1d"

[surfaces.home]
sources = [{{ name = "covisit", n = 100 }}, {{ name = "trending", n = 100 }}, {{ name = "fresh", n = 100 }}]
"""
GENRES = ("drama", "crime", "comedy", "western", "noir", "war")
Json = dict[str, Any]


def make_folder(folder: Path, name: str, extra: str = "") -> Path:
    """A folder with the settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penchant.toml").write_text(SETTINGS.format(name=name) + extra, encoding="utf-8")
    return folder


def film(number: int) -> Json:
    return {
        "type": "item",
        "id": f"film-{number}",
        "item_id": f"f{number}",
        "attributes": {
            "title": f"Film {number}",
            "genres": [GENRES[number % 6], GENRES[(number + 1 + number // 6) % 6]],
            "creator": f"maker {number % 17}",
        },
    }


def click(user: str, item: str, action: str = "click", **more: Any) -> Json:
    return {"type": "interaction", "user_id": user, "item_id": item, "action": action, **more}


def until(what: Callable[[], Any], seconds: float = 60.0, pause: float = 0.05) -> Any:
    """What it gives once that is true; fails after a while with the last that it gave."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s, but {found!r}"
        time.sleep(pause)


class Service:
    """One `penchant` process on a port of its own; what it prints goes to a file."""

    def __init__(self, folder: Path, environment: Mapping[str, str], verb: str, name: str = "") -> None:
        self.verb = verb
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=20.0, trust_env=False)
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._output = folder / f"{name or verb}.out"
        self.start()

    def start(self) -> None:
        arguments = [self.verb, "--port", str(self.port), "--dir", str(self._folder)]
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penchant", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """All that it printed."""
        return self._output.read_text(errors="replace")

    def answers(self, path: str) -> int:
        """The status of a GET, 0 while nobody listens."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def alive(self) -> None:
        """Wait until it answers at all."""
        until(lambda: self.answers("/healthz") == httpx.codes.OK or self._ended())

    def ready(self, seconds: float = 90.0) -> None:
        """Wait until it says that it is ready."""
        until(lambda: self.answers("/readyz") == httpx.codes.OK or self._ended(), seconds)

    def missing(self) -> str:
        """What `/readyz` says is missing, "" when nothing is."""
        answer = self.client.get("/readyz")
        return "" if answer.status_code == httpx.codes.OK else str(answer.json()["detail"])

    def stop(self) -> tuple[int, float]:
        """Ask it to end; its exit code and the seconds that it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.client.close()
        return self.process.wait(), time.monotonic() - began

    def _ended(self) -> bool:
        code = self.process.poll()
        assert code is None, f"penchant {self.verb} ended with {code}:\n{self.said()[-3_000:]}"
        return False

    # What applications ask of it.

    def send(self, events: Sequence[Mapping[str, Any]], status: int = httpx.codes.ACCEPTED) -> Json:
        answer = self.client.post("/v1/events", json={"events": list(events)})
        assert answer.status_code == status, answer.text
        told: Json = answer.json()
        return told

    def slate(self, user: str | None, **more: Any) -> Json:
        answer = self.client.post("/v1/recommendations", json={"user_id": user, "n": 10, **more})
        assert answer.status_code == httpx.codes.OK, answer.text
        told: Json = answer.json()
        return told

    def shown(self, user: str | None, **more: Any) -> list[str]:
        """The items of a slate."""
        return [item["item_id"] for item in self.slate(user, **more)["items"]]

    def get(self, path: str, status: int = httpx.codes.OK, **parameters: Any) -> Json:
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == status, answer.text
        told: Json = answer.json()
        return told

    def reaches(self, position: str, wait_ms: int = 10_000) -> None:
        """Wait until state and pictures have a place."""
        assert self.get("/v1/status", position=position, wait_ms=wait_ms)["reached"]


class Cluster:
    """Services of one folder, stopped together."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.services: list[Service] = []

    def service(self, verb: str, name: str = "", folder: Path | None = None, **environment: str) -> Service:
        """Start one."""
        started = Service(folder or self.folder, {**self.environment, **environment}, verb, name)
        self.services.append(started)
        return started

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        for service in self.services:
            if service.process.poll() is None:
                service.process.terminate()
        for service in self.services:
            service.stop()


def verb(
    folder: Path, environment: Mapping[str, str], *arguments: str, code: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "penchant", *arguments, "--dir", str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done


_TRACE = re.compile(r"^Traceback", re.MULTILINE)


def traces(text: str) -> int:
    """How many tracebacks a text has."""
    return len(_TRACE.findall(text))


def chunks(events: Iterable[Json], size: int = 500) -> Iterable[list[Json]]:
    """Batches that one call takes."""
    every = list(events)
    for start in range(0, len(every), size):
        yield every[start : start + size]
