"""What the log in Kafka and its archive do on this machine: printed, and kept in `.figures/kafka.json`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from penchant.core.clock import SystemClock
from penchant.core.errors import LogUnavailable
from penchant.core.partitions import Message, Partition
from penchant.log.archive import Archive
from penchant.log.archive_reader import Archiver
from penchant.log.kafka import KafkaAddress, ensure_topics
from penchant.log.kafka_group import KafkaMembership
from penchant.log.kafka_reader import KafkaPartitionReader
from penchant.log.kafka_sender import KafkaSender
from penchant.testing.contracts.log import LATENESS, SCHEMA
from penchant.testing.contracts.partitioned_world import LAYOUT, Worker, clicks
from penchant.testing.servers import Kafka

pytestmark = pytest.mark.kafka

FIGURES = Path(__file__).resolve().parents[2] / ".figures"
EVENTS = 20_000


def test_rates_latency_and_recovery(kafka: Kafka, topic: str, tmp_path: Path, capsys) -> None:
    address = KafkaAddress.parse(kafka.topic_url(topic))
    ensure_topics(address, LAYOUT)
    sender, reader, state = KafkaSender(address, timeout=2.0), KafkaPartitionReader(address, timeout=2.0), {}
    figures: dict[str, float] = {}

    outgoing = clicks(EVENTS)
    sender.send(outgoing[:1])
    started = time.monotonic()
    for start in range(1, EVENTS, 500):
        sender.send(outgoing[start : start + 500])
    figures["sent per second, 500 at once"] = round(EVENTS / (time.monotonic() - started))

    worker = Worker(Joining(address), state)
    started = time.monotonic()
    worker.until(lambda: bool(state), "the first message")
    figures["seconds to join and have the first message"] = round(time.monotonic() - started, 2)
    started, before = time.monotonic(), count(state)
    while count(state) < EVENTS:
        worker.step(limit=1_000)
    figures["received per second"] = round((EVENTS - before) / (time.monotonic() - started))

    waits = []
    for row in range(200):
        started = time.monotonic()
        sender.send(clicks(1, EVENTS + 1 + row))
        while not worker.step():
            pass
        waits.append(time.monotonic() - started)
    waits.sort()
    figures["sent, confirmed and received, ms p50"] = round(waits[100] * 1_000, 1)
    figures["sent, confirmed and received, ms p99"] = round(waits[198] * 1_000, 1)

    archive = Archive(tmp_path)
    archiver = Archiver(reader, archive, LAYOUT.all(), SystemClock(), schema=SCHEMA, lateness_ms=LATENESS)
    started = time.monotonic()
    while archiver.step():
        pass
    figures["archived per second"] = round((EVENTS + 200) / (time.monotonic() - started))
    archive.compact("9999-12-31")
    files = archive.manifest().files
    figures["archive bytes per event"] = round(sum(file.bytes for file in files) / sum(file.rows for file in files), 1)
    started = time.monotonic()
    read = sum(len(messages) for messages in every(archive))
    figures["read from the archive per second"] = round(read / (time.monotonic() - started))

    kafka.kill()
    assert not worker.step()
    started = time.monotonic()
    kafka.start()
    figures["broker restart after kill -9, seconds"] = round(time.monotonic() - started, 1)
    back = time.monotonic()
    while True:
        try:
            sender.send(clicks(1, EVENTS + 500))
            break
        except LogUnavailable:
            continue
    figures["then until a message is confirmed, seconds"] = round(time.monotonic() - back, 1)
    wanted = EVENTS + 201
    worker.until(lambda: count(state) >= wanted, "the message after the restart")
    figures["then until it is received, seconds"] = round(time.monotonic() - back, 1)
    assert len({m.place for messages in state.values() for m in messages}) == wanted

    worker.member.close()
    sender.close()
    reader.close()
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / "kafka.json").write_text(json.dumps(figures, indent=1) + "\n")
    with capsys.disabled():
        print("\nkafka: " + "; ".join(f"{name} {value:,}" for name, value in figures.items()))


class Joining:
    def __init__(self, address: KafkaAddress) -> None:
        self._address = address

    def join(self, assigned, revoked) -> KafkaMembership:
        return KafkaMembership(self._address, "figures", assigned, revoked)


def count(state: dict[Partition, list[Message]]) -> int:
    return sum(map(len, state.values()))


def every(archive: Archive):
    for partition in LAYOUT.all():
        after = 0
        while messages := archive.read(partition, after, 1_000):
            yield messages
            after = messages[-1].position
