"""Cuts connections to PostgreSQL that do not answer in time: its client itself would wait for good."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection

_LOOK_S = 0.25


class Watch:
    """Ends what goes on over a connection for longer than `seconds`; whoever waits gets an error of the network.

    The server's own `statement_timeout` is of no use where the server hangs, and TCP notices only a machine that is
    gone. One thread watches all connections, started with the first of them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._busy: dict[int, tuple[float, Connection]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, db: Connection) -> Iterator[None]:
        """Watch what happens inside."""
        with self._lock:
            self._busy[id(db)] = (time.monotonic() + self._seconds, db)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="postgres-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._busy.pop(id(db), None)

    def close(self) -> None:
        """Watch no longer."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            with self._lock:
                now = time.monotonic()
                for until, db in self._busy.values():
                    if now > until and not db.closed:
                        _cut(db)


def _cut(db: Connection) -> None:
    """Shut the socket down under the client; the connection itself belongs to the thread that waits on it."""
    with suppress(OSError), socket.socket(fileno=os.dup(db.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
