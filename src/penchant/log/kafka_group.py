"""A worker's place in a consumer group of Kafka: which partitions it folds, and their messages as they come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from penchant.core.errors import PenchantError
from penchant.core.log import START
from penchant.core.partitions import Assigned, Message, Partition, Revoked
from penchant.log.kafka import Driver, KafkaAddress, driver, to_message
from penchant.telemetry import REBALANCES, logger

Protocol = Literal["auto", "consumer", "classic"]

_COMMIT_S = 5.0
_ASK_AGAIN_S = 1.0
_ASSIGNOR = "range"
"""Each topic by itself evenly: partitions of items are more work than those of people, and one worker had them all."""
_FETCH_BYTES = 64 << 10
"""Of one partition at a time, some 400 messages of people: a backlog then comes from many partitions by turns and is
folded in few large rounds; with a megabyte of each in turn it is many small ones."""


class KafkaMembership:
    """A `Membership` in a consumer group over both topics. For one thread.

    Where to go on is told by `assigned`, never by the group: the offsets it commits are there for tools that show lag.
    `assigned` is asked again, after `revoked`, for a partition whose position the log does not have (retention went
    past it, or the log lost its end), and for one that it raised for. What the callbacks raise, `poll` raises; a
    broker that is away is no error. `auto` takes the group protocol of Kafka 4 and falls back to the classic one.
    """

    def __init__(
        self,
        address: KafkaAddress,
        group: str,
        assigned: Assigned,
        revoked: Revoked,
        *,
        protocol: Protocol = "auto",
        session_ms: int = 10_000,
        instance: str | None = None,
    ) -> None:
        self._address = address
        self._group = group
        self._assigned = assigned
        self._revoked = revoked
        self._driver = driver()
        self._auto = protocol == "auto"
        self.protocol: Literal["consumer", "classic"] = "classic" if protocol == "classic" else "consumer"
        self._session_ms = session_ms
        self._instance = instance
        self._after: dict[Partition, int] = {}
        self._waiting: dict[Partition, float] = {}
        self._raised: PenchantError | None = None
        self._renew = False
        self._joined = False
        self._told = ""
        self._committed: dict[Partition, int] = {}
        self._commit_at = time.monotonic() + _COMMIT_S
        self._consumer: Driver = None
        self._open()

    def poll(self, timeout: float, limit: int) -> Sequence[Message]:
        """The next messages of the partitions assigned, in order within each; empty when none came in time."""
        self._ask_again()
        self._commit()
        if self._renew:
            self._renew = False
            self._shut()
            self._open()
            self._raise()
        messages: list[Message] = []
        # One is waited for; the others are taken as far as they are here already.
        first = self._consumer.poll(timeout)
        self._raise()
        found = [] if first is None else [first]
        if found and limit > 1:
            found += self._consumer.consume(limit - 1, 0)
            self._raise()
        for one in found:
            if one.error() is not None:
                self._trouble(one)
                continue
            partition = self._address.partition(one.topic(), one.partition())
            after = self._after.get(partition)
            if after is None or one.offset() < after:
                continue
            self._after[partition] = one.offset() + 1
            message = to_message(self._address, one)
            if message is not None:
                messages.append(message)
        return messages

    def seek(self, partition: Partition, after: int) -> None:
        """Go on after another position, if the partition is still this worker's."""
        if partition not in self._after or self._consumer is None:
            return
        self._after[partition] = after
        try:
            self._consumer.seek(self._at(partition, after))
        except self._driver.KafkaException:
            # Just assigned, or out of range before: the fetcher of the partition does not run.
            self._restart(partition, after)

    def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The last positions that the broker told with the messages; those not heard of are missing."""
        ends: dict[Partition, int] = {}
        for partition in partitions:
            if partition in self._after and self._consumer is not None:
                bounds = self._consumer.get_watermark_offsets(self._at(partition), cached=True)
                if bounds is not None and bounds[1] >= 0:
                    ends[partition] = max(bounds[1], self._after[partition])
        return ends

    def close(self) -> None:
        """Leave the group; `revoked` is called for what is left."""
        self._commit_at = 0.0
        self._commit()
        self._shut()
        self._raise()

    def _open(self) -> None:
        # With the protocol of Kafka 4 these are the broker's to say (group.consumer.session.timeout.ms and others).
        classic = {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self._session_ms,
            "heartbeat.interval.ms": self._session_ms // 10,
        }
        settings = self._address.client(
            **{
                "group.id": self._group,
                "group.protocol": self.protocol,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 100,
                "queued.min.messages": 5_000,
                "queued.max.messages.kbytes": 16_384,
                "fetch.message.max.bytes": _FETCH_BYTES,
                **(classic if self.protocol == "classic" else {"group.remote.assignor": _ASSIGNOR}),
                **({"group.instance.id": self._instance} if self._instance else {}),
            }
        )
        self._consumer = self._driver.Consumer({**settings, "error_cb": self._heard})
        self._consumer.subscribe(
            [self._address.topic("users"), self._address.topic("items")],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def _shut(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._drop(list(self._after) + list(self._waiting))

    def _at(self, partition: Partition, after: int = START) -> Driver:
        # A position is the offset of its message + 1, so the next message is at the offset `after`.
        return self._driver.TopicPartition(self._address.topic(partition.side), partition.number, after)

    def _on_assign(self, consumer: Driver, given: Sequence[Driver]) -> None:
        REBALANCES.inc()
        self._joined = True
        partitions = [self._address.partition(one.topic, one.partition) for one in given]
        places = self._ask(partitions)
        known = [self._at(partition, places[partition]) for partition in partitions if partition in places]
        # Owned, but not read before `assigned` says from where.
        unknown = [self._at(partition) for partition in partitions if partition not in places]
        if known or not unknown:
            consumer.incremental_assign(known)
        if unknown:
            consumer.incremental_assign(unknown)
            consumer.pause(unknown)

    def _on_revoke(self, consumer: Driver, taken: Sequence[Driver]) -> None:
        REBALANCES.inc()
        self._drop([self._address.partition(one.topic, one.partition) for one in taken])
        if consumer is not None and taken:
            consumer.incremental_unassign(taken)

    def _ask(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        """Where to go on, as `assigned` says; nothing when it raises, and then it is asked again."""
        places: Mapping[Partition, int] = {}
        try:
            places = self._assigned(partitions) if partitions else {}
        except PenchantError as error:
            self._raised = error
        again = time.monotonic() + _ASK_AGAIN_S
        for partition in partitions:
            if partition in places:
                self._after[partition] = places[partition]
                self._waiting.pop(partition, None)
            else:
                self._waiting[partition] = again
        return places

    def _drop(self, partitions: list[Partition]) -> None:
        had = sorted(partition for partition in set(partitions) if self._after.pop(partition, None) is not None)
        for partition in partitions:
            self._waiting.pop(partition, None)
            self._committed.pop(partition, None)
        try:
            if had:
                self._revoked(had)
        except PenchantError as error:
            self._raised = error

    def _ask_again(self) -> None:
        now = time.monotonic()
        due = sorted(partition for partition, at in self._waiting.items() if at <= now)
        places = self._ask(due)
        for partition in due:
            if partition in places:
                self._restart(partition, places[partition])
        self._raise()

    def _restart(self, partition: Partition, after: int) -> None:
        try:
            self._consumer.incremental_unassign([self._at(partition)])
            self._consumer.incremental_assign([self._at(partition, after)])
            self._consumer.resume([self._at(partition)])
        except self._driver.KafkaException as error:
            logger.warning("%s cannot go on after %d yet: %s", partition, after, error)
            self._drop([partition])
            self._waiting[partition] = time.monotonic() + _ASK_AGAIN_S

    def _trouble(self, one: Driver) -> None:
        error, codes = one.error(), self._driver.KafkaError
        if error.code() == codes._AUTO_OFFSET_RESET and one.topic() is not None:
            partition = self._address.partition(one.topic(), one.partition())
            if partition in self._after:
                logger.warning("%s: the log does not have position %d", partition, self._after[partition] + 1)
                self._drop([partition])
                self._waiting[partition] = time.monotonic()
            return
        self._heard(error)

    def _heard(self, error: Driver) -> None:
        if error.fatal() or error.code() == self._driver.KafkaError._FATAL:
            self._renew = True
            if self._auto and not self._joined and self.protocol == "consumer":
                logger.info("the group protocol of Kafka 4 is not there, the classic one is used: %s", error)
                self.protocol = "classic"
                return
        text = str(error)
        if text != self._told:
            self._told = text
            logger.warning("%s: %s", self._address.brokers, text)

    def _raise(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _commit(self) -> None:
        """Tell the group how far this worker is: what `poll` gave before was dealt with when it is called again."""
        now = time.monotonic()
        if now < self._commit_at or self._consumer is None:
            return
        self._commit_at = now + _COMMIT_S
        offsets = [self._at(p, after) for p, after in self._after.items() if self._committed.get(p) != after]
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except self._driver.KafkaException as error:
                self._told = str(error)
            else:
                self._committed = dict(self._after)
