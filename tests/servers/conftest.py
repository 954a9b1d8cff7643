"""Real servers: each started at most once in a session, when a test first asks, and stopped at its end."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator

import pytest

from penchant.testing.servers import Kafka, Postgres, Redis, RedisCluster

_numbers = itertools.count(1)


def fresh(word: str) -> str:
    """A name that no other test has."""
    return f"{word}_{os.getpid()}_{next(_numbers)}"


@pytest.fixture(scope="session", autouse=True)
def _end_on_sigterm() -> Iterator[None]:
    """Asked to end, pytest goes through its fixtures, so that no server is left behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("asked to end", returncode=143))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A broker without topics; `kafka.bootstrap`, `kafka.topic_url(topic)`."""
    with Kafka() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server; tests take a `database` of their own."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis; tests take `redis_url`, which is empty."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Redis]:
    """A Valkey; tests take `valkey_url`, which is empty."""
    with Redis(flavour="valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Three nodes; tests take `cluster_url`, which is empty."""
    with RedisCluster() as servers:
        yield servers


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A name that is no topic yet; `kafka.create_topic(topic, partitions)` makes it."""
    kafka.start()
    return fresh("t")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database, which is dropped after the test."""
    postgres.start()
    name = fresh("d")
    yield postgres.create_database(name)
    postgres.start()
    postgres.drop_database(name)


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of an empty Redis."""
    return _emptied(redis_server)


@pytest.fixture
def valkey_url(valkey_server: Redis) -> str:
    """The URL of an empty Valkey."""
    return _emptied(valkey_server)


@pytest.fixture
def cluster_url(redis_cluster: RedisCluster) -> str:
    """The URL of an empty cluster."""
    redis_cluster.start()
    for node in redis_cluster.nodes:
        _emptied(node)
    return redis_cluster.url


def _emptied(server: Redis) -> str:
    server.start()  # a test before may have killed it
    server.ask("FLUSHALL")
    server.ask("SCRIPT", "FLUSH")
    return server.url
