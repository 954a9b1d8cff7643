"""`penchant cluster`: the three services and the servers they need, on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from penchant.cli.context import Dir, clean, err, folder
from penchant.core.errors import PenchantError
from penchant.settings import load

if TYPE_CHECKING:
    from penchant.testing.servers.process import Process

cluster = typer.Typer(
    help="Run the distributed parts on this machine.\n\n\b\npenchant cluster up --local", no_args_is_help=True
)

_DRAIN_S = 20.0
_PAUSE_S = 1.0


@cluster.command()
@clean
def up(
    dir: Dir = None,
    local: Annotated[bool, typer.Option("--local", help="Start Kafka, Redis and PostgreSQL here as well.")] = False,
    port: Annotated[int, typer.Option(help="Where recommendations are answered.")] = 8080,
    collect_port: Annotated[int, typer.Option(help="Where events are taken.")] = 8081,
    stream_port: Annotated[int, typer.Option(help="Where the first fold says how it is; others take the next.")] = 8082,
    streams: Annotated[int, typer.Option(help="Processes that fold.", min=1, max=64)] = 1,
    workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
) -> None:
    """Start collect, stream and serve, and with --local the servers they need, until stopped.

    \b
    penchant cluster up --local               # needs Kafka, Redis and PostgreSQL on this machine, not Docker
    penchant cluster up --local --streams 2
    penchant cluster up                       # the servers that penchant.toml and the environment name
    """
    from penchant.testing.servers.local import LocalServers

    path = folder(dir)
    environment = dict(os.environ)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    with ExitStack() as stack:
        running: Sequence[Process] = ()
        if local:
            servers = LocalServers(path, progress=_say)
            missing = servers.missing()
            if missing:
                raise PenchantError("; ".join(missing))
            try:
                stack.enter_context(servers)
            except RuntimeError as error:
                raise PenchantError(str(error)) from None
            environment |= servers.environment()
            running = servers.all()
            _say("other verbs find these servers with")
            for key, value in servers.environment().items():
                _say(f"  export {key}={value}")
        load(path, environment)
        services = stack.enter_context(Services(path, environment))
        services.start("collect", "--port", str(collect_port))
        for number in range(streams):
            services.start("stream", "--port", str(stream_port + number))
        services.start("serve", "--port", str(port), "--workers", str(workers))
        _say(
            f"events to http://127.0.0.1:{collect_port}/v1/events, slates from http://127.0.0.1:{port}; Ctrl-C ends all"
        )
        services.watch(stop, running)


class Services:
    """Processes of this program; those that end are started again, all are drained at the end."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = dict(environment)
        self.processes: list[tuple[Sequence[str], subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in reversed(self.processes):
            process.terminate()
        for arguments, process in self.processes:
            try:
                process.wait(_DRAIN_S)
            except subprocess.TimeoutExpired:
                _say(f"{arguments[0]} did not drain within {_DRAIN_S:.0f} s; it is ended")
                process.kill()
                process.wait()

    def start(self, *arguments: str) -> None:
        """Start a verb in the folder."""
        command = [sys.executable, "-m", "penchant", *arguments, "--dir", str(self._path)]
        process = subprocess.Popen(command, env=self._environment, start_new_session=True)  # noqa: S603
        self.processes.append((arguments, process))

    def watch(self, stop: threading.Event, servers: Sequence[Process] = ()) -> None:
        """Until told to stop; `servers` that end are started again with their data."""
        while not stop.wait(_PAUSE_S):
            for server in servers:
                if not server.alive:
                    _say(f"{server.name} at {server.address} ended; it is started again")
                    with suppress(RuntimeError):  # what does not start now may do so in a moment
                        server.start()
            for arguments, process in list(self.processes):
                if process.poll() is not None:
                    _say(f"penchant {arguments[0]} ended with {process.returncode}; it is started again")
                    self.processes.remove((arguments, process))
                    self.start(*arguments)


def _say(text: str) -> None:
    err.print(text, markup=False, soft_wrap=True)
