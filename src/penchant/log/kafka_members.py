"""Whether anybody is in a consumer group of Kafka."""

from __future__ import annotations

from penchant.log.kafka import KafkaAddress, driver, unavailable


def has_members(address: KafkaAddress, group: str, timeout: float = 5.0) -> bool:
    """Whether the group has members, as the brokers know: one that was killed counts until its session ends.

    Works for groups of the classic protocol and of Kafka 4's. Raises `LogUnavailable`.
    """
    kafka = driver()
    admin = driver("confluent_kafka.admin").AdminClient(address.client())
    try:
        found = admin.list_consumer_groups(request_timeout=timeout).result(timeout + 1)
    except (kafka.KafkaException, TimeoutError) as error:
        raise unavailable(f"the groups of {address.brokers}", error) from error
    nobody = (kafka.ConsumerGroupState.EMPTY, kafka.ConsumerGroupState.DEAD)
    return any(one.group_id == group and one.state not in nobody for one in found.valid)
