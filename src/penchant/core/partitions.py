"""A log and a state in many partitions: how they are numbered, what messages carry, what a worker needs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from penchant.core.clock import Millis
from penchant.core.events import AttributeValue, Event
from penchant.core.hashing import hash_id
from penchant.core.state import Key, StateStore

Side = Literal["users", "items"]


class Partition(NamedTuple):
    """One ordered log with one fence: people are spread over those of `users`, items over those of `items`.

    >>> str(Partition("users", 17)), Partition.parse("i003")
    ('u017', Partition(side='items', number=3))
    """

    side: Side
    number: int

    def __str__(self) -> str:
        return f"{self.side[0]}{self.number:03d}"

    @classmethod
    def parse(cls, text: str) -> Partition:
        """The partition that `str` wrote."""
        return cls("users" if text[0] == "u" else "items", int(text[1:]))


@dataclass(frozen=True, slots=True)
class Layout:
    """How many partitions there are; fixed for the life of a deployment."""

    users: int = 256
    items: int = 16

    def user(self, user_id: str) -> Partition:
        """Where everything about a person is."""
        return Partition("users", hash_id(user_id) % self.users)

    def item(self, item_id: str) -> Partition:
        """Where everything about an item is."""
        return Partition("items", hash_id(item_id) % self.items)

    def all(self) -> list[Partition]:
        """Every partition, users first."""
        return [Partition("users", n) for n in range(self.users)] + [Partition("items", n) for n in range(self.items)]


Place = tuple[int, int]
"""Where in its source a message comes from: only grows within a source and a partition. A SQLite outbox counts
`(0, row)`, a PostgreSQL outbox `(transaction, row)`, the fold of a user partition `(position, 0)`."""


class Sent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event as a relay sends it: `ts` is set, and the join with the catalogue is decided for good.

    `attributes`: the category and tags attributes of the items that the event names, in the event's order, as they were
    when it was relayed; empty for events about items and people. `ingested_at`: when an earlier log took it (for
    history that was moved here); 0 where the broker's time counts.
    """

    event: Event
    attributes: list[dict[str, AttributeValue]] = []
    ingested_at: Millis = 0


class Deed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a record of a user partition means for the items of one item partition.

    Made by the fold of the user partition, the same however often it is folded. `position`, `ts` and `ingested_at` are
    those of the record there; `user` is the person's `hash_id` (that of "" for somebody erased) and `attributes` the
    person's category and tags attributes at that position; `action` is "" for an impression; `pairs` are the counts of
    co-visitation to add, in order: an item of this partition and the `hash_id`s of its partners. `visit` is there
    where a sample of sessions is kept: the session of a visit to the one item, and `time << 16 | place` in it.
    """

    position: int
    ts: Millis
    ingested_at: Millis
    verdict: int
    action: str
    q: int
    present: bool
    user: int
    attributes: dict[str, AttributeValue]
    items: list[str]
    pairs: list[tuple[str, list[int]]]
    visit: tuple[int, int] | None = None


class Deeds(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The deeds that one batch of a user partition has for one item partition, by position; never cuts a position."""

    deeds: list[Deed]


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message as a partition has it. Its position is `offset + 1`, so that `START` is before the first.

    `source` and `place` tell resent ones: of a source, a partition counts only what is past the highest place it has
    counted. `event_id` is the client's, if any. For `Deeds`, `place` is that of the last deed.
    """

    partition: Partition
    position: int
    appended_at: Millis
    source: str
    place: Place
    event_id: str | None
    body: Sent | Deeds


class Outgoing(NamedTuple):
    """A message to send."""

    partition: Partition
    key: str
    source: str
    place: Place
    event_id: str | None
    body: Sent | Deeds


class Meta(msgspec.Struct, kw_only=True):
    """What a partition's state says of itself, under `META_KEY`, committed with the fence."""

    clock: Millis = 0
    """The latest arrival folded: never goes back."""
    sources: dict[str, Place] = {}
    """By source, the highest place folded."""
    entities: int = 0
    """How many people (or items) the partition has state of."""
    epoch: int = 0
    """How often a user partition was folded anew because its log had lost messages: a part of its deeds' source, as
    positions are given again then."""
    told: int = 0
    """Deeds at or before this position were sent in an earlier epoch."""


META_KEY: Key = b"#meta"

_body = msgspec.msgpack.Decoder(Sent), msgspec.msgpack.Decoder(Deeds)
_meta = msgspec.msgpack.Decoder(Meta)
_encoder = msgspec.msgpack.Encoder()


def encode_body(body: Sent | Deeds) -> bytes:
    """The body as msgpack; which of both it is stands beside it (a header)."""
    return _encoder.encode(body)


def decode_body(data: bytes, *, deeds: bool) -> Sent | Deeds:
    """The body that `encode_body` wrote."""
    return _body[1].decode(data) if deeds else _body[0].decode(data)


def encode_meta(meta: Meta) -> bytes:
    """The meta entry as msgpack."""
    return _encoder.encode(meta)


def decode_meta(data: bytes | None) -> Meta:
    """The meta entry that `encode_meta` wrote; that of a new partition for None."""
    return Meta() if data is None else _meta.decode(data)


class View(NamedTuple):
    """Values of one partition as they were together at one fence."""

    position: int
    values: Sequence[bytes | None]


class Commit(NamedTuple):
    """Writes of one partition with its next fence."""

    partition: Partition
    expected: int
    position: int
    writes: Mapping[Key, bytes | None]


class PartitionedState(Protocol):
    """State of all partitions; each is bytes by key behind a fence of its own. Safe to call from several threads."""

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        """One view for each; those of one partition are read atomically. Raises `StateUnavailable`."""

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        """Commit each partition's writes atomically and on its own.

        None where it was done, otherwise the fence that was found instead of the expected one (nothing was changed
        there). Raises `StateUnavailable` when it is not known which went through; the fences tell.
        """

    def partition(self, partition: Partition) -> StateStore:
        """One partition as a store of its own."""

    def close(self) -> None: ...


class Sender(Protocol):
    """Sends messages to partitions, in order within each, without gaps. For one thread."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send and wait until all are durable; raises `LogUnavailable` when some may not be.

        After an error nothing sent later may overtake what failed: whoever retries starts again at the first that was
        not confirmed.
        """

    def close(self) -> None: ...


class PartitionReader(Protocol):
    """Reads any partition from anywhere: for rebuilding, proving and archiving. Safe to call from several threads."""

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Message]:
        """Up to `limit` messages with position > `after`, in order; raises `LogUnavailable`.

        Raises `Forgotten` when messages past `after` are no longer kept.
        """

    def end(self, partition: Partition) -> int:
        """The last position, `START` when nothing was ever sent."""

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The last positions of several, in few round trips."""

    def close(self) -> None: ...


class Membership(Protocol):
    """One worker's place in a consumer group: which partitions it folds. For one thread.

    `poll` calls `assigned` with partitions that are now this worker's, which answers with the positions to go on after,
    and `revoked` with those that are no longer. Where the log does not have what comes after a partition's position
    (retention went past it, or the log lost its end), it calls `revoked` and then `assigned` with that partition again.
    A `PenchantError` that either raises, `poll` raises, and `assigned` is asked again a while later; trouble with the
    brokers raises nothing: no messages come.
    """

    def poll(self, timeout: float, limit: int) -> Sequence[Message]:
        """The next messages of the partitions assigned, in order within each; empty when none came in time."""

    def seek(self, partition: Partition, after: int) -> None:
        """Go on after another position."""

    def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The last positions, as far as is known without asking."""

    def close(self) -> None:
        """Leave the group."""


Assigned = Callable[[Sequence[Partition]], Mapping[Partition, int]]
Revoked = Callable[[Sequence[Partition]], None]
