"""Talking to Redis: one server or a cluster; commands go out together and are answered in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from penchant.core.errors import SettingsError, StateUnavailable
from penchant.core.extras import library
from penchant.settings import without_password

Command = tuple[object, ...]
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}


class Link:
    """Connections to one Redis or Valkey, or to each node of a cluster. Safe for several threads.

    Nothing is connected before the first call, so that a service may start before its Redis. Nothing is retried: a call
    takes at most about `timeout_ms` per server asked. Raises `SettingsError` for a URL that cannot be used.
    """

    def __init__(self, url: str, *, timeout_ms: int, setting: str = "[state] url") -> None:
        self._redis = library("redis", extra="redis", of="a state in Redis")
        self._pack = _packer()
        self._url = checked(url, setting)
        parts = urlsplit(url)
        self.shown = f"{parts.scheme}://{parts.hostname or parts.path}" + (f":{parts.port}" if parts.port else "")
        """The URL without its password."""
        retry = self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0)
        seconds = timeout_ms / 1_000
        self._how = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "protocol": 2, "retry": retry}
        self._lock = threading.Lock()
        self._single: Any = None
        self._cluster: Any = None
        self._stale = False

    def call(self, key: bytes, *command: object) -> Any:
        """The answer to one command about a key; an error that the server answers is raised as `StateUnavailable`."""
        (answer,) = self.calls([(key, command)])
        return self.good(answer)

    def calls(self, commands: Sequence[tuple[bytes, Command]]) -> list[Any]:
        """The answers in order; each command goes to the server of its key. Errors of servers stand among the answers.

        Raises `StateUnavailable` when a server cannot be reached or does not answer in time; what was sent may have
        been done.
        """
        with self._known():
            if self._cluster is None:
                return self._exchange(self._single.connection_pool, [command for _, command in commands])
            return self._spread(commands)

    def good(self, answer: Any) -> Any:
        """An answer that is no error."""
        if isinstance(answer, self._redis.exceptions.OutOfMemoryError):
            raise StateUnavailable(f"{self.shown} is full: give it more memory (maxmemory)") from answer
        if isinstance(answer, self._redis.exceptions.RedisError):
            raise StateUnavailable(f"{self.shown}: {answer}") from answer
        return answer

    def is_unknown_script(self, answer: Any) -> bool:
        """Whether the server answers that it has never seen the script."""
        return isinstance(answer, self._redis.exceptions.NoScriptError)

    def servers(self) -> list[Callable[..., Any]]:
        """A function that asks one server, for each that holds keys of its own."""
        with self._known():
            if self._cluster is None:
                pools = [self._single.connection_pool]
            else:
                pools = [self._pool(node) for node in self._cluster.get_primaries()]
        return [self._asking(pool) for pool in pools]

    def server_of(self, key: bytes) -> Callable[..., Any]:
        """A function that asks the server of a key."""
        with self._known():
            if self._cluster is None:
                return self._asking(self._single.connection_pool)
            return self._asking(self._pool(self._cluster.get_node_from_key(key)))

    def close(self) -> None:
        """Give the connections back; a later call connects anew."""
        with self._lock:
            for client in (self._single, self._cluster):
                if client is not None:
                    client.close()
            self._single = self._cluster = None

    def _asking(self, pool: Any) -> Callable[..., Any]:
        def ask(*command: object) -> Any:
            with self._known():
                (answer,) = self._exchange(pool, [command])
            return self.good(answer)

        return ask

    @contextmanager
    def _known(self) -> Iterator[None]:
        """Connected, with what fails on the way as `StateUnavailable`."""
        errors = self._redis.exceptions
        try:
            if self._single is None:
                self._connect()
            elif self._stale and self._cluster is not None:
                self._cluster.nodes_manager.initialize()
                self._stale = False
            yield
        except (errors.RedisError, OSError) as error:
            self._stale = True
            raise StateUnavailable(f"{self.shown} does not answer: {error}") from error

    def _connect(self) -> None:
        single = self._redis.Redis.from_url(self._url, **self._how)
        cluster = None
        try:
            if single.info("cluster").get("cluster_enabled"):
                cluster = self._redis.RedisCluster.from_url(self._url, **self._how)
        except BaseException:
            single.close()
            raise
        with self._lock:
            if self._single is None:
                self._single, self._cluster, self._stale = single, cluster, False
                return
        single.close()  # another thread was first
        if cluster is not None:
            cluster.close()

    def _exchange(self, pool: Any, commands: Sequence[Command]) -> list[Any]:
        connection = pool.get_connection()
        answers = []
        try:
            connection.send_packed_command(self._packed(connection, commands))
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except self._redis.exceptions.ResponseError as error:
                    answers.append(error)
        except BaseException:
            connection.disconnect()  # answers may still be on their way: nobody else must read them
            raise
        finally:
            pool.release(connection)
        return answers

    def _packed(self, connection: Any, commands: Sequence[Command]) -> list[bytes]:
        """What goes over the wire; hiredis packs several times faster than redis-py around it."""
        if self._pack is None:
            packed: list[bytes] = connection.pack_commands(commands)
            return packed
        return [b"".join([self._pack(command) for command in commands])]

    def _spread(self, commands: Sequence[tuple[bytes, Command]]) -> list[Any]:
        """To each node what is for its keys; what has moved meanwhile is asked again where it is now."""
        errors = self._redis.exceptions
        by_node: dict[str, tuple[Any, list[int]]] = {}
        for place, (key, _) in enumerate(commands):
            node = self._cluster.get_node_from_key(key)
            by_node.setdefault(node.name, (node, []))[1].append(place)
        answers: list[Any] = [None] * len(commands)
        for node, places in by_node.values():
            found = self._exchange(self._pool(node), [commands[place][1] for place in places])
            for place, answer in zip(places, found, strict=True):
                moved = isinstance(answer, (errors.MovedError, errors.AskError))
                self._stale = self._stale or moved
                answers[place] = self._redirected(commands[place][1]) if moved else answer
        return answers

    def _redirected(self, command: Command) -> Any:
        try:
            return self._cluster.execute_command(*command)
        except self._redis.exceptions.NoScriptError as error:
            return error

    def _pool(self, node: Any) -> Any:
        return self._cluster.get_redis_connection(node).connection_pool


def checked(url: str, setting: str) -> str:
    """The URL as redis-py takes it; raises `SettingsError` that names the setting."""
    scheme, colon, rest = url.partition("://")
    wrong = f"{setting} = {without_password(url)!r} is not the URL of a Redis: write it as 'redis://HOST:PORT/0'"
    if not colon or scheme not in _SCHEMES:
        raise SettingsError(wrong)
    try:
        parts = urlsplit(url)
        usable = parts.port != 0  # raises when it is no number
    except ValueError as error:
        raise SettingsError(wrong) from error
    path = parts.path.strip("/")
    if scheme != "unix" and (not usable or not parts.hostname or (path and not path.isdigit())):
        raise SettingsError(wrong)
    return f"{_SCHEMES[scheme]}://{rest}"


def _packer() -> Callable[[Command], bytes] | None:
    """Packs a command; None where hiredis is not installed or too old for it."""
    try:
        from hiredis import pack_command
    except ImportError:
        return None
    packer: Any = pack_command
    return cast("Callable[[Command], bytes]", packer)
