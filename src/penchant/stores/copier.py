"""Keeps a durable copy of a state up to date, and puts it back where the state was lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.partitions import Commit, Partition, PartitionedState
from penchant.core.state import Key
from penchant.stores.listing import Listing

_AT_ONCE = 500
_ROUNDS = 20


class CopiedState(PartitionedState, Protocol):
    """A state that can be copied and restored."""

    def listing(self, partition: Partition, after: int) -> Listing:
        """The keys of a partition; a key written meanwhile may be missing."""

    def load(
        self, partition: Partition, position: int, entries: Iterable[tuple[Key, bytes]], *, expected: int | None = None
    ) -> None:
        """Put `entries` in the place of all that a partition has; raises `FenceConflict`."""


class CopyState(PartitionedState, Protocol):
    """A state that is the copy."""

    def keys(self, partition: Partition) -> set[Key]:
        """All keys that a partition has values of."""


@dataclass(slots=True)
class _Noted:
    """What is known to have changed since `base`: complete up to `head` when nothing was missed in between."""

    base: int
    head: int
    keys: dict[Key, int] = field(default_factory=dict)
    """By key the position of the last commit that wrote it."""


class Copier:
    """Copies partitions of a state as they are at one of their fences. Safe for several threads.

    Tell it each commit (`note`), by whichever worker has the partition. A flush then reads what those touched and
    commits it to the copy, which is behind the state, never wrong. What was not noted (before a restart, or by another
    worker) is found by listing the partition's keys, which takes longer. A flush holds what it copies in memory.
    """

    def __init__(self, state: CopiedState, copy: CopyState, *, failpoint: Failpoint = no_failpoint) -> None:
        self._state = state
        self._copy = copy
        self._failpoint = failpoint
        self._lock = threading.Lock()
        self._noted: dict[Partition, _Noted] = {}

    def note(self, commits: Iterable[Commit]) -> None:
        """Tell of commits that were done."""
        with self._lock:
            for partition, expected, position, writes in commits:
                noted = self._noted.get(partition)
                if noted is None or noted.head != expected:
                    # Others have committed in between: what they touched is not known.
                    noted = self._noted[partition] = _Noted(expected, position)
                noted.head = position
                noted.keys.update(dict.fromkeys(writes, position))

    def forget(self, partition: Partition) -> None:
        """The partition is another worker's now."""
        with self._lock:
            self._noted.pop(partition, None)

    def flush(self, partition: Partition) -> bool:
        """Bring the copy of a partition up to the state; whether it was (it goes on next time otherwise).

        Raises `StateUnavailable` when either cannot be reached; nothing is lost by that.
        """
        (copied, _), *_ = self._copy.read([(partition, [])])
        (current, _), *_ = self._state.read([(partition, [])])
        if current == copied:
            return True
        if current < copied:
            return False  # the state was put back: it is folded again or restored, and the copy is right as it is
        self._begin(partition, copied, current)
        found = self._settled(partition, copied)
        if found is None:
            self._forget_if_behind(partition, current)
            return False
        position, values = found
        self._failpoint("copy.read")
        (conflict,) = self._copy.commit([Commit(partition, copied, position, values)])
        self._failpoint("copy.committed")
        if conflict is not None:
            return False
        with self._lock:
            noted = self._noted.get(partition)
            if noted is not None and noted.base <= position <= noted.head:
                noted.base = position
                noted.keys = {key: at for key, at in noted.keys.items() if at > position}
        return True

    def restore(self, partition: Partition, *, at_most: int | None = None) -> int | None:
        """Put the copy in the place of a state that is behind it; its position then, None when the copy is not ahead.

        `at_most`: the end of the log; a copy beyond it is of another log. Raises `FenceConflict` when somebody else
        moved the state meanwhile.
        """
        (current, _), *_ = self._state.read([(partition, [])])
        snapshot = self._copy.partition(partition).snapshot()
        try:
            position = snapshot.position
            if position <= current or (at_most is not None and position > at_most):
                return None
            self._failpoint("restore.read")
            self._state.load(partition, position, snapshot.scan(b""), expected=current)
        finally:
            snapshot.close()
        self.forget(partition)
        return position

    def _forget_if_behind(self, partition: Partition, current: int) -> None:
        """Commits that were not told by now are another's, or of one that died: next time they are listed."""
        with self._lock:
            noted = self._noted.get(partition)
            if noted is not None and noted.head < current:
                del self._noted[partition]

    def _begin(self, partition: Partition, copied: int, current: int) -> None:
        """See to it that what is noted holds everything that changed since the copy."""
        with self._lock:
            noted = self._noted.get(partition)
            if noted is not None and current < noted.base:
                noted = None  # the state was put back to before what was noted, and must be listed as it comes again
            if noted is not None and noted.base <= copied:
                return
            if noted is None:
                noted = self._noted[partition] = _Noted(current, current)
        # From here on every commit is noted, so that a listing that takes long misses nothing.
        listing = self._state.listing(partition, copied)
        gone = self._copy.keys(partition) - listing.present
        if self._state.read([(partition, [])])[0].position < noted.base:
            return
        self._failpoint("copy.listed")
        with self._lock:
            if self._noted.get(partition) is noted:
                for key in listing.changed | gone:
                    noted.keys.setdefault(key, noted.base)
                noted.base = copied

    def _settled(self, partition: Partition, copied: int) -> tuple[int, dict[Key, bytes | None]] | None:
        """The values of all noted keys as they were together at one fence, the last one read; None if there is none."""
        values: dict[Key, bytes | None] = {}
        read_at: dict[Key, int] = {}
        position: int | None = None
        for _ in range(_ROUNDS):
            with self._lock:
                noted = self._noted.get(partition)
                if noted is None or noted.base > copied:
                    return None  # another worker has the partition, or had it in between
                head = noted.head
                stale = [key for key, at in noted.keys.items() if read_at.get(key, -1) < at]
            if position == head and not stale:
                return head, values
            for start in range(0, max(1, len(stale)), _AT_ONCE):
                keys = stale[start : start + _AT_ONCE]
                ((position, found),) = self._state.read([(partition, keys)])
                if position < head:
                    return None  # the state was put back meanwhile
                values.update(zip(keys, found, strict=True))
                read_at.update(dict.fromkeys(keys, position))
        return None
