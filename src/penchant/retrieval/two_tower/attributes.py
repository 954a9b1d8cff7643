"""What items say of themselves, as weighted tokens in hashed buckets: all that the item tower knows of a new one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.hashing import hash_id
from penchant.core.items import MISSING_TIME, Items

_WORD = re.compile(r"[^\W_]+")
_WORDS = 48
"""Words of one text that count: the first ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Row `r` has the numbers `slots[offsets[r]:offsets[r + 1]]` with as many `shares`."""

    offsets: NDArray[np.int64]
    slots: NDArray[np.int32]
    shares: NDArray[np.float32]

    def known(self, slot_of: NDArray[np.int32]) -> Tokens:
        """With `slot_of` each number; tokens of which that is -1 fall away."""
        slots = slot_of[self.slots]
        kept = slots >= 0
        counts = np.concatenate([[0], np.cumsum(kept)])
        return Tokens(counts[self.offsets].astype(np.int64), slots[kept], self.shares[kept])

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """Only these rows, in this order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Tokens(offsets, self.slots[at], self.shares[at])


@dataclass(slots=True, eq=False)
class Reader:
    """Reads attributes of a picture into buckets.

    Each value of a category, tag of a tags attribute and word of a text is one token; those of one attribute share
    the weight `1 / sqrt(their number)` each. A number, or a time in milliseconds, lies between two of its `knots`
    (float64[numbers, k], rising) and gives a token for each, with what is left to the other as the weight.
    What is missing gives none. An attribute is in one bucket wherever it stands; texts that
    were read are kept.
    """

    attributes: tuple[str, ...]
    numbers: tuple[str, ...]
    knots: NDArray[np.float64]
    buckets: int
    _texts: dict[tuple[str, str], NDArray[np.int32]] = field(default_factory=dict, repr=False)

    def read(self, items: Items) -> Tokens:
        """Tokens of all rows of the picture, numbered by bucket."""
        parts = [self._attribute(items, name) for name in self.attributes]
        parts += [self._number(items, name, self.knots[at]) for at, name in enumerate(self.numbers)]
        return _side_by_side([part for part in parts if part is not None], items.count)

    def bucket(self, name: str, value: str) -> int:
        """Where a value of an attribute stands."""
        return (hash_id(value) ^ hash_id(name)) % self.buckets

    def _attribute(self, items: Items, name: str) -> Tokens | None:
        count = items.count
        if name in items.texts:
            if len(self._texts) > 2 * count * len(self.attributes) + 1_000:
                self._texts.clear()  # most are of items gone or changed
            texts = items.texts[name]
            rows = [self._words(name, texts[row] or "") for row in range(count)]
            offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
            return _shared(offsets, np.concatenate(rows) if rows else np.empty(0, np.int32))
        if name in items.tags:
            tags = items.tags[name]
            offsets = tags.offsets[: count + 1]
            return _shared(offsets, self._hashed(name, tags.vocabulary.hashes)[tags.codes[: offsets[-1]]])
        if name in items.categories:
            category = items.categories[name]
            codes = category.codes[:count]
            offsets = np.concatenate([[0], np.cumsum(codes >= 0)]).astype(np.int64)
            return _shared(offsets, self._hashed(name, category.vocabulary.hashes)[codes[codes >= 0]])
        return None

    def _hashed(self, name: str, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        return ((hashes ^ hash_id(name)) % self.buckets).astype(np.int32)

    def _words(self, name: str, text: str) -> NDArray[np.int32]:
        found = self._texts.get((name, text))
        if found is None:
            words = list(dict.fromkeys(_WORD.findall(text.lower())))[:_WORDS]
            found = np.array([self.bucket(name, word) for word in words], np.int32)
            self._texts[name, text] = found
        return found

    def _number(self, items: Items, name: str, knots: NDArray[np.float64]) -> Tokens | None:
        values = number(items, name)
        if values is None:
            return None
        rows = np.flatnonzero(np.isfinite(values))
        at = np.interp(values[rows], knots, np.arange(len(knots)))
        below = np.minimum(at.astype(np.int64), len(knots) - 2)
        above = (at - below).astype(np.float32)
        buckets = np.array([self.bucket(name, f"#{knot}") for knot in range(len(knots))], np.int32)
        has = np.zeros(items.count, np.int64)
        has[rows] = 2
        offsets = np.concatenate([[0], np.cumsum(has)]).astype(np.int64)
        slots = np.stack([buckets[below], buckets[below + 1]], axis=1).ravel()
        return Tokens(offsets, slots, np.stack([1 - above, above], axis=1).ravel().astype(np.float32))


def number(items: Items, name: str) -> NDArray[np.float64] | None:
    """A number or time of each row, NaN where missing; None where the picture has no such attribute.

    `listed_at` is always there: the age of an item. The time is that of the calendar and not the distance to now, so
    that the vector of an item stays as it is while nothing happens to it.
    """
    if name in items.numbers:
        return items.numbers[name][: items.count]
    times = items.listed_at if name == "listed_at" else items.timestamps.get(name)
    if times is None:
        return None
    missing = times[: items.count] == (0 if name == "listed_at" else MISSING_TIME)
    return np.where(missing, np.nan, times[: items.count].astype(np.float64))


def pairs(values: Mapping[str, object], buckets: int) -> list[int]:
    """The buckets of the attributes of a person, or of a request: one for each value, by name and value alone."""
    found = []
    for name in sorted(values):
        value = values[name]
        several: Iterable[object] = value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
        found += [(hash_id(str(one)) ^ hash_id(name)) % buckets for one in several]
    return found


def _shared(offsets: NDArray[np.int64], slots: NDArray[np.int32]) -> Tokens:
    lengths = np.diff(offsets)
    shares = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
    return Tokens(offsets, slots.astype(np.int32, copy=False), shares)


def _side_by_side(parts: Sequence[Tokens], count: int) -> Tokens:
    """One row of all: the tokens of the parts, part after part."""
    lengths = np.zeros((len(parts) + 1, count), np.int64)
    for at, part in enumerate(parts):
        lengths[at + 1] = np.diff(part.offsets)
    offsets = np.concatenate([[0], np.cumsum(lengths.sum(axis=0))]).astype(np.int64)
    slots, shares = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
    starts = offsets[:-1].copy()
    for at, part in enumerate(parts):
        starts += lengths[at]
        to = np.repeat(starts - part.offsets[:-1], lengths[at + 1]) + np.arange(len(part.slots))
        slots[to], shares[to] = part.slots, part.shares
    return Tokens(offsets, slots, shares)


@kernel
def digests(
    offsets: NDArray[np.int64], slots: NDArray[np.int32], bits: NDArray[np.int32], ids: NDArray[np.int32]
) -> NDArray[np.uint64]:
    """A number for all that the tower reads of each row: equal rows, equal numbers. `bits`: the shares as integers."""
    found = np.empty(len(ids), np.uint64)
    for row in range(len(ids)):
        value = np.uint64(ids[row] + 1) ^ np.uint64(0x9E3779B97F4A7C15)
        for at in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(slots[at])) * np.uint64(0xFF51AFD7ED558CCD)
            value ^= value >> np.uint64(32)
            value = (value ^ np.uint64(bits[at])) * np.uint64(0xC4CEB9FE1A85EC53)
            value ^= value >> np.uint64(29)
        found[row] = value
    return found
