"""State in partitions of which each is a store of its own: for tests, replay and proofs in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from penchant.core.errors import FenceConflict
from penchant.core.log import START
from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.core.state import Key, StateStore
from penchant.stores.listing import Listing


class SeparateStores:
    """A `PartitionedState` of stores that `open` makes, each when it is first asked for. Safe for several threads.

    Raises `KeyError` for a partition that `layout` does not have.
    """

    def __init__(self, open: Callable[[Partition], StateStore], layout: Layout) -> None:
        self.layout = layout
        self._open = open
        self._there = set(layout.all())
        self._stores: dict[Partition, StateStore] = {}
        self._lock = threading.Lock()

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        """One view for each; those of one partition are read atomically. Raises `StateUnavailable`."""
        views = []
        for partition, keys in wanted:
            snapshot = self.partition(partition).snapshot()
            try:
                views.append(View(snapshot.position, snapshot.get_many(keys)))
            finally:
                snapshot.close()
        return views

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        """Commit each partition's writes atomically and on its own: None where done, else the fence found instead."""
        found: list[int | None] = []
        for partition, expected, position, writes in commits:
            try:
                self.partition(partition).commit(expected, position, writes)
                found.append(None)
            except FenceConflict as conflict:
                found.append(conflict.current)
        return found

    def partition(self, partition: Partition) -> StateStore:
        """One partition as a store of its own, shared by all who ask."""
        with self._lock:
            store = self._stores.get(partition)
            if store is None:
                if partition not in self._there:
                    raise KeyError(partition)
                store = self._stores[partition] = self._open(partition)
            return store

    def listing(self, partition: Partition, after: int) -> Listing:
        """The keys of a partition, for a `Copier`."""
        snapshot = self.partition(partition).snapshot()
        try:
            return Listing(set(snapshot.changed(after, b"")), {key for key, _ in snapshot.scan(b"")})
        finally:
            snapshot.close()

    def keys(self, partition: Partition) -> set[Key]:
        """All keys that a partition has values of."""
        return self.listing(partition, START).present

    def load(
        self, partition: Partition, position: int, entries: Iterable[tuple[Key, bytes]], *, expected: int | None = None
    ) -> None:
        """Put `entries` in the place of all that a partition has.

        Raises `FenceConflict` when the fence is not at `expected`, if that is given. Not atomic for readers.
        """
        store, loaded = self.partition(partition), dict(entries)
        current = store.position()
        if expected not in (None, current):
            raise FenceConflict(expected or START, current)
        store.clear()
        if position > START:
            store.commit(START, position, loaded)

    def close(self) -> None:
        """Close every store that was opened."""
        with self._lock:
            for store in self._stores.values():
                store.close()
            self._stores = {}
