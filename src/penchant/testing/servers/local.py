"""The servers of a cluster on one machine, for people without containers: data and ports outlast the command."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from penchant.testing.servers.kafka import Kafka
from penchant.testing.servers.ports import free_port, is_free
from penchant.testing.servers.postgres import Postgres
from penchant.testing.servers.process import Process, end_left_over
from penchant.testing.servers.redis import Flavour, Redis

_DATABASE = "penchant"
_TOPIC = "penchant"


class _Remembered(msgspec.Struct):
    """`servers.json`: what a later start has to take up again. A Valkey reads Redis' files, the reverse is refused."""

    flavour: Flavour = "redis"
    ports: dict[str, int] = {}


class LocalServers:
    """Kafka, Redis or Valkey, and PostgreSQL with their data in `folder`/servers: a context manager.

    The ports of the first start are used again unless another program has taken one. Servers that a killed command left
    running are ended first; `progress` is told what is going on. `kafka`, `redis` and `postgres` are there once they
    are started.
    """

    kafka: Kafka
    redis: Redis
    postgres: Postgres

    def __init__(self, folder: Path | str, *, progress: Callable[[str], object] = str) -> None:
        self.folder = Path(folder).resolve() / "servers"
        self._progress = progress
        self._noted = self.folder / "servers.json"
        self._open = ExitStack()

    def missing(self) -> list[str]:
        """Why the servers cannot run here: a sentence each, with what to do; empty when they can."""
        told = [Kafka.missing(), Redis.missing(self._flavour(self._read())), Postgres.missing(self.folder)]
        return [reason for reason in told if reason]

    def start(self) -> Self:
        """Start all three, one after the other.

        Raises `RuntimeError` when one cannot run or start, or when another command runs the servers of this folder.
        """
        reasons = self.missing()
        if reasons:
            raise RuntimeError("\n".join(reasons))
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opening:
            self._lock(opening)
            noted = self._read()
            noted.flavour = self._flavour(noted)
            self.kafka = Kafka(self.folder / "kafka", port=self._port(noted, "kafka"))
            self.redis = Redis(self.folder / "redis", port=self._port(noted, "redis"), flavour=noted.flavour)
            self.postgres = Postgres(self.folder / "postgres", port=self._port(noted, "postgres"))
            self._noted.write_bytes(msgspec.json.encode(noted))
            for server in self.all():
                self._progress(f"starting {server.name} at {server.address}")
                opening.enter_context(server)
            self._make_database()
            self._open = opening.pop_all()
        return self

    def all(self) -> list[Process]:
        """The servers in the order in which they are started."""
        return [self.postgres, self.redis, self.kafka]

    def environment(self) -> dict[str, str]:
        """Penchant's settings for these servers as environment variables."""
        database = self.postgres.database_url(_DATABASE)
        return {
            "PENCHANT_LOG__URL": self.kafka.topic_url(_TOPIC),
            "PENCHANT_OUTBOX__URL": database,
            "PENCHANT_STATE__URL": self.redis.url,
            "PENCHANT_COPY__URL": database,
        }

    def stop(self) -> None:
        """Stop the servers, the last started first; the data stays."""
        self._open.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _lock(self, opening: ExitStack) -> None:
        """Held while the servers run, and let go by the system when the command dies."""
        lock = opening.enter_context((self.folder / "lock").open("wb"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another command runs the servers in {self.folder}") from None

    def _read(self) -> _Remembered:
        try:
            return msgspec.json.decode(self._noted.read_bytes(), type=_Remembered)
        except FileNotFoundError:
            return _Remembered()

    def _flavour(self, noted: _Remembered) -> Flavour:
        """What the data is of, or else what is here: Redis if both are."""
        if noted.ports:
            return noted.flavour
        return "valkey" if Redis.missing("redis") and not Redis.missing("valkey") else "redis"

    def _port(self, noted: _Remembered, name: str) -> int:
        end_left_over(self.folder / name)
        port = noted.ports.get(name)
        if port is None or not is_free(port):
            taken = set(noted.ports.values())
            port = next(other for other in iter(free_port, None) if other not in taken)
            noted.ports[name] = port
        return port

    def _make_database(self) -> None:
        from psycopg import errors

        try:
            self.postgres.create_database(_DATABASE)
        except errors.DuplicateDatabase:
            return
