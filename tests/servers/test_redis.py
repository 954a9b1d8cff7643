"""The contracts of state on a real Redis, Valkey and Redis Cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from penchant.core.partitions import Partition
from penchant.core.state import StateStore
from penchant.stores.redis import RedisState
from penchant.testing.contracts.partitioned_state import LAYOUT, PartitionedStateContract
from penchant.testing.contracts.store import StateStoreContract


class _Opened:
    """Opens states that are closed after the test."""

    url: str
    opened: list[RedisState]

    def open(self, folder: Path, fingerprint: str) -> RedisState:
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        state = RedisState(self.url, name=name, fingerprint=fingerprint, layout=LAYOUT)
        self.opened.append(state)
        return state


@pytest.fixture
def _on_redis(request: pytest.FixtureRequest, redis_url: str) -> Iterator[None]:
    yield from _given(request, redis_url)


@pytest.fixture
def _on_valkey(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[None]:
    yield from _given(request, valkey_url)


@pytest.fixture
def _on_cluster(request: pytest.FixtureRequest, cluster_url: str) -> Iterator[None]:
    yield from _given(request, cluster_url)


def _given(request: pytest.FixtureRequest, url: str) -> Iterator[None]:
    request.instance.url, request.instance.opened = url, []
    yield
    for state in request.instance.opened:
        state.close()


class _Store(_Opened, StateStoreContract):
    keeps_views = False
    partition = Partition("items", 2)

    def open_store(self, folder: Path, *, fingerprint: str = "f1") -> StateStore:
        return self.open(folder, fingerprint).partition(self.partition)


class _State(_Opened, PartitionedStateContract):
    def open_state(self, folder: Path, *, fingerprint: str = "f1") -> RedisState:
        return self.open(folder, fingerprint)


@pytest.mark.usefixtures("_on_redis")
class TestStoreInRedis(_Store):
    pass


@pytest.mark.usefixtures("_on_redis")
class TestStoreOfUsersInRedis(_Store):
    partition = Partition("users", 4)


@pytest.mark.usefixtures("_on_valkey")
class TestStoreInValkey(_Store):
    pass


@pytest.mark.usefixtures("_on_cluster")
class TestStoreInRedisCluster(_Store):
    pass


@pytest.mark.usefixtures("_on_redis")
class TestStateInRedis(_State):
    pass


@pytest.mark.usefixtures("_on_valkey")
class TestStateInValkey(_State):
    pass


@pytest.mark.usefixtures("_on_cluster")
class TestStateInRedisCluster(_State):
    pass
