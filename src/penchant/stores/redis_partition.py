"""One partition of a state in Redis, as a store of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penchant.core.errors import FenceConflict, ViewGone
from penchant.core.log import START
from penchant.core.partitions import Commit, Partition
from penchant.core.state import Key
from penchant.stores.listing import Listing
from penchant.stores.redis_keys import INDEXED, STAMP_RANGE, Names, stamp_of
from penchant.stores.redis_scan import scanned

if TYPE_CHECKING:
    from penchant.stores.redis import RedisState

_AT_ONCE = 500


class RedisPartition:
    """A `StateStore` in one partition of a `RedisState`, which stays open when this is closed. Safe for threads."""

    def __init__(self, state: RedisState, partition: Partition, names: Names) -> None:
        self._state = state
        self._partition = partition
        self._names = names

    def position(self) -> int:
        """The fence: the position the state reflects."""
        return self._state.fence(self._partition).position

    def snapshot(self) -> RedisSnapshot:
        """A view of the state as it is now; it ends with the next commit."""
        return RedisSnapshot(self._state, self._partition, self._names)

    def commit(self, expected: int, position: int, writes: Mapping[Key, bytes | None]) -> None:
        """Set (or with `None` drop) the keys and move the fence, all or nothing.

        Raises `FenceConflict` and changes nothing when the fence is not at `expected`.
        """
        (found,) = self._state.commit([Commit(self._partition, expected, position, writes)])
        if found is not None:
            raise FenceConflict(expected, found)

    def clear(self) -> None:
        """Drop everything, put the fence back to the start and begin another generation."""
        self._state.load(self._partition, START, ())

    def close(self) -> None:
        """Nothing to give back."""


class RedisSnapshot:
    """A `Snapshot` of a partition in Redis, which keeps no old versions: reads raise `ViewGone` after the next commit.

    What was read before that is whole. Keys on the user's side have no index: `scan`, `changed` and `count` of theirs
    look through all keys of the server (Redis 7.4 and Valkey 8 in a cluster: those of the partition alone).
    """

    def __init__(self, state: RedisState, partition: Partition, names: Names) -> None:
        self._state = state
        self._partition = partition
        self._names = names
        self._fence = state.fence(partition)
        self.position = self._fence.position
        self.generation = self._fence.epoch

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys."""
        ((fence, values),) = self._state.read_fenced([(self._partition, keys)])
        self._expect(fence.raw)
        return values

    def changed(self, after: int, prefix: bytes) -> Sequence[Key]:
        """Keys that start with `prefix` and were last written by a commit past position `after`, in key order."""
        if self._fence.loading:
            return []
        found: set[Key] = set()
        for kind in _indexed(prefix):
            found.update(self._ask("ZRANGEBYSCORE", self._names.index(kind), f"({after}", "+inf"))
        if _looked_for(prefix):
            found.update(key for key, written in self._stamps(self._look_for(prefix)).items() if written > after)
        self._check()
        return sorted(key for key in found if key.startswith(prefix))

    def scan(self, prefix: bytes) -> Iterator[tuple[Key, bytes]]:
        """All entries whose key starts with `prefix`, in key order."""
        keys = self._keys(prefix)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            for key, value in zip(some, self.get_many(some), strict=True):
                if value is not None:
                    yield key, value

    def count(self, prefix: bytes) -> int:
        """How many keys start with `prefix`."""
        keys = self._keys(prefix)
        count = 0
        for start in range(0, len(keys), _AT_ONCE):
            count += self._ask("EXISTS", *[self._names.data + key for key in keys[start : start + _AT_ONCE]])
        self._check()
        return count

    def listing(self, after: int) -> Listing:
        """The keys of the partition, also while it goes on."""
        if self._fence.loading:
            return Listing(set(), set())
        found = set(self._look_for(b""))
        changed: set[Key] = set()
        for index in self._names.indexes:
            changed.update(self._ask("ZRANGEBYSCORE", index, f"({after}", "+inf"))
        stamps = self._stamps(sorted(found))
        changed.update(key for key, written in stamps.items() if written > after)
        return Listing(changed, set(stamps))

    def close(self) -> None:
        """Nothing was held back."""

    def _keys(self, prefix: bytes) -> list[Key]:
        """All keys that start with `prefix`, with some that were dropped, in order."""
        if self._fence.loading:
            return []
        found: set[Key] = set()
        for kind in _indexed(prefix):
            found.update(self._ask("ZRANGE", self._names.index(kind), 0, -1))
        if _looked_for(prefix):
            found.update(self._look_for(prefix))
        self._check()
        return sorted(key for key in found if key.startswith(prefix))

    def _look_for(self, prefix: bytes) -> list[Key]:
        ask = self._state.link.server_of(self._names.fence)
        skip = len(self._names.data)
        return sorted({key[skip:] for keys in scanned(ask, self._names.pattern(prefix)) for key in keys})

    def _ask(self, *command: object) -> Any:
        return self._state.link.call(self._names.fence, *command)

    def _stamps(self, keys: Sequence[Key]) -> dict[Key, int]:
        """By key that is there the position of the commit that wrote it."""
        link, found = self._state.link, {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            commands = [(self._names.fence, ("GETRANGE", self._names.data + key, *STAMP_RANGE)) for key in some]
            for key, answer in zip(some, link.calls(commands), strict=True):
                if raw := link.good(answer):
                    found[key] = stamp_of(raw)
        return found

    def _check(self) -> None:
        """What was read so far is of this view if the fence has not moved by now."""
        self._expect(self._state.fence(self._partition).raw)

    def _expect(self, raw: bytes) -> None:
        if raw != self._fence.raw:
            raise ViewGone(f"partition {self._partition} is past position {self.position}: take a new snapshot")


def _indexed(prefix: bytes) -> list[bytes]:
    return [bytes([kind]) for kind in INDEXED if not prefix or prefix[0] == kind]


def _looked_for(prefix: bytes) -> bool:
    return not prefix or prefix[0] not in INDEXED
