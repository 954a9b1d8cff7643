"""Sends to Kafka: an idempotent producer that waits for all, and is thrown away when something may be missing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from penchant.core.errors import LogUnavailable
from penchant.core.partitions import Outgoing, encode_body
from penchant.log.headers import headers_of
from penchant.log.kafka import Driver, KafkaAddress, driver, unavailable

_FULL_S = 0.01


class KafkaSender:
    """A `Sender` to Kafka or Redpanda. For one thread.

    `acks=all` and idempotence keep the order within a partition over retries; `enable.gapless.guarantee` makes the
    producer refuse all that comes after a message it had to give up. A send that is not confirmed within `timeout`
    seconds is given up as a whole: the producer goes with all it still held, the next send starts with a new one, and
    what of the old one is still under way can only arrive as a repetition, as what failed is sent again first.
    """

    def __init__(self, address: KafkaAddress, *, timeout: float = 10.0, linger_ms: float = 2.0) -> None:
        self._address = address
        self._timeout = timeout
        self._linger_ms = linger_ms
        self._driver = driver()
        self._producer: Driver | None = None
        self._failed: Driver | None = None
        self._last: Driver | None = None

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send and wait until all are durable; raises `LogUnavailable` when some may not be."""
        if not messages:
            return
        deadline = time.monotonic() + self._timeout
        try:
            producer = self._producer = self._producer or self._open()
            for message in messages:
                self._produce(producer, message, deadline)
            left = producer.flush(max(0.0, deadline - time.monotonic()))
        except self._driver.KafkaException as error:
            self._give_up()
            raise unavailable(f"{self._address.brokers} did not take a message", error) from error
        except BaseException:
            self._give_up()
            raise
        if self._failed is not None:
            failed = self._failed
            self._give_up()
            raise unavailable(f"{self._address.brokers} did not take a message", failed)
        if left:
            last = self._last
            self._give_up()
            raise unavailable(
                f"{self._address.brokers} did not confirm within {self._timeout:g} s", last or "no answer"
            )

    def close(self) -> None:
        """Let go of the producer; all that `send` confirmed is durable."""
        self._give_up()

    def _open(self) -> Driver:
        settings = self._address.client(
            **{
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "acks": "all",
                "compression.type": "lz4",
                "message.timeout.ms": 0,
                "linger.ms": self._linger_ms,
                "delivery.report.only.error": True,
                "retry.backoff.ms": 50,
            }
        )
        self._failed = self._last = None
        producer: Driver = self._driver.Producer({**settings, "on_delivery": self._reported, "error_cb": self._told})
        return producer

    def _produce(self, producer: Driver, message: Outgoing, deadline: float) -> None:
        topic = self._address.topic(message.partition.side)
        body, key, headers = encode_body(message.body), message.key.encode(), headers_of(message)
        while True:
            try:
                producer.produce(topic, body, key, message.partition.number, headers=headers)
            except BufferError:
                if time.monotonic() > deadline:
                    raise LogUnavailable(f"{self._address.brokers} takes nothing, and the queue is full") from None
                producer.poll(_FULL_S)
            else:
                return

    def _reported(self, error: Driver | None, message: Driver) -> None:
        del message
        if error is not None and self._failed is None:
            self._failed = error

    def _told(self, error: Driver) -> None:
        self._last = error
        if error.fatal() and self._failed is None:
            self._failed = error

    def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(0)
