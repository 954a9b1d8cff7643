"""State that commits with its position: bytes by key behind a fence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

Key = bytes
"""One letter for the kind of entity, then its id in UTF-8."""


def user_key(user_id: str) -> Key:
    """Where the features of a user are kept."""
    return b"u" + user_id.encode()


def profile_key(user_id: str) -> Key:
    """Where the attributes of a user are kept."""
    return b"p" + user_id.encode()


def item_key(item_id: str) -> Key:
    """Where the features of an item are kept."""
    return b"i" + item_id.encode()


def catalog_key(item_id: str) -> Key:
    """Where the attributes and the status of an item are kept."""
    return b"c" + item_id.encode()


def neighbours_key(item_id: str) -> Key:
    """Where the co-visitation counts of an item are kept."""
    return b"n" + item_id.encode()


def visits_key(item_id: str) -> Key:
    """Where the newest sessions that visited an item are kept."""
    return b"v" + item_id.encode()


class Snapshot(Protocol):
    """An unchanging view of the state at `position`. Close it soon: it may hold back clean-up."""

    position: int
    generation: str
    """Another one after the store was cleared: positions of two generations do not compare."""

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys."""

    def changed(self, after: int, prefix: bytes) -> Sequence[Key]:
        """Keys that start with `prefix` and were last written by a commit past position `after`, in key order."""

    def scan(self, prefix: bytes) -> Iterator[tuple[Key, bytes]]:
        """All entries whose key starts with `prefix`, in key order."""

    def count(self, prefix: bytes) -> int:
        """How many keys start with `prefix`."""

    def close(self) -> None: ...


class StateStore(Protocol):
    """Bytes by key; knows nothing of features. Only a runner commits.

    What reads, here and in snapshots, raises `StateUnavailable` when it cannot.
    """

    def position(self) -> int:
        """The fence: the position the state reflects."""

    def snapshot(self) -> Snapshot: ...

    def commit(self, expected: int, position: int, writes: Mapping[Key, bytes | None]) -> None:
        """Set (or with `None` drop) the keys and move the fence, all or nothing.

        Raises `FenceConflict` and changes nothing when the fence is not at `expected`.
        """

    def clear(self) -> None:
        """Drop everything, put the fence back to the start and begin another generation."""

    def close(self) -> None: ...
