"""What is done when a partition's log and its state no longer fit: the state is ahead of the log, or behind it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from penchant.core.log import START
from penchant.core.partitions import META_KEY, Layout, Meta, Partition, PartitionedState, decode_meta
from penchant.telemetry import logger

Reason = Literal["ahead", "forgotten"]
"""`ahead`: the state reflects positions that the log does not have (any more). `forgotten`: the log no longer keeps
what comes after the state's position."""


class Recover(Protocol):
    """Brings a partition's state to where the log can take it on; returns the position it then reflects.

    May put back a durable copy. For `ahead`, the position must be one that the log still has.
    """

    def __call__(self, partition: Partition, reason: Reason) -> int: ...


class FoldAnew:
    """Drops what a lost end of the log has left in the state, so that all is folded again from the start.

    When an item partition loses its end, deeds were lost with it: those are made again, so the user partitions are
    folded anew as well, whoever folds them (their fences tell). What is `forgotten` is left to the archive.
    """

    def __init__(self, state: PartitionedState, layout: Layout) -> None:
        self._state = state
        self._layout = layout

    def __call__(self, partition: Partition, reason: Reason) -> int:
        """Clear it, for `ahead`."""
        if reason == "forgotten":
            return self._state.read([(partition, ())])[0].position
        if partition.side == "items":
            # These first: while this partition's fence is ahead of its log, whoever comes next begins here again.
            for number in range(self._layout.users):
                self._state.partition(Partition("users", number)).clear()
        logger.warning("%s: the state is ahead of the log, it is folded anew", partition)
        self._state.partition(partition).clear()
        return START


class Origins:
    """Where user partitions without state have to begin to tell their deeds, as item partitions remember them.

    Deeds are known by position. When a log lost messages, their positions are given to others, so from there on deeds
    have another source: `Meta.epoch` and `Meta.told`. These go with the state when it is cleared, and come back here.
    """

    def __init__(self, state: PartitionedState, layout: Layout, prefix: str) -> None:
        self._state = state
        self._items = [(Partition("items", number), (META_KEY,)) for number in range(layout.items)]
        self._prefix = prefix

    def find(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[Meta, int]]:
        """For each, a new meta of the latest epoch known, and the highest position whose deeds are known in it."""
        wanted = {str(partition): partition for partition in partitions}
        found = {partition: (Meta(), START) for partition in wanted.values()}
        if not found:
            return found
        for view in self._state.read(self._items):
            for source, place in decode_meta(view.values[0]).sources.items():
                prefix, _, name = source.partition("/")
                partition_name, _, rest = name.partition(".")
                partition = wanted.get(partition_name)
                if prefix != self._prefix or partition is None:
                    continue
                epoch, _, told = rest.partition("@")
                meta = Meta(epoch=int(epoch or 0), told=int(told or 0))
                known, highest = found[partition]
                if (meta.epoch, place[0]) > (known.epoch, highest):
                    found[partition] = meta, place[0]
        return found
