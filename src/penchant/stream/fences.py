"""Where the partitions of a worker stand, after seeing to it that log and state fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penchant.core.errors import Forgotten
from penchant.core.log import START
from penchant.core.partitions import META_KEY, Meta, Partition, PartitionedState, PartitionReader, decode_meta
from penchant.stream.rebuild import Origins, Recover
from penchant.stream.sides import Sides
from penchant.stream.working import RawCache
from penchant.telemetry import REBUILDS


@dataclass(slots=True, eq=False)
class Held:
    """A partition of this worker's: its fence as last seen, and values as they are at it."""

    fence: int
    meta: Meta
    cache: RawCache


class Fences:
    """Finds fences. Half of `cache_bytes` is for the user partitions of a worker that has them all, half for items'."""

    def __init__(
        self, state: PartitionedState, reader: PartitionReader, sides: Sides, recover: Recover, cache_bytes: int
    ) -> None:
        self._state = state
        self._reader = reader
        self._recover = recover
        self._origins = Origins(state, sides.layout, sides.deeds_fingerprint[:8])
        self._cache = {"users": cache_bytes // 2 // sides.layout.users, "items": cache_bytes // 2 // sides.layout.items}
        self._begun: dict[Partition, tuple[int, int]] = {}
        """Epochs found to begin, until they are committed."""

    def locate(self, partitions: Sequence[Partition], ends: Mapping[Partition, int]) -> dict[Partition, Held]:
        """The partitions as they are to go on. `ends`: of their logs, as far as known; may be old.

        Fences are read before the log is asked, which only grows. A state that is ahead of its log is recovered.
        """
        located = self._read(partitions)
        for partition, end in self.ahead({p: held.fence for p, held in located.items()}, ends).items():
            old = located[partition].meta
            REBUILDS.labels("ahead").inc()
            if partition.side == "users":
                self._begun[partition] = old.epoch + 1, end
            self._recover(partition, "ahead")
            located |= self._read([partition])
        new = [p for p, held in located.items() if p.side == "users" and held.fence == START]
        for partition, (meta, highest) in self._origins.find(new).items():
            epoch = meta.epoch, meta.told
            if highest > START and partition not in self._begun:
                end = self._reader.end(partition)
                if highest > end:  # whoever found the log shorter than the state died before the first commit
                    epoch = meta.epoch + 1, end
            located[partition].meta.epoch, located[partition].meta.told = epoch
        for partition in located.keys() & self._begun.keys():
            held, begun = located[partition], self._begun[partition]
            if held.meta.epoch >= begun[0] and held.fence > START:
                del self._begun[partition]
            else:
                held.meta.epoch, held.meta.told = begun
        return located

    def ahead(self, fences: Mapping[Partition, int], ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """The partitions whose state has positions that the log does not have, and where their logs end."""
        doubtful = [partition for partition, fence in fences.items() if fence > ends.get(partition, START)]
        found = self._reader.ends(doubtful) if doubtful else {}
        return {partition: found[partition] for partition in doubtful if fences[partition] > found[partition]}

    def is_forgotten(self, partition: Partition, fence: int) -> bool:
        """Whether the log no longer keeps what comes after the fence."""
        try:
            self._reader.read(partition, fence, 1)
        except Forgotten:
            return True
        return False

    def recover_forgotten(self, partition: Partition) -> int:
        """Put the state back to where the log can take it on, if anything can; returns the position."""
        REBUILDS.labels("forgotten").inc()
        return self._recover(partition, "forgotten")

    def _read(self, partitions: Sequence[Partition]) -> dict[Partition, Held]:
        views = self._state.read([(partition, (META_KEY,)) for partition in partitions])
        return {
            partition: Held(view.position, decode_meta(view.values[0]), RawCache(self._cache[partition.side]))
            for partition, view in zip(partitions, views, strict=True)
        }
