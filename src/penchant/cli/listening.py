"""The socket that a service listens on, the server on it, and the fold beside several workers."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from penchant.cli.context import err
from penchant.core.errors import PenchantError
from penchant.telemetry import SHARED

_PAUSE_S = 1.0


class CannotListen(PenchantError):
    """The address is not to be had; the text says which and what else to try."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, port 0 for a free one; raises `CannotListen`."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen()
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise _cannot(error, host, port) from None
    return sock


def run(sock: socket.socket, host: str, port: int, workers: int) -> None:
    """Serve until asked to end."""
    options = {
        "factory": True,
        "host": host.strip("[]"),
        "port": port,
        "log_level": "warning",
        "access_log": False,
        "timeout_graceful_shutdown": 10,
        "server_header": False,
    }
    try:
        if workers == 1:
            config = uvicorn.Config("penchant.cli.application:create", **options)  # type: ignore[arg-type]
            config.load()  # before uvicorn takes the signals: whoever ends it while kernels compile need not wait
            uvicorn.Server(config).run(sockets=[sock])
        else:
            sock.close()  # uvicorn binds the one that the workers share
            uvicorn.run("penchant.cli.application:create", workers=workers, **options)  # type: ignore[arg-type]
    except SystemExit as ended:
        if ended.code not in (0, None):
            raise CannotListen("the server could not start; what it printed above says why") from None
        raise


@contextmanager
def counting_together() -> Iterator[None]:
    """Processes started meanwhile count in one folder, so that each of them answers `/metrics` for all."""
    if SHARED in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="penchant-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


class Beside:
    """Another verb in a process of its own: started again should it die, ended with the process that made it.

    Its standard input is a pipe of which only this process has the other end: however this process ends, the pipe
    does, and the other finishes what it has in hand and goes. Ctrl-C reaches this process alone, which ends the other
    last.
    """

    def __init__(self, verb: str, folder: Path) -> None:
        self._verb = verb
        self._folder = folder
        self._stopping = threading.Event()
        self._process = self._start()
        self._watch = threading.Thread(target=self._keep, daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Let it finish what it has in hand, and wait for that."""
        self._stopping.set()
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = [self._verb, "--lifeline", "--dir", str(self._folder)]
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "penchant", *arguments], stdin=subprocess.PIPE, start_new_session=True
        )

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            if self._stopping.wait(_PAUSE_S):
                return
            err.print(f"penchant {self._verb} ended with {code}; it is started again", markup=False)
            self._process = self._start()


def _cannot(error: OSError, host: str, port: int) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return CannotListen(
            f"port {port} on {host} is in use: another penchant? Choose another with --port {port + 1}, "
            "let --port 0 take a free one, or set [server] port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return CannotListen(f"port {port} may not be used by this user; choose one above 1023 with --port")
    return CannotListen(f"cannot listen on {host!r}: {error.strerror or error}; choose an address of this machine")
