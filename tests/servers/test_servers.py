"""The harness: every server starts, answers, keeps its data over `kill -9`, and stands still when it is paused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from penchant.testing.servers import Kafka, Postgres, Redis, RedisCluster, free_port
from penchant.testing.servers.ports import ask, is_free


def test_free_ports_are_below_those_of_clients() -> None:
    ports = {free_port(also=10_000) for _ in range(20)}
    assert len(ports) > 15
    assert all(10_000 < port < 50_000 and is_free(port) for port in ports)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.redis
def test_redis(redis_server: Redis, redis_url: str) -> None:
    keeps_data_over_kill(redis_server)


@pytest.mark.valkey
def test_valkey(valkey_server: Redis, valkey_url: str) -> None:
    keeps_data_over_kill(valkey_server)


def keeps_data_over_kill(server: Redis) -> None:
    server.ask("SET", "a", "1")
    time.sleep(1.2)  # the append-only file is synced each second
    port, first = server.port, server.pid
    server.kill()
    assert not server.alive
    assert not is_running(first)
    server.start()
    assert (server.port, server.ask("GET", "a")) == (port, "1")
    server.pause()
    with pytest.raises(TimeoutError):
        ask(server.port, "GET", "a", timeout=0.3)
    server.resume()
    assert server.ask("GET", "a") == "1"


@pytest.mark.parametrize(
    "flavour", [pytest.param("redis", marks=pytest.mark.redis), pytest.param("valkey", marks=pytest.mark.valkey)]
)
def test_redis_goes_back_to_an_older_snapshot(flavour: str) -> None:
    with Redis(flavour=flavour) as server:
        server.ask("SET", "a", "old")
        kept = server.snapshot()
        server.ask("SET", "a", "new")
        server.ask("SET", "b", "new")
        server.kill()
        server.restore(kept)
        assert (server.ask("GET", "a"), server.ask("EXISTS", "b")) == ("old", "0")
        server.ask("SET", "c", "later")
        server.restart()
        assert (server.ask("GET", "a"), server.ask("GET", "c"), server.ask("EXISTS", "b")) == ("old", "later", "0")
        assert server.ask("CONFIG", "GET", "appendonly") != ""
        folder = server.folder
    assert not folder.exists()


@pytest.mark.redis
def test_a_node_of_a_cluster_comes_back(redis_cluster: RedisCluster, cluster_url: str) -> None:
    from redis.cluster import RedisCluster as Client

    client = Client.from_url(cluster_url)
    for number in range(100):
        client.set(f"k{number}", number)
    client.close()
    time.sleep(1.2)
    redis_cluster.nodes[1].kill()
    redis_cluster.nodes[1].start()
    redis_cluster.wait()
    client = Client.from_url(cluster_url)
    assert [client.get(f"k{number}") for number in range(100)] == [b"%d" % number for number in range(100)]
    client.close()


@pytest.mark.pg
def test_postgres(postgres: Postgres, database: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        connection.execute("CREATE TABLE t (a int)")
        connection.execute("INSERT INTO t VALUES (1)")
    first = postgres.pid
    postgres.kill()
    assert not is_running(first)
    postgres.start()
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
        with psycopg.connect(database, autocommit=True) as other:
            backend = other.info.backend_pid
        assert backend != connection.info.backend_pid
    postgres.pause()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database, connect_timeout=2)
    postgres.resume()
    assert postgres.ready()


@pytest.mark.kafka
def test_kafka(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, partitions=3, message_timestamp_type="LogAppendTime")
    with pytest.raises(RuntimeError, match="already exists"):
        kafka.create_topic(topic)
    produce(kafka, topic, 10)
    kafka.kill()
    assert not kafka.ready()
    kafka.start()
    assert consume(kafka, topic, 10) == 10
    kafka.pause()
    assert not kafka.ready()
    kafka.resume()
    deadline = time.monotonic() + 30  # a broker that slept for seconds has its own sessions to renew first
    while not kafka.ready():
        assert time.monotonic() < deadline


def produce(kafka: Kafka, topic: str, count: int) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "log_level": 0})
    for number in range(count):
        producer.produce(topic, value=str(number), partition=number % 3)
    assert producer.flush(30) == 0


def consume(kafka: Kafka, topic: str, count: int) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(3)])
        deadline, seen = time.monotonic() + 30, 0
        while seen < count and time.monotonic() < deadline:
            message = consumer.poll(1)
            seen += message is not None and message.error() is None
        return seen
    finally:
        consumer.close()


@pytest.mark.kafka
def test_kafka_does_not_make_topics_by_itself(kafka: Kafka, topic: str) -> None:
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    client.list_topics(topic, timeout=5)
    assert topic not in client.list_topics(timeout=5).topics


@pytest.mark.redis
def test_a_server_that_was_left_running_is_ended(tmp_path: Path) -> None:
    left = Redis(tmp_path)
    left.start()
    left.ask("SET", "a", "1")
    first = left.pid
    with Redis(tmp_path, port=left.port) as server:
        assert server.pid != first
        assert server.ask("GET", "a") == "1"
    assert not left.alive
    left.stop()


@pytest.mark.redis
def test_a_taken_port_is_no_server(redis_server: Redis, redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="another process has the port"):
        Redis(tmp_path, port=redis_server.port).start()


@pytest.mark.redis
def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exited with"):
        Redis(tmp_path, settings={"no-such-setting": "1"}).start()
