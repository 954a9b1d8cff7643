"""A worker in this process that folds the log to its end, for verbs that need all of it folded."""

from __future__ import annotations

import random
from collections.abc import Callable

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.partitions import PartitionedState, PartitionReader
from penchant.stream.worker import Worker

Tell = Callable[[str, int, int], None]
"""What is going on, how much is done, of how much."""


def fold_to_end(
    parts: ClusterParts,
    state: PartitionedState,
    reader: PartitionReader,
    tell: Tell,
    *,
    history: PartitionReader | None = None,
    emit: bool = True,
) -> int:
    """Fold until the state has all that the log has, beside whoever else folds; how many messages that is."""
    worker = Worker(
        parts.membership,
        parts.sender,
        reader,
        state,
        parts.sides(),
        clock=parts.clock,
        rng=random.SystemRandom(),
        history=history,
        batch=2_000,
        poll=20_000,
        emit=emit,
    )
    partitions = parts.layout.all()
    try:
        while True:
            worker.step()
            ends = reader.ends(partitions)
            views = state.read([(partition, []) for partition in partitions])
            lag = sum(max(0, ends[p] - view.position) for p, view in zip(partitions, views, strict=True))
            total = sum(ends.values())
            tell("folding", total - lag, total)
            if not lag:
                return total
    finally:
        worker.close()
