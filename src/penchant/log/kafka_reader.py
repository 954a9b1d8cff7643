"""Reads partitions of Kafka from anywhere, outside of any group."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from penchant.core.errors import Forgotten, LogUnavailable
from penchant.core.log import START
from penchant.core.partitions import Message, Partition
from penchant.log.kafka import Driver, KafkaAddress, driver, to_message, unavailable

T = TypeVar("T")

_IDLE = 4
_AGAIN_S = 0.05
_FRESH_S = 2.0
"""A consumer that stands where a read goes on holds messages fetched ahead; older ones may be of a log since lost."""


@dataclass(slots=True)
class _Place:
    """A consumer, and the position that it would go on after."""

    consumer: Driver
    partition: Partition | None = None
    after: int = START
    left_at: float = 0.0


class KafkaPartitionReader:
    """A `PartitionReader` of Kafka or Redpanda. Safe to call from several threads.

    Consumers are kept between reads: one that reads on where it stopped has the next messages already. Without
    `deeds`, whose messages are large, it passes over them and decodes none.
    """

    def __init__(self, address: KafkaAddress, *, deeds: bool = True, timeout: float = 10.0) -> None:
        self._address = address
        self._deeds = deeds
        self._timeout = timeout
        self._driver = driver()
        self._lock = threading.Lock()
        self._idle: list[_Place] = []
        self._admin: Driver | None = None
        self._closed = False

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Message]:
        """Up to `limit` messages with position > `after`, in order; raises `LogUnavailable` and `Forgotten`."""
        with self._standing(partition, after) as place:
            low, high = self._bounds(place.consumer, partition)
            if after < low:
                raise Forgotten(f"{partition} is kept from position {low + 1} on only, not from {after + 1}", low)
            if after >= high or limit <= 0:
                return []
            return self._fetch(place, partition, after, high, limit)

    def end(self, partition: Partition) -> int:
        """The last position, `START` when nothing was ever sent."""
        with self._standing(None, START) as place:
            return self._bounds(place.consumer, partition)[1]

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The last positions, by one request to each broker concerned."""
        kafka, admins = self._driver, driver("confluent_kafka.admin")
        with self._lock:
            self._admin = self._admin or admins.AdminClient(self._address.client())
        wanted = {
            kafka.TopicPartition(self._address.topic(partition.side), partition.number): admins.OffsetSpec.latest()
            for partition in partitions
        }
        admin = self._admin

        def ask(timeout: float) -> dict[Partition, int]:
            found = admin.list_offsets(wanted, request_timeout=timeout)
            return {
                self._address.partition(asked.topic, asked.partition): result.result(timeout).offset
                for asked, result in found.items()
            }

        try:
            return self._patiently(ask) if wanted else {}
        except (kafka.KafkaException, TimeoutError) as error:
            raise unavailable("the ends of the log", error) from error

    def close(self) -> None:
        """Let go of the consumers."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for place in idle:
            place.consumer.close()

    @contextmanager
    def _standing(self, partition: Partition | None, after: int) -> Iterator[_Place]:
        place = self._take(partition, after)
        good = False
        try:
            yield place
            good = True
        except Forgotten:
            good = True
            raise
        except self._driver.KafkaException as error:
            raise unavailable(f"{self._address.brokers} cannot be read", error) from error
        finally:
            place.left_at = time.monotonic()
            with self._lock:
                keep = good and not self._closed and len(self._idle) < _IDLE
                if keep:
                    self._idle.append(place)
            if not keep:
                place.consumer.close()

    def _take(self, partition: Partition | None, after: int) -> _Place:
        with self._lock:
            for place in self._idle:
                if place.partition == partition and place.after == after:
                    self._idle.remove(place)
                    return place
            if self._idle:
                return self._idle.pop(0)
        settings = self._address.client(
            **{
                "group.id": "penchant-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
                "queued.max.messages.kbytes": 8_192,
                "fetch.queue.backoff.ms": 20,
            }
        )
        return _Place(self._driver.Consumer(settings))

    def _bounds(self, consumer: Driver, partition: Partition) -> tuple[int, int]:
        at = self._at(partition)
        found: tuple[int, int] | None = self._patiently(
            lambda timeout: consumer.get_watermark_offsets(at, timeout=timeout)
        )
        if found is None:
            raise LogUnavailable(f"{self._address.brokers} did not say what {partition} keeps")
        return found

    def _patiently(self, ask: Callable[[float], T]) -> T:
        """Ask again while a partition moves to another broker, or was just created."""
        errors = self._driver.KafkaError
        moving = {errors.NOT_LEADER_FOR_PARTITION, errors.LEADER_NOT_AVAILABLE}
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return ask(max(0.1, deadline - time.monotonic()))
            except self._driver.KafkaException as error:
                if error.args[0].code() not in moving or time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_S)

    def _at(self, partition: Partition, after: int = START) -> Driver:
        # A position is the offset of its message + 1, so the next message is at the offset `after`.
        at: Driver = self._driver.TopicPartition(self._address.topic(partition.side), partition.number, after)
        return at

    def _fetch(self, place: _Place, partition: Partition, after: int, high: int, limit: int) -> list[Message]:
        consumer, end_code = place.consumer, self._driver.KafkaError._PARTITION_EOF
        stands = place.partition == partition and place.after == after
        if not stands or time.monotonic() - place.left_at > _FRESH_S:
            consumer.assign([self._at(partition, after)])
        place.partition, place.after = partition, after
        messages: list[Message] = []
        deadline = time.monotonic() + self._timeout
        while len(messages) < limit and place.after < high:
            message = consumer.poll(0.2)
            if message is None:
                if time.monotonic() > deadline:
                    raise LogUnavailable(f"{self._address.brokers} sent nothing of {partition} for too long")
                continue
            error = message.error()
            if error is None:
                place.after = message.offset() + 1
                ours = to_message(self._address, message, deeds=self._deeds)
                if ours is not None:
                    messages.append(ours)
            elif error.code() == end_code:
                # What is left up to the end are markers of transactions.
                if message.offset() >= high:
                    place.after = high
            elif error.code() == self._driver.KafkaError._AUTO_OFFSET_RESET:
                raise Forgotten(f"{partition} is no longer kept from position {after + 1} on")
            elif not error.retriable() and time.monotonic() > deadline:
                raise unavailable(f"{partition} cannot be read", error)
        return messages
