"""A fold of the log into keyed state: what a runner applies, and the state it is applied to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penchant.core.log import Record
from penchant.core.state import Key


class Working(Protocol):
    """The state as it will be once the batch commits: reads see the writes made before."""

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]: ...

    def put(self, key: Key, value: bytes | None) -> None: ...


class Fold(Protocol):
    """A deterministic function of (state, records in order): how records are cut into batches must not matter.

    `fingerprint` names what the fold writes; when it changes the state must be rebuilt.
    """

    fingerprint: str

    def apply(self, records: Sequence[Record], state: Working) -> None:
        """Fold a run of records in which every item or user event comes before every other one."""
