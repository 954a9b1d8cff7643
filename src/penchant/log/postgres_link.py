"""A few connections to PostgreSQL that come back by themselves."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from penchant.core.backoff import Backoff
from penchant.core.errors import LogUnavailable
from penchant.core.postgres import PostgresServer, one_line
from penchant.log.postgres_watch import Watch

if TYPE_CHECKING:
    from psycopg import Connection

_STALE_S = 1.0
"""A connection that was idle for longer is asked whether it still is one."""


class PostgresLink:
    """At most `size` connections, in autocommit mode. Safe for several threads.

    Nothing is connected before the first call, so that a service may start before its server. `prepare` is called
    with every new connection. A server that hangs costs a call about `timeout_ms`; one that is away is not tried again
    before a while that grows with every failure, and until then calls fail at once. Whatever the server or the
    network refuses is raised as `LogUnavailable`.
    """

    def __init__(
        self,
        url: str,
        *,
        prepare: Callable[[Connection], None],
        rng: random.Random,
        size: int = 4,
        timeout_ms: int = 5_000,
        setting: str = "[outbox] url",
    ) -> None:
        self._server = PostgresServer(url, setting=setting, timeout_ms=timeout_ms, unavailable=LogUnavailable)
        self._prepare = prepare
        self._timeout_ms = timeout_ms
        self._watch = Watch(1.5 * timeout_ms / 1_000)
        self._free = threading.Semaphore(size)
        self._idle: deque[tuple[float, Connection]] = deque()
        self._lock = threading.Lock()
        self._backoff = Backoff(rng, first=0.05, cap=5.0)
        self._not_before = 0.0
        self._why = ""
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """One of the connections; it is given back, or closed if anything went wrong."""
        if not self._free.acquire(timeout=self._timeout_ms / 1_000):
            raise LogUnavailable(f"{self._server.shown}: all connections are busy")
        try:
            with self._server.told():
                db = self._take()
                try:
                    with self._watch.over(db):
                        yield db
                except BaseException:
                    db.close()
                    raise
                self._give(db)
        finally:
            self._free.release()

    def locked(self, key: int) -> Connection | None:
        """A connection of the caller's own that holds an advisory lock until it is closed; None while another does."""
        with self._server.told():
            db = self._connect()
            try:
                with self._watch.over(db):
                    taken = db.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            except BaseException:
                db.close()
                raise
            if taken is not None and taken[0]:
                return db
            db.close()
            return None

    def alive(self, db: Connection) -> bool:
        """Whether a connection still is one; closed if not."""
        try:
            with self._watch.over(db):
                db.execute("SELECT 1")
        except self._server.Error:
            db.close()
            return False
        return True

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._closed = True
        self._drop_idle()
        self._watch.close()

    def _take(self) -> Connection:
        while True:
            try:
                since, db = self._idle.pop()
            except IndexError:
                return self._connect()
            if time.monotonic() - since < _STALE_S or self.alive(db):
                return db
            self._drop_idle()

    def _give(self, db: Connection) -> None:
        if self._closed or db.closed:
            db.close()
        else:
            self._idle.append((time.monotonic(), db))

    def _drop_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop()[1].close()

    def _connect(self) -> Connection:
        with self._lock:
            if time.monotonic() < self._not_before:
                raise LogUnavailable(f"{self._server.shown}: {self._why}")
        try:
            db = self._server.connect("penchant outbox")
            try:
                with self._watch.over(db):
                    db.execute(
                        "SELECT set_config('statement_timeout', %s, false),"
                        " set_config('idle_in_transaction_session_timeout', %s, false)",
                        (str(self._timeout_ms), str(2 * self._timeout_ms)),
                    )
                    self._prepare(db)
            except BaseException:
                db.close()
                raise
        except self._server.Error as error:
            with self._lock:
                self._why = one_line(error)
                self._not_before = time.monotonic() + self._backoff.next()
            raise
        with self._lock:
            self._backoff.reset()
            self._not_before = 0.0
        return db
