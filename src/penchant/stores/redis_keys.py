"""How a state in partitions is laid out in Redis: names of keys, the fence, and what stands before each value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from penchant.core.errors import SettingsError
from penchant.core.hashing import hash_id
from penchant.core.log import START
from penchant.core.partitions import Partition
from penchant.core.state import Key
from penchant.stores.tracking import TRACKED

INDEXED = TRACKED + b"#"
"""Kinds of keys that have an index by position; the others are found by looking through the server's keys."""
EXPIRING = b"uprds"
"""Kinds of keys about a person: all of one person live as long as the one written last."""
LOADING = "!"
"""Stands for the position while a partition is emptied or loaded: to all who read it is empty and at the start."""
_STAMP = 8
_GLOB = re.compile(rb"([*?\[\]\\^])")


class Fence(NamedTuple):
    """What a fence key says: `<epoch>:<position>`; the epoch is drawn when a partition begins anew."""

    raw: bytes
    position: int
    epoch: str
    loading: bool

    @classmethod
    def parse(cls, raw: bytes | None) -> Fence:
        """Of the value in Redis; that of a partition never written for None."""
        if raw is None:
            return cls(b"", START, "", False)
        epoch, _, position = raw.partition(b":")
        loading = position == LOADING.encode()
        return cls(raw, START if loading else int(position), epoch.decode(), loading)


def gid_of(fingerprint: str) -> str:
    """The short name of a definition of the state in its keys: states of two definitions live beside each other."""
    return f"{hash_id(fingerprint) & 0xFFFFFFFFFFFF:012x}"


def stamped(position: int, value: bytes) -> bytes:
    """A value as Redis holds it: the position of the commit that wrote it in 8 bytes, big-endian, then the value."""
    return position.to_bytes(_STAMP, "big") + value


def unstamped(raw: bytes | None) -> bytes | None:
    """The value that `stamped` made."""
    return None if raw is None else raw[_STAMP:]


def stamp_of(raw: bytes) -> int:
    """The position before a value."""
    return int.from_bytes(raw[:_STAMP], "big")


STAMP_RANGE = (0, _STAMP - 1)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one partition's keys; all have the same hash tag, so that one script may touch them all."""

    fence: bytes
    data: bytes
    """What stands before a raw key."""
    indexes: tuple[bytes, ...]
    """By kind as in `INDEXED`: sorted sets of raw keys by the position of their last write."""

    @classmethod
    def of(cls, name: str, gid: str, partition: Partition) -> Names:
        """Those of a partition under a name and a definition."""
        tag = f"{name}:{gid}:{{{partition}}}".encode()
        return cls(tag + b"!fence", tag + b":", tuple(tag + b"!" + bytes([kind]) for kind in INDEXED))

    def index(self, kind: bytes) -> bytes:
        """The index of a kind of keys."""
        return self.indexes[INDEXED.index(kind)]

    def pattern(self, prefix: bytes) -> bytes:
        """What SCAN matches for raw keys that start with `prefix`."""
        return self.data + _GLOB.sub(rb"\\\1", prefix) + b"*"


def relatives(key: Key) -> list[Key]:
    """All keys about the person of a key that expires."""
    return [bytes([kind]) + key[1:] for kind in EXPIRING]


def check_name(name: str) -> str:
    """A name that stands before every key; raises `SettingsError` for what would break the layout."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise SettingsError(f"a state in Redis cannot be called {name!r}: use letters, digits, '_', '.' and '-'")
    return name
