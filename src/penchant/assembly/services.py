"""What a process of each role runs, for settings of either kind."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from penchant.assembly.cluster.parts import ClusterParts, is_distributed
from penchant.assembly.embedded import open_folder
from penchant.assembly.parts import Parts, open_parts
from penchant.core.errors import SettingsError
from penchant.serving import wire
from penchant.serving.call import new_request_id
from penchant.serving.ports import EnginePort
from penchant.settings import Settings, load, without_password
from penchant.stream.runner import StreamRunner

_TURN_S = 0.001
"""A thread that asks a server waits for its turn when the answer is there; the interpreter's own are of 5 ms, which the
relay, the fold or a scrape would cost a request several times."""


class Service(EnginePort, Protocol):
    """What answers HTTP until it is closed."""

    def close(self) -> None: ...


class RunningFold(Protocol):
    """What folds until it is stopped."""

    def position(self) -> str: ...

    def run(self, stop: threading.Event) -> None: ...

    def close(self) -> None: ...


def check_role(settings: Settings, role: str) -> None:
    """Raises `SettingsError` where a role does not go with the settings."""
    if role == "up" and is_distributed(settings):
        raise SettingsError(
            f"penchant up runs everything in this folder, but log.url is {without_password(settings.log.url)!r}; start"
            " penchant collect, penchant stream and penchant serve, or all of them here with penchant cluster up"
        )


def check_folder(settings: Settings, verb: str) -> None:
    """Raises `SettingsError` for a verb that needs the log in the folder."""
    if is_distributed(settings):
        raise SettingsError(
            f"penchant {verb} derives slates again from the log in the folder, in its one order; in this version a log "
            "in Kafka has no such order. penchant evaluate judges slates on the archive"
        )


def beside(settings: Settings, role: str, *, alone: bool) -> str:
    """The verb that a service of that role needs in a process beside it, "" for none."""
    if role == "serve" and is_distributed(settings):
        return "pictures"
    # With several workers the fold gets a process of its own, so that no worker's requests wait for it.
    return "stream" if role == "up" and not alone else ""


def open_service(folder: Path, role: str, *, environ: Mapping[str, str] | None = None) -> tuple[Settings, Service]:
    """The service that a worker process of that role is."""
    sys.setswitchinterval(_TURN_S)
    settings = load(folder, environ)
    if not is_distributed(settings):
        return settings, open_folder(folder, settings=settings, fold=role in ("up", "stream"))
    parts = ClusterParts.of(folder, settings)
    if role == "collect":
        from penchant.assembly.cluster.collector import Collector

        return settings, Collector(parts)
    if role == "stream":
        from penchant.assembly.cluster.streaming import Streaming

        return settings, Streaming(parts)
    from penchant.assembly.cluster.server import Server

    return settings, Server(parts)


def open_fold(folder: Path, settings: Settings) -> RunningFold:
    """What `penchant stream` runs without listening."""
    sys.setswitchinterval(_TURN_S)
    if is_distributed(settings):
        from penchant.assembly.cluster.streaming import Folding

        return Folding(ClusterParts.of(folder, settings))
    return _Folding(folder, settings)


def open_past(folder: Path, settings: Settings, tell: Callable[[str, int, int], None]) -> Parts:
    """What can be trained and judged on: the log in the folder, or the archive as one log."""
    if not is_distributed(settings):
        return open_parts(folder, settings)
    from penchant.assembly.cluster.past import archived_parts

    return archived_parts(folder, settings, tell)


def look(folder: Path, settings: Settings, request: wire.Request) -> wire.Answer:
    """One slate from the state as it is, by a request that is not recorded."""
    if not is_distributed(settings):
        with open_folder(folder, settings=settings, background=False) as opened:
            return opened.recommend(request)
    from penchant.assembly.cluster.looking import looking

    with looking(ClusterParts.of(folder, settings)) as engine:
        return engine.recommend(request, new_request_id())


class _Folding:
    """The fold of a folder."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._parts = open_parts(folder, settings)
        self._runner = StreamRunner(self._parts.log, self._parts.store, self._parts.definition.folds())

    def position(self) -> str:
        return f"position {self._parts.store.position()}"

    def run(self, stop: threading.Event) -> None:
        self._runner.run(stop)

    def close(self) -> None:
        self._parts.close()
