"""Private servers for tests: Kafka, PostgreSQL, Redis, Valkey and Redis Cluster on free loopback ports."""

from __future__ import annotations

from penchant.testing.servers.cluster import RedisCluster
from penchant.testing.servers.kafka import Kafka
from penchant.testing.servers.local import LocalServers
from penchant.testing.servers.ports import free_port
from penchant.testing.servers.postgres import Postgres
from penchant.testing.servers.process import Process
from penchant.testing.servers.redis import Redis

__all__ = ["Kafka", "LocalServers", "Postgres", "Process", "Redis", "RedisCluster", "free_port"]
