"""Attribute values as keys of state: what a category or tags attribute of an item or user says, as sorted hashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.events import AttributeValue
from penchant.core.hashing import hash_id
from penchant.core.items import REMOVED
from penchant.core.profiles import decode_item, decode_user

_CACHE_SIZE = 50_000

Keys = tuple[tuple[int, ...], ...]
"""Per attribute, the ascending hashes of its values, each once."""


def value_keys(value: AttributeValue) -> tuple[int, ...]:
    """The keys of one attribute value: a category has one, tags have several, anything else none.

    >>> value_keys(["b", "a", "b"]) == tuple(sorted({hash_id("a"), hash_id("b")}))
    True
    """
    if isinstance(value, str):
        return (hash_id(value),)
    if isinstance(value, list):
        return tuple(sorted({hash_id(tag) for tag in value}))
    return ()


def item_attributes(blob: bytes) -> Mapping[str, AttributeValue]:
    """The attributes in an item profile; a removed item has none."""
    profile = decode_item(blob)
    return {} if profile.status == REMOVED else profile.attributes


def user_attributes(blob: bytes) -> Mapping[str, AttributeValue]:
    """The attributes in a user profile."""
    return decode_user(blob).attributes


class ProfileKeys:
    """Turns profile blobs into keys of some attributes, remembering those it has seen (a pure function of the blob)."""

    def __init__(self, attributes: Sequence[str], decode: Callable[[bytes], Mapping[str, AttributeValue]]) -> None:
        self.attributes = tuple(attributes)
        self._decode = decode
        self._none: Keys = ((),) * len(self.attributes)
        self._known: dict[bytes, Keys] = {}

    def of(self, blob: bytes | None) -> Keys:
        """The keys by attribute; none for an entity without a profile."""
        if blob is None:
            return self._none
        keys = self._known.get(blob)
        if keys is None:
            values = self._decode(blob)
            keys = tuple(value_keys(values.get(name)) for name in self.attributes)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[blob] = keys
        return keys

    def table(self, blobs: Sequence[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offsets int64[len(blobs) * attributes + 1] and keys: those of blob b, attribute a at b * attributes + a."""
        flat: list[int] = []
        offsets = [0]
        for blob in blobs:
            for keys in self.of(blob):
                flat.extend(keys)
                offsets.append(len(flat))
        return np.array(offsets, np.int64), np.array(flat, np.int64)


class GivenKeys:
    """Keys of attributes that come with what was done; remembers, by entity, those it was given last."""

    def __init__(self, attributes: Sequence[str]) -> None:
        self.attributes = tuple(attributes)
        self._none: Keys = ((),) * len(self.attributes)
        self._known: dict[str | int, tuple[Mapping[str, AttributeValue], Keys]] = {}

    def of(self, entity: str | int, values: Mapping[str, AttributeValue]) -> Keys:
        """The keys by attribute of an entity that has these attributes at that point."""
        if not values or not self.attributes:
            return self._none
        known = self._known.get(entity)
        if known is not None and known[0] == values:
            return known[1]
        keys = tuple(value_keys(values.get(name)) for name in self.attributes)
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        self._known[entity] = values, keys
        return keys
