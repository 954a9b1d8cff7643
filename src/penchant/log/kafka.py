"""A log in Kafka or Redpanda: where it is, how it is spoken to, and its two topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from penchant.core.clock import Millis
from penchant.core.errors import LogUnavailable, SettingsError
from penchant.core.extras import library
from penchant.core.partitions import Layout, Message, Partition, Side
from penchant.log.headers import message_of, tells_deeds
from penchant.settings import without_password
from penchant.telemetry import logger

Driver = Any
"""What confluent_kafka gives: it is installed where it is needed only, and its types differ between versions."""
_AGAIN_S = 0.05
_FIND_S = 3.0
"""For so long a broker is looked for: whoever waits for one wants to say so, and to end when told to."""
_LOGGED = 2
"""Of what librdkafka says on stderr, only what is critical: a broker that is away fills the screen otherwise."""


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Brokers, a topic, and options of librdkafka: `kafka://HOST:PORT,HOST:PORT/TOPIC?security.protocol=SSL`.

    >>> address = KafkaAddress.parse("kafka://a:9092,b:9092/events")
    >>> address.brokers, address.topic("users"), address.topic("items")
    ('a:9092,b:9092', 'events', 'events.items')
    """

    brokers: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Passwords may be among them."""

    @classmethod
    def parse(cls, url: str) -> KafkaAddress:
        """The address that a URL names; raises `SettingsError`."""
        scheme, _, rest = url.partition("://")
        path, _, query = rest.partition("?")
        brokers, _, name = path.partition("/")
        if scheme != "kafka" or not brokers or not name or "/" in name:
            shown = without_password(url)
            raise SettingsError(f"[log] url: a log in Kafka is kafka://HOST:PORT,HOST:PORT/TOPIC, not {shown!r}")
        return cls(brokers, name, dict(parse_qsl(query)))

    def topic(self, side: Side) -> str:
        """The topic of the people's partitions, or of the items'."""
        return self.name if side == "users" else f"{self.name}.items"

    def partition(self, topic: str, number: int) -> Partition:
        """Which partition a topic's partition is."""
        return Partition("users" if topic == self.name else "items", number)

    def client(self, **settings: object) -> dict[str, Any]:
        """The settings of a client: quick to come back to a broker that was away, and quiet about it."""
        return {
            "bootstrap.servers": self.brokers,
            "client.id": "penchant",
            "log_level": _LOGGED,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "socket.connection.setup.timeout.ms": 5_000,
            "socket.keepalive.enable": True,
            "topic.metadata.refresh.interval.ms": 10_000,
            **settings,
            **self.options,
        }


def driver(module: str = "confluent_kafka") -> Driver:
    """The driver's module; raises `SettingsError` where it is not installed."""
    return library(module, extra="kafka", of="a log in Kafka")


def unavailable(what: str, error: object) -> LogUnavailable:
    """The error to raise for one of librdkafka's."""
    return LogUnavailable(f"{what}: {error}")


def to_message(address: KafkaAddress, message: Driver, *, deeds: bool = True) -> Message | None:
    """The message as partitions have it; None, and a word in the log, for one that is not ours.

    Without `deeds`, theirs are not decoded and give None.
    """
    headers = message.headers()
    if not deeds and tells_deeds(headers):
        return None
    partition, offset = address.partition(message.topic(), message.partition()), message.offset()
    ours = message_of(partition, offset, message.timestamp()[1], headers, message.value())
    if ours is None:
        logger.warning("%s, offset %d: passed over, it is not a message of Penchant's", partition, offset)
    return ours


def ensure_topics(
    address: KafkaAddress, layout: Layout, *, replicas: int = 1, retention: Millis | None = None, timeout: float = 10.0
) -> None:
    """Create both topics where they are missing, and see that they are as they have to be.

    `retention`: how long brokers keep messages; None: for good. Raises `LogUnavailable` while there is no broker, and
    `SettingsError` when a topic has another number of partitions or takes the times of its producers.
    """
    kafka, admins = driver(), driver("confluent_kafka.admin")
    admin = admins.AdminClient(address.client())
    wanted = {address.topic("users"): layout.users, address.topic("items"): layout.items}
    config = {
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(-1 if retention is None else retention),
        "cleanup.policy": "delete",
    }
    try:
        found = admin.list_topics(timeout=min(timeout, _FIND_S)).topics
        missing = [
            admins.NewTopic(topic, num_partitions=count, replication_factor=replicas, config=config)
            for topic, count in wanted.items()
            if topic not in found
        ]
        if missing:
            for topic, future in admin.create_topics(missing, operation_timeout=timeout).items():
                _created(kafka, topic, future.result)
        _check(admins, admin, wanted, timeout)
    except kafka.KafkaException as error:
        raise unavailable(f"the topics of {address.brokers}", error) from error


def _created(kafka: Driver, topic: str, result: Callable[[], object]) -> None:
    try:
        result()
    except kafka.KafkaException as error:
        # Somebody else created it in the meantime; what it is like is checked next.
        if error.args[0].code() != kafka.KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    else:
        logger.info("created the topic %s", topic)


def _check(admins: Driver, admin: Driver, wanted: Mapping[str, int], timeout: float) -> None:
    for topic, count in wanted.items():
        found = _found(admin, topic, timeout)
        if len(found.partitions) != count:
            raise SettingsError(
                f"the topic {topic} has {len(found.partitions)} partitions, the settings say {count}: "
                "the numbers hold for life; mend [log], or name another topic"
            )
        resource = admins.ConfigResource(admins.ResourceType.TOPIC, topic)
        config = admin.describe_configs([resource], request_timeout=timeout)[resource].result(timeout)
        kind = config["message.timestamp.type"].value
        if kind != "LogAppendTime":
            raise SettingsError(
                f"the topic {topic} has message.timestamp.type={kind}: arrival is told by the broker, "
                f"set it to LogAppendTime (kafka-configs --alter --topic {topic})"
            )


def _found(admin: Driver, topic: str, timeout: float) -> Driver:
    """What the brokers say of a topic; one that was just created takes them a moment."""
    deadline = time.monotonic() + timeout
    while True:
        found = admin.list_topics(topic, timeout=timeout).topics[topic]
        if found.error is None and found.partitions:
            return found
        if time.monotonic() > deadline:
            raise LogUnavailable(f"the topic {topic} is not there yet: {found.error}")
        time.sleep(_AGAIN_S)
