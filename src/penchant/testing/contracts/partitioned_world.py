"""A log in partitions put to the test: what can befall it, what is sent to it, a worker that keeps all it gets."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from penchant.core.clock import Millis
from penchant.core.errors import StateUnavailable
from penchant.core.events import Interaction
from penchant.core.log import START
from penchant.core.partitions import (
    Assigned,
    Layout,
    Membership,
    Message,
    Outgoing,
    Partition,
    PartitionReader,
    Revoked,
    Sender,
    Sent,
)

LAYOUT = Layout(users=6, items=2)
PATIENCE_S = 60.0
"""How long something may take that is sure to come: a broker that was killed needs a while."""


class Broker(Protocol):
    """A log of `LAYOUT` with nothing in it, and what can befall it."""

    def sender(self, timeout: float = 10.0) -> Sender: ...

    def reader(self, timeout: float = 10.0) -> PartitionReader: ...

    def join(self, assigned: Assigned, revoked: Revoked) -> Membership: ...

    def forget(self, partition: Partition, upto: int) -> None:
        """Retention: drop what is at or before `upto`."""

    def lose(self) -> None:
        """Everything is gone, and positions begin anew."""

    def down(self) -> None:
        """Nobody is answered, as after `kill -9`."""

    def up(self) -> None:
        """Answers again."""

    def now(self) -> Millis:
        """About the time that the broker gives to messages."""


def click(user: int, row: int, source: str = "outbox-1", *, event_id: str | None = None) -> Outgoing:
    """A click of a person's."""
    user_id = f"user {user}"
    event = Interaction(user_id=user_id, item_id=f"i{row % 7}", action="click", value=row / 3, ts=1_000 + row)
    sent = Sent(event, [{"genre": "rock", "tags": ["a", "é"], "year": 3, "gone": None}])
    return Outgoing(LAYOUT.user(user_id), user_id, source, (row // 100, row), event_id, sent)


def clicks(count: int, start: int = 1) -> list[Outgoing]:
    """Clicks of several people, by row."""
    return [click(row % 23, row) for row in range(start, start + count)]


def told(messages: Sequence[Message]) -> list[tuple[str, tuple[int, int]]]:
    """Where messages come from, in order."""
    return [(message.source, message.place) for message in messages]


def by_partition(outgoing: Sequence[Outgoing]) -> dict[Partition, list[Outgoing]]:
    """What is sent, by where it goes."""
    found: dict[Partition, list[Outgoing]] = defaultdict(list)
    for one in outgoing:
        found[one.partition].append(one)
    return found


def read_all(reader: PartitionReader, partition: Partition, after: int = START, limit: int = 50) -> list[Message]:
    """Everything past a position."""
    messages: list[Message] = []
    while some := reader.read(partition, after, limit):
        assert len(some) <= limit
        assert all(message.position > after for message in some)
        messages += some
        after = some[-1].position
    return messages


def eventually(true: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Worker:
    """A member that folds by the book: what it folded is kept with the fence, in a state that all workers share."""

    def __init__(self, broker: Broker, state: dict[Partition, list[Message]]) -> None:
        self.state = state
        self.mine: set[Partition] = set()
        self.asked: list[Partition] = []
        self.troubles = 0
        self.member = broker.join(self._assigned, self._revoked)

    def _fence(self, partition: Partition) -> int:
        folded = self.state.get(partition)
        return folded[-1].position if folded else START

    def _assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.asked += partitions
        if self.troubles:
            self.troubles -= 1
            raise StateUnavailable("the state is away")
        assert not self.mine & set(partitions)
        self.mine |= set(partitions)
        return {partition: self._fence(partition) for partition in partitions}

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        assert set(partitions) <= self.mine
        self.mine -= set(partitions)

    def step(self, timeout: float = 0.05, limit: int = 40) -> int:
        """Poll once and fold."""
        messages = self.member.poll(timeout, limit)
        assert len(messages) <= limit
        for message in messages:
            assert message.partition in self.mine
            if message.position > self._fence(message.partition):
                self.state.setdefault(message.partition, []).append(message)
        return len(messages)

    def until(self, true: Callable[[], object], what: str, *others: Worker) -> None:
        """Poll, and have others poll, until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, what
            for worker in (self, *others):
                worker.step()
