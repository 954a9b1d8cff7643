"""The log in Kafka, on a broker that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from penchant.core.clock import Millis, SystemClock
from penchant.core.errors import LogUnavailable, SettingsError
from penchant.core.partitions import Assigned, Deeds, Layout, Outgoing, Partition, Revoked
from penchant.log.kafka import KafkaAddress, driver, ensure_topics
from penchant.log.kafka_group import KafkaMembership, Protocol
from penchant.log.kafka_reader import KafkaPartitionReader
from penchant.log.kafka_sender import KafkaSender
from penchant.testing.contracts.partitioned_log import PartitionedLogContract
from penchant.testing.contracts.partitioned_world import LAYOUT, Worker, clicks
from penchant.testing.servers import Kafka, free_port

pytestmark = pytest.mark.kafka


class OnKafka:
    def __init__(self, kafka: Kafka, topic: str, protocol: Protocol) -> None:
        self.address = KafkaAddress.parse(kafka.topic_url(topic))
        self._kafka = kafka
        self._protocol = protocol
        self._admin = driver("confluent_kafka.admin").AdminClient(self.address.client())
        ensure_topics(self.address, LAYOUT)

    def sender(self, timeout: float = 10.0) -> KafkaSender:
        return KafkaSender(self.address, timeout=timeout)

    def reader(self, timeout: float = 10.0) -> KafkaPartitionReader:
        return KafkaPartitionReader(self.address, timeout=timeout)

    def join(self, assigned: Assigned, revoked: Revoked) -> KafkaMembership:
        return KafkaMembership(self.address, self.address.name, assigned, revoked, protocol=self._protocol)

    def forget(self, partition: Partition, upto: int) -> None:
        at = driver().TopicPartition(self.address.topic(partition.side), partition.number, upto)
        self._admin.delete_records([at])[at].result(10)

    def lose(self) -> None:
        for deleted in self._admin.delete_topics([self.address.topic("users"), self.address.topic("items")]).values():
            deleted.result(10)
        deadline = time.monotonic() + 30
        while True:
            try:
                return ensure_topics(self.address, LAYOUT)
            except LogUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def down(self) -> None:
        self._kafka.kill()

    def up(self) -> None:
        self._kafka.start()

    def now(self) -> Millis:
        return SystemClock().now()


class TestKafka(PartitionedLogContract):
    @pytest.fixture(params=["consumer", "classic"])
    def broker(self, kafka: Kafka, topic: str, request: pytest.FixtureRequest) -> Iterator[OnKafka]:
        yield OnKafka(kafka, topic, request.param)
        kafka.start()


def test_topics_are_made_once_and_checked(kafka: Kafka, topic: str) -> None:
    address = KafkaAddress.parse(kafka.topic_url(topic))
    ensure_topics(address, LAYOUT, retention=3_600_000)
    ensure_topics(address, LAYOUT)
    with pytest.raises(SettingsError, match="6 partitions"):
        ensure_topics(address, Layout(users=7, items=2))
    with pytest.raises(SettingsError, match="2 partitions"):
        ensure_topics(address, Layout(users=6, items=3))


def test_a_topic_with_the_times_of_producers_is_refused(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, LAYOUT.users)
    with pytest.raises(SettingsError, match="LogAppendTime"):
        ensure_topics(KafkaAddress.parse(kafka.topic_url(topic)), LAYOUT)


def test_without_a_broker_all_wait_and_go_on_when_it_comes(topic: str, tmp_path) -> None:
    broker = Kafka(tmp_path, port=free_port())
    address = KafkaAddress.parse(broker.topic_url(topic))
    with pytest.raises(LogUnavailable):
        ensure_topics(address, LAYOUT, timeout=0.5)
    sender, state = KafkaSender(address, timeout=0.5), {}
    with pytest.raises(LogUnavailable):
        sender.send(clicks(3))
    worker = Worker(_Joining(address), state)
    assert worker.step() == 0
    with broker:
        assert worker.step() == 0
        ensure_topics(address, LAYOUT)
        sender = KafkaSender(address)
        sender.send(clicks(50))
        worker.until(lambda: sum(map(len, state.values())) == 50, "folded")
        worker.member.close()
        sender.close()


def test_a_broker_without_the_new_group_protocol(topic: str, tmp_path) -> None:
    with Kafka(tmp_path, settings={"group.coordinator.rebalance.protocols": "classic"}) as broker:
        address = KafkaAddress.parse(broker.topic_url(topic))
        ensure_topics(address, LAYOUT)
        state: dict = {}
        worker = Worker(_Joining(address), state)
        sender = KafkaSender(address)
        sender.send(clicks(50))
        worker.until(lambda: sum(map(len, state.values())) == 50, "folded")
        assert worker.member.protocol == "classic"
        worker.member.close()
        sender.close()


class _Joining:
    def __init__(self, address: KafkaAddress) -> None:
        self._address = address

    def join(self, assigned: Assigned, revoked: Revoked) -> KafkaMembership:
        return KafkaMembership(self._address, "workers", assigned, revoked)


def test_messages_of_others_are_passed_over(kafka: Kafka, topic: str) -> None:
    address = KafkaAddress.parse(kafka.topic_url(topic))
    ensure_topics(address, LAYOUT)
    producer = driver().Producer(address.client())
    producer.produce(topic, b"?", partition=1)
    producer.produce(topic, b"?", partition=1, headers=[("kind", b"event"), ("outbox", b"\xff"), ("sequence", b"1.1")])
    assert producer.flush(10) == 0
    sender, reader = KafkaSender(address), KafkaPartitionReader(address)
    ours = [out for out in clicks(100) if out.partition == Partition("users", 1)]
    sender.send(ours)
    assert [m.place for m in reader.read(Partition("users", 1), 0, 100)] == [out.place for out in ours]
    sender.close()
    reader.close()


def test_a_reader_may_pass_over_deeds(kafka: Kafka, topic: str) -> None:
    address, partition = KafkaAddress.parse(kafka.topic_url(topic)), Partition("users", 1)
    ensure_topics(address, LAYOUT)
    sender, reader = KafkaSender(address), KafkaPartitionReader(address, deeds=False)
    events = [out for out in clicks(100) if out.partition == partition]
    deeds = Outgoing(partition, "", "fold", (0, 1), None, Deeds([]))
    sender.send([deeds, *events[:3], deeds, *events[3:], deeds])
    read = reader.read(partition, 0, 3)
    assert [message.place for message in read] == [out.place for out in events[:3]]
    rest = reader.read(partition, read[-1].position, 100)
    assert [message.place for message in rest] == [out.place for out in events[3:]]
    assert reader.read(partition, rest[-1].position, 100) == []
    assert reader.end(partition) == rest[-1].position + 1
    sender.close()
    reader.close()


@pytest.mark.parametrize("url", ["kafka://", "kafka://h:1", "kafka:///topic", "redis://h/1", "kafka://h/a/b"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError, match="kafka://HOST:PORT"):
        KafkaAddress.parse(url)
