"""State in memory: for tests, replay and `memory:`; the log rebuilds it at every start."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from penchant.core.errors import FenceConflict
from penchant.core.log import START
from penchant.core.state import Key
from penchant.stores.tracking import check_advance, is_tracked

_Entry = tuple[int, bytes | None]
"""Position of the last write and the value; `None` where a tracked key was dropped."""


class MemoryStore:
    """A `StateStore` in a dictionary. Safe for several threads.

    A commit hands what it overwrites to the snapshots that are open, so a snapshot costs what changes while it lives.
    """

    def __init__(self, *, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.was_rebuilt = False
        self._lock = threading.Lock()
        self._position = START
        self._cleared = 0
        self._entries: dict[Key, _Entry] = {}
        self._tracked: list[tuple[int, Key]] = []
        """Writes of tracked keys in order of position; only the last of a key counts."""
        self._tracked_keys = 0
        self._snapshots: weakref.WeakSet[MemorySnapshot] = weakref.WeakSet()

    def position(self) -> int:
        """The fence: the position the state reflects."""
        return self._position

    def snapshot(self) -> MemorySnapshot:
        """An unchanging view."""
        with self._lock:
            snapshot = MemorySnapshot(self, self._position, str(self._cleared))
            self._snapshots.add(snapshot)
            return snapshot

    def commit(self, expected: int, position: int, writes: Mapping[Key, bytes | None]) -> None:
        """Set (or with `None` drop) the keys and move the fence, all or nothing.

        Raises `FenceConflict` and changes nothing when the fence is not at `expected`.
        """
        check_advance(expected, position)
        with self._lock:
            if self._position != expected:
                raise FenceConflict(expected, self._position)
            for snapshot in self._snapshots:
                for key in writes:
                    snapshot.before.setdefault(key, self._entries.get(key))
            for key, value in writes.items():
                if is_tracked(key):
                    self._tracked_keys += key not in self._entries
                    self._tracked.append((position, key))
                    self._entries[key] = (position, value)
                elif value is None:
                    self._entries.pop(key, None)
                else:
                    self._entries[key] = (position, value)
            if len(self._tracked) > 2 * self._tracked_keys + 1_000:
                self._tracked = [entry for entry in self._tracked if self._entries[entry[1]][0] == entry[0]]
            self._position = position

    def clear(self) -> None:
        """Drop everything, put the fence back to the start and begin another generation."""
        with self._lock:
            for snapshot in self._snapshots:
                snapshot.before = {**self._entries, **snapshot.before}
                snapshot.cleared = True
            self._entries, self._tracked, self._tracked_keys = {}, [], 0
            self._position = START
            self._cleared += 1

    def close(self) -> None:
        """Nothing to give back."""


class MemorySnapshot:
    """A `Snapshot` of a `MemoryStore`."""

    def __init__(self, store: MemoryStore, position: int, generation: str) -> None:
        self.position = position
        self.generation = generation
        self.before: dict[Key, _Entry | None] = {}
        """What has been overwritten since: entries as they were."""
        self.cleared = False
        """Whether `before` is all there was."""
        self._store = store

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys."""
        with self._store._lock:
            if self.before or self.cleared:
                entries = [self._entry(key) for key in keys]
            else:  # nothing was overwritten
                entries = [*map(self._store._entries.get, keys)]
        return [None if entry is None else entry[1] for entry in entries]

    def changed(self, after: int, prefix: bytes) -> Sequence[Key]:
        """Keys that start with `prefix` and were last written by a commit past position `after`, in key order."""
        with self._store._lock:
            if is_tracked(prefix) and not self.before and not self.cleared:
                # Nothing was overwritten: whatever was written past `after` is the last of its key.
                tracked = self._store._tracked
                first = bisect_right(tracked, after, key=lambda entry: entry[0])
                return sorted({key for _, key in tracked[first:] if key.startswith(prefix)})
            found = {
                key
                for key in self._candidates(after, prefix)
                if key.startswith(prefix) and (entry := self._entry(key)) is not None and entry[0] > after
            }
        return sorted(found)

    def scan(self, prefix: bytes) -> Iterator[tuple[Key, bytes]]:
        """All entries whose key starts with `prefix`, in key order."""
        with self._store._lock:
            keys = sorted(key for key in {*self._store._entries, *self.before} if key.startswith(prefix))
            entries = [(key, self._entry(key)) for key in keys]
        return ((key, entry[1]) for key, entry in entries if entry is not None and entry[1] is not None)

    def count(self, prefix: bytes) -> int:
        """How many keys start with `prefix`."""
        with self._store._lock:
            if not self.before and not self.cleared:
                entries = self._store._entries.items()
                return sum(1 for key, entry in entries if entry[1] is not None and key.startswith(prefix))
        return sum(1 for _ in self.scan(prefix))

    def close(self) -> None:
        """End the view."""
        with self._store._lock:
            self._store._snapshots.discard(self)

    def _entry(self, key: Key) -> _Entry | None:
        if self.cleared or key in self.before:
            return self.before.get(key)
        return self._store._entries.get(key)

    def _candidates(self, after: int, prefix: bytes) -> Iterator[Key]:
        """Every key that the view may have seen written past `after`; more are harmless."""
        yield from self.before
        if is_tracked(prefix):
            tracked = self._store._tracked
            for _, key in tracked[bisect_right(tracked, after, key=lambda entry: entry[0]) :]:
                yield key
        else:
            yield from self._store._entries
