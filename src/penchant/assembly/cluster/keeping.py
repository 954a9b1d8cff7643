"""What a worker keeps beside the state: the durable copy and the archive."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.partitions import Commit, PartitionedState, PartitionReader
from penchant.stream.rebuild import Recover


class Keeping:
    """Threads beside the fold."""

    def __init__(self, parts: ClusterParts, state: PartitionedState) -> None:
        self.history: PartitionReader | None = None
        self.recover: Recover | None = None

    def start(self) -> None:
        """Begin."""

    def folded(self, commits: Sequence[Commit]) -> None:
        """Hear of commits."""

    def close(self) -> None:
        """End."""
