"""What the fold of a partition decides of a message: when it arrived, and whether it is known already."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import xxhash

from penchant.core.clock import Millis
from penchant.core.log import START
from penchant.core.partitions import Deeds, Message, Meta, Place, Sent
from penchant.core.state import Key

BUCKET: Millis = 86_400_000
"""A client's event id is remembered in the bucket of the partition's clock in which it came, and in the next."""

_ID = 8
_HEAD = struct.Struct("<qq")
_NOWHERE: Place = (-1, -1)


GONE_KEY: Key = b"#gone"
"""Where a user partition keeps the event ids of erasures: the persons' own are dropped with them."""


def seen_key(entity_id: str) -> Key:
    """Where the event ids of a person, or of an item's events, are kept."""
    return b"d" + entity_id.encode()


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When events arrive: as the broker says, or with `follows_events` as the events themselves say.

    `ingested_at` never goes back in a partition and is never past the broker's clock but for that. History that was
    moved here arrived when the log that it comes from took it.
    """

    lateness: Millis
    follows_events: bool = False

    def at(self, clock: Millis, message: Message, ts: Millis | None) -> Millis:
        """`ingested_at` of a message that says it happened at `ts`, in a partition whose clock stands at `clock`."""
        arrived = getattr(message.body, "ingested_at", 0) or message.appended_at
        if self.follows_events and ts is not None and ts < arrived:
            arrived = ts
        return arrived if arrived > clock else clock


def fresh(messages: Sequence[Message], meta: Meta, deeds_source: str) -> tuple[list[Message], int]:
    """The messages not known already, in order, and how many were; `meta.sources` moves on.

    A message is known when its place is at or before the highest one of its source. `Deeds` that reach past it lose
    what is before it; those whose source does not begin with `deeds_source` are of another definition and passed over.
    """
    sources = meta.sources
    new: list[Message] = []
    known = 0
    for message in messages:
        body = message.body
        last = sources.get(message.source, _NOWHERE)
        if type(body) is Sent:
            if message.place <= last:
                known += 1
                continue
        elif not message.source.startswith(deeds_source):
            continue
        elif message.place <= last or not body.deeds:  # type: ignore[union-attr]
            known += 1
            continue
        elif body.deeds[0].position <= last[0]:  # type: ignore[union-attr]
            left = [deed for deed in body.deeds if deed.position > last[0]]  # type: ignore[union-attr]
            new.append(msgspec.structs.replace(message, body=Deeds(left)))
            sources[message.source] = message.place
            continue
        new.append(message)
        sources[message.source] = message.place
    return new, known


class Seen:
    """The client's event ids of one person or item, those of two buckets; a pure function of the ids in order.

    Packed: bucket and number of its ids as int64, then ids as eight bytes of xxh3_64, the bucket's first.
    """

    __slots__ = ("_bucket", "_current", "_previous")

    def __init__(self, blob: bytes | None) -> None:
        self._bucket, count = _HEAD.unpack_from(blob) if blob else (START, 0)
        ids = [blob[at : at + _ID] for at in range(_HEAD.size, len(blob), _ID)] if blob else []
        # Dictionaries keep the order in which ids came.
        self._current = dict.fromkeys(ids[:count])
        self._previous = dict.fromkeys(ids[count:])

    def first(self, event_id: str, ingested_at: Millis) -> bool:
        """Whether the id is new; it is known from now on."""
        bucket = ingested_at // BUCKET
        if bucket > self._bucket:
            self._previous = self._current if bucket == self._bucket + 1 else {}
            self._current = {}
            self._bucket = bucket
        digest = xxhash.xxh3_64_digest(event_id.encode())
        if digest in self._current:
            return False
        self._current[digest] = None
        return digest not in self._previous

    def pack(self) -> bytes:
        """The blob."""
        return _HEAD.pack(self._bucket, len(self._current)) + b"".join((*self._current, *self._previous))
