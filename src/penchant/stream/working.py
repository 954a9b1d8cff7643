"""The state while a batch is folded: writes over cached values over one snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penchant.core.state import Key, Snapshot

_ENTRY_BYTES = 150
"""What an entry costs beside its key and value, about."""
_MISSING = b"\x00missing"


class RawCache:
    """Recently used values as the store has them at the runner's fence, bounded by bytes.

    Absence is remembered as well (new users are looked up often). Valid only while nobody else commits: whoever owns
    it clears it when the fence was not where it was expected. Two generations instead of an order of use: when the
    younger one holds half the bound, the older one is let go; what is found in the older one becomes young again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._young: dict[Key, bytes | None] = {}
        self._old: dict[Key, bytes | None] = {}
        self._young_bytes = self._old_bytes = 0

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, key: Key, missing: bytes | None) -> bytes | None:
        """The value (None: the store has none), or `missing` when it is not cached."""
        value = self._young.get(key, _MISSING)
        if value is not _MISSING:
            return value
        value = self._old.get(key, _MISSING)
        if value is _MISSING:
            return missing
        self.put(key, value)
        return value

    def put(self, key: Key, value: bytes | None) -> None:
        """Remember a value."""
        self.update({key: value})

    def update(self, values: Mapping[Key, bytes | None]) -> None:
        """Remember values; those that alone are more than half the bound are not kept."""
        size = sum(map(len, values)) + sum(map(len, filter(None, values.values()))) + _ENTRY_BYTES * len(values)
        if self._young_bytes + size > self._half:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        if size > self._half:
            # What is known of these keys is not true any more.
            self._old, self._old_bytes = {}, 0
            return
        self._young.update(values)
        self._young_bytes += size

    @property
    def size(self) -> int:
        """Bytes that the entries take, about; never more than the bound. A value replaced counts until it ages."""
        return self._young_bytes + self._old_bytes

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}
        self._young_bytes = self._old_bytes = 0


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
        written, cached = self._writes.get, self._cache.get
        values = [written(key, _MISSING) for key in keys]
        for index, value in enumerate(values):
            if value is _MISSING:
                values[index] = cached(keys[index], _MISSING)
        absent = [index for index, value in enumerate(values) if value is _MISSING]
        if absent:
            wanted = [keys[index] for index in absent]
            read = dict(zip(wanted, self._snapshot.get_many(wanted), strict=True))
            for index, key in zip(absent, wanted, strict=True):
                values[index] = read[key]
            self._cache.update(read)
        return values

    def put(self, key: Key, value: bytes | None) -> None:
        """Set a value, or drop it with `None`."""
        self._writes[key] = value
