"""The tables of the durable copy in PostgreSQL, brought to the version of this release, and connections to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from penchant.core.errors import StateUnavailable
from penchant.core.postgres import PostgresServer, migrate

if TYPE_CHECKING:
    from psycopg import Connection


class Tables:
    """Connections to the tables, in autocommit mode; connects and migrates at the first call. Safe for several threads.

    Raises `SettingsError` for a URL that cannot be used, and `StateUnavailable` for whatever server or network refuse.
    """

    def __init__(self, url: str, *, timeout_ms: int, setting: str) -> None:
        self._server = PostgresServer(url, setting=setting, timeout_ms=timeout_ms, unavailable=StateUnavailable)
        self._timeout_ms = timeout_ms
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._migrated = False
        self._closed = False
        self.told = self._server.told

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to use and give back; it is closed if anything went wrong."""
        db = self.take()
        try:
            with self.told():
                yield db
        except BaseException:
            db.close()
            raise
        self.give(db)

    def take(self) -> Connection:
        """A connection of the caller's own until it is given back or closed."""
        with self.told():
            while True:
                try:
                    db = self._idle.pop()
                except IndexError:
                    return self._connect()
                try:
                    db.execute("SELECT 1")  # the server may have been restarted since
                    return db
                except self._server.Error:
                    db.close()

    def give(self, db: Connection) -> None:
        """Give a connection back."""
        if self._closed or db.closed:
            db.close()
        else:
            self._idle.append(db)

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self) -> Connection:
        db = self._server.connect("penchant copy")
        try:
            db.execute("SELECT set_config('statement_timeout', %s, false)", (str(self._timeout_ms),))
            with self._lock:
                if not self._migrated:
                    migrate(db, "copy", "penchant.stores")
                    self._migrated = True
        except BaseException:
            db.close()
            raise
        return db
