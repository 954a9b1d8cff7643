"""The state while a batch is folded: writes over cached values over one snapshot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from penchant.core.state import Key, Snapshot

_ENTRY_BYTES = 150
"""What an entry costs beside its key and value, about."""
_MISSING = b"\x00missing"


class RawCache:
    """The most recently used values as the store has them at the runner's fence, bounded by bytes.

    Absence is remembered as well (new users are looked up often). Valid only while nobody else commits: whoever owns
    it clears it when the fence was not where it was expected.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, bytes | None] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, missing: bytes | None) -> bytes | None:
        """The value (None: the store has none), or `missing` when it is not cached."""
        value = self._entries.get(key, _MISSING)
        if value is _MISSING:
            return missing
        self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: bytes | None) -> None:
        """Remember a value and forget the least recently used ones beyond the bound."""
        if key in self._entries:
            self.bytes -= _size(key, self._entries.pop(key))
        self._entries[key] = value
        self.bytes += _size(key, value)
        while self.bytes > self._max_bytes:
            self.bytes -= _size(*self._entries.popitem(last=False))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0


class Overlay:
    """The `Working` state of one batch: reads see the writes made before; nothing reaches the store."""

    def __init__(self, snapshot: Snapshot, cache: RawCache) -> None:
        self._snapshot = snapshot
        self._cache = cache
        self._writes: dict[Key, bytes | None] = {}

    @property
    def writes(self) -> Mapping[Key, bytes | None]:
        """What the batch changes."""
        return self._writes

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The values, in the order of the keys; one read of the snapshot for all that is not at hand."""
        writes, cached = self._writes, self._cache.get
        values = [writes[key] if key in writes else cached(key, _MISSING) for key in keys]
        absent = [index for index, value in enumerate(values) if value is _MISSING]
        if absent:
            read = self._snapshot.get_many([keys[index] for index in absent])
            for index, value in zip(absent, read, strict=True):
                values[index] = value
                self._cache.put(keys[index], value)
        return values

    def put(self, key: Key, value: bytes | None) -> None:
        """Set a value, or drop it with `None`."""
        self._writes[key] = value


def _size(key: Key, value: bytes | None) -> int:
    return len(key) + (0 if value is None else len(value)) + _ENTRY_BYTES
