"""What one partition brings to a round of folding: messages in, values at hand, writes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from penchant.core.partitions import META_KEY, Commit, Message, Meta, Partition, encode_meta
from penchant.core.state import Key


@dataclass(slots=True, eq=False)
class Batch:
    """Messages of one partition after `fence`, and the `Working` state they are folded into.

    `messages` are those that are not known already; `position` is that of the last one, known or not. `meta` is a
    copy, changed as the fold goes on. Reads raise `KeyError` for a key that was not asked for beforehand.
    """

    partition: Partition
    fence: int
    position: int
    meta: Meta
    messages: list[Message] = field(default_factory=list)
    values: dict[Key, bytes | None] = field(default_factory=dict)
    writes: dict[Key, bytes | None] = field(default_factory=dict)

    def get(self, key: Key) -> bytes | None:
        """One value, with the writes made so far."""
        return self.writes[key] if key in self.writes else self.values[key]

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys."""
        return [self.get(key) for key in keys]

    def put(self, key: Key, value: bytes | None) -> None:
        """Set a value, or drop it with `None`."""
        self.writes[key] = value

    def commit(self) -> Commit:
        """All that the round changes in this partition, with its next fence."""
        return Commit(self.partition, self.fence, self.position, {**self.writes, META_KEY: encode_meta(self.meta)})
