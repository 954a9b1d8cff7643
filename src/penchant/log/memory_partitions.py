"""A broker as lists: its sender, reader and consumer group, with the faults of a real one on demand."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from penchant.core.clock import Clock, Millis
from penchant.core.errors import Forgotten, LogUnavailable
from penchant.core.log import START
from penchant.core.partitions import Assigned, Layout, Message, Outgoing, Partition, Revoked
from penchant.telemetry import REBALANCES


@dataclass(slots=True)
class Faults:
    """How often (0 to 1) what goes wrong; all decided by `rng`. May be changed at any time.

    `fail`: a send raises after any number of its messages came through. `duplicate`: a message is kept twice. `gap`: a
    position is passed over. `delay`: a poll brings nothing, or only a part. `redeliver`: a poll starts again up to
    `back` positions earlier.
    """

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    fail: float = 0.0
    duplicate: float = 0.0
    gap: float = 0.0
    delay: float = 0.0
    redeliver: float = 0.0
    back: int = 20

    def strike(self, chance: float) -> bool:
        """Whether it happens this time."""
        return chance > 0 and self.rng.random() < chance


class _Kept:
    """What a partition has: messages by position, the positions it forgot and the last it gave."""

    __slots__ = ("end", "forgotten", "messages")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.forgotten = START
        self.end = START

    def after(self, position: int, limit: int) -> list[Message]:
        low, high = 0, len(self.messages)
        while low < high:
            middle = (low + high) // 2
            if self.messages[middle].position <= position:
                low = middle + 1
            else:
                high = middle
        return self.messages[low : low + limit]


class MemoryBroker:
    """All partitions in memory. Safe to call from several threads.

    >>> from penchant.core.clock import ManualClock
    >>> broker = MemoryBroker(Layout(users=2, items=1), ManualClock(7))
    >>> broker.reader().end(Partition("users", 1))
    0
    """

    def __init__(self, layout: Layout, clock: Clock, faults: Faults | None = None) -> None:
        self.layout = layout
        self.faults = faults or Faults()
        self.news = threading.Condition(threading.RLock())
        self._clock = clock
        self._kept = {partition: _Kept() for partition in layout.all()}
        self._members: list[MemoryMembership] = []
        self._owners: dict[Partition, MemoryMembership] = {}
        self._up = True
        self._last: Millis = 0

    def sender(self) -> MemorySender:
        """Something to send with."""
        return MemorySender(self)

    def reader(self) -> MemoryPartitionReader:
        """Something to read any partition with."""
        return MemoryPartitionReader(self)

    def join(self, assigned: Assigned, revoked: Revoked) -> MemoryMembership:
        """One more member of the consumer group; the others give partitions up when they poll next."""
        member = MemoryMembership(self, assigned, revoked)
        with self.news:
            self._members.append(member)
            self.news.notify_all()
        return member

    def down(self) -> None:
        """From now on nobody is answered."""
        self._up = False

    def up(self) -> None:
        """Answer again; nothing was lost."""
        with self.news:
            self._up = True
            self.news.notify_all()

    def forget(self, partition: Partition, upto: int) -> None:
        """Drop the messages at or before `upto`, as retention does."""
        with self.news:
            kept = self._kept[partition]
            kept.forgotten = max(kept.forgotten, min(upto, kept.end))
            kept.messages = [message for message in kept.messages if message.position > upto]

    def lose(self, partition: Partition, after: int) -> None:
        """Lose the messages past `after`, as a broker put back to an older copy does; positions are given again."""
        with self.news:
            kept = self._kept[partition]
            kept.messages = [message for message in kept.messages if message.position <= after]
            kept.end = min(kept.end, after)
            kept.forgotten = min(kept.forgotten, kept.end)

    def expel(self, member: MemoryMembership) -> None:
        """Take a member's partitions without asking it, as when it is thought dead; it hears of it when it polls."""
        with self.news:
            self._members = [other for other in self._members if other is not member]
            self._owners = {partition: owner for partition, owner in self._owners.items() if owner is not member}
            self.news.notify_all()

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self._up

    def check(self) -> None:
        """Raise `LogUnavailable` while the broker is down."""
        if not self._up:
            raise LogUnavailable("the broker is down")

    def append(self, outgoing: Outgoing) -> None:
        """Keep a message; the caller holds `news`."""
        kept = self._kept[outgoing.partition]
        self._last = max(self._last, self._clock.now())
        for _ in range(2 if self.faults.strike(self.faults.duplicate) else 1):
            kept.end += 2 if self.faults.strike(self.faults.gap) else 1
            kept.messages.append(
                Message(
                    outgoing.partition,
                    kept.end,
                    self._last,
                    outgoing.source,
                    outgoing.place,
                    outgoing.event_id,
                    outgoing.body,
                )
            )

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Message]:
        """As `PartitionReader.read`."""
        with self.news:
            self.check()
            kept = self._kept[partition]
            if after < kept.forgotten:
                first = kept.forgotten + 1
                raise Forgotten(f"{partition} is kept from position {first} on only, not from {after + 1}", first - 1)
            return kept.after(after, limit)

    def end(self, partition: Partition) -> int:
        """As `PartitionReader.end`."""
        self.check()
        return self._kept[partition].end

    def in_range(self, partition: Partition, after: int) -> bool:
        """Whether a member can go on after `after`."""
        kept = self._kept[partition]
        return kept.forgotten <= after <= kept.end

    def share(self, member: MemoryMembership) -> tuple[set[Partition], set[Partition]]:
        """`(keeps, may take)` of a member: those it owns for good, and those it is to have that nobody owns."""
        with self.news:
            if member not in self._members:
                self._members.append(member)
            index, count = self._members.index(member), len(self._members)
            mine = set(self.layout.all()[index::count])
            owned = {partition for partition, owner in self._owners.items() if owner is member}
            return mine & owned, mine - self._owners.keys()

    def own(self, member: MemoryMembership, partitions: Iterable[Partition], *, yes: bool) -> None:
        """Hand partitions to a member, or take back those that it has."""
        with self.news:
            for partition in partitions:
                if yes:
                    self._owners[partition] = member
                elif self._owners.get(partition) is member:
                    del self._owners[partition]
            self.news.notify_all()

    def leave(self, member: MemoryMembership) -> None:
        """The member is gone."""
        self.expel(member)


class MemorySender:
    """A `Sender` of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Keep the messages; raises `LogUnavailable` having kept any number of them from the first on."""
        broker, faults = self._broker, self._broker.faults
        with broker.news:
            broker.check()
            failing = faults.strike(faults.fail)
            for message in messages[: faults.rng.randint(0, len(messages))] if failing else messages:
                broker.append(message)
            broker.news.notify_all()
            if failing:
                raise LogUnavailable("the broker did not answer")

    def close(self) -> None:
        """Nothing to give back."""


class MemoryPartitionReader:
    """A `PartitionReader` of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Message]:
        """Up to `limit` messages with position > `after`, in order."""
        return self._broker.read(partition, after, limit)

    def end(self, partition: Partition) -> int:
        """The last position."""
        return self._broker.end(partition)

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The last positions."""
        return {partition: self._broker.end(partition) for partition in partitions}

    def close(self) -> None:
        """Nothing to give back."""


class MemoryMembership:
    """A `Membership` of a `MemoryBroker`. Where its position is out of range, `assigned` is asked again."""

    def __init__(self, broker: MemoryBroker, assigned: Assigned, revoked: Revoked) -> None:
        self._broker = broker
        self._assigned = assigned
        self._revoked = revoked
        self._after: dict[Partition, int] = {}
        self._turn = 0

    def poll(self, timeout: float, limit: int) -> Sequence[Message]:
        """The next messages; empty when none came in time or the broker is down. What the callbacks raise is raised."""
        broker = self._broker
        if not broker.is_up:
            return []
        self._rebalance()
        self._mend()
        if broker.faults.strike(broker.faults.delay):
            limit = broker.faults.rng.randint(0, limit)
        if broker.faults.strike(broker.faults.redeliver):
            self._go_back()
        with broker.news:
            messages = self._fetch(limit)
            if not messages and timeout > 0 and limit > 0:
                broker.news.wait(timeout)
                messages = self._fetch(limit)
            return messages

    def seek(self, partition: Partition, after: int) -> None:
        """Go on after another position, if the partition is still this member's."""
        if partition in self._after:
            self._after[partition] = after

    def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The last positions; nothing while the broker is down."""
        return {partition: self._broker.end(partition) for partition in partitions} if self._broker.is_up else {}

    def close(self) -> None:
        """Leave the group; the partitions are given up first."""
        gone = sorted(self._after)
        self._after.clear()
        if gone:
            self._revoked(gone)
        self._broker.leave(self)

    def _rebalance(self) -> None:
        keeps, takes = self._broker.share(self)
        gone = sorted(self._after.keys() - keeps)
        if gone:
            REBALANCES.inc()
            for partition in gone:
                del self._after[partition]
            self._revoked(gone)
            self._broker.own(self, gone, yes=False)
        # Owned without a position: `assigned` could not say one, and is asked again.
        fresh = sorted(takes | (keeps - self._after.keys()))
        if fresh:
            REBALANCES.inc()
            self._broker.own(self, fresh, yes=True)
            self._after.update(self._assigned(fresh))

    def _mend(self) -> None:
        with self._broker.news:
            lost = [p for p, after in self._after.items() if not self._broker.in_range(p, after)]
        if lost:
            for partition in lost:
                del self._after[partition]
            self._revoked(lost)
            self._after.update(self._assigned(lost))

    def _go_back(self) -> None:
        faults = self._broker.faults
        for partition, after in self._after.items():
            earlier = max(START, after - faults.rng.randint(0, faults.back))
            if self._broker.in_range(partition, earlier):
                self._after[partition] = earlier

    def _fetch(self, limit: int) -> list[Message]:
        messages: list[Message] = []
        if not self._broker.is_up:
            return messages
        partitions = sorted(self._after)
        self._turn += 1
        for index in range(len(partitions)):
            if len(messages) >= limit:
                break
            partition = partitions[(index + self._turn) % len(partitions)]
            if not self._broker.in_range(partition, self._after[partition]):
                continue
            some = self._broker.read(partition, self._after[partition], limit - len(messages))
            if some:
                messages += some
                self._after[partition] = some[-1].position
        return messages
