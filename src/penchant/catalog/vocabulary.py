"""The values that occur in a column, as codes: kept equal, change by change, to what a fresh count would give."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.hashing import hash_id
from penchant.core.items import Vocabulary

Codes = NDArray[np.int32]


class Counted:
    """A vocabulary and how often each of its values occurs.

    Codes follow the order of the values as text and only values that occur have one, so the codes depend on what the
    column holds and not on how it came to hold it.
    """

    def __init__(self) -> None:
        self.vocabulary = Vocabulary((), {}, np.empty(0, np.int64))
        self._counts = np.empty(0, np.int64)

    def exchange(self, gone: Codes, came: Sequence[str]) -> tuple[Codes, Codes | None]:
        """Take away the occurrences of the codes `gone`, add those of the values `came`.

        Returns the new codes of `came`, and what each old code becomes (-1 where it ends), or None when all stay.
        """
        old = self.vocabulary
        known = dict(old.codes)
        provisional = np.fromiter((known.setdefault(value, len(known)) for value in came), np.int32, len(came))
        size = len(known)
        counts = np.bincount(provisional, minlength=size) - np.bincount(gone, minlength=size)
        counts[: len(old.values)] += self._counts
        if size == len(old.values) and counts.all():
            self._counts = counts
            return provisional, None
        values = list(known)
        remap = _order(values, counts, len(old.values))
        kept = np.flatnonzero(remap >= 0)
        order = kept[np.argsort(remap[kept])]
        self._renew([values[code] for code in order], order, known)
        self._counts = counts[order]
        return remap[provisional], remap[: len(old.values)]

    def _renew(self, values: list[str], order: NDArray[np.intp], provisional: dict[str, int]) -> None:
        old = self.vocabulary
        fresh = list(provisional)[len(old.values) :]
        hashes = np.concatenate([old.hashes, np.fromiter((hash_id(value) for value in fresh), np.int64, len(fresh))])
        codes = {value: code for code, value in enumerate(values)}
        self.vocabulary = Vocabulary(tuple(values), codes, hashes[order])


def _order(values: list[str], counts: NDArray[np.int64], old: int) -> Codes:
    """What each provisional code becomes: the first `old` values are sorted, the others are merged in between."""
    living = counts > 0
    added = sorted((code for code in range(old, len(values)) if living[code]), key=values.__getitem__)
    places = [bisect_left(values, values[code], 0, old) for code in added]
    before = np.zeros(old + 1, np.int64)  # how many new values come before the old value of this code
    np.add.at(before, places, 1)
    remap = np.full(len(values), -1, np.int32)
    rank = np.cumsum(living[:old]) - 1 + np.cumsum(before)[:old]
    remap[:old] = np.where(living[:old], rank, -1)
    kept_before = np.concatenate([[0], np.cumsum(living[:old])])
    for index, (code, place) in enumerate(zip(added, places, strict=True)):
        remap[code] = index + kept_before[place]
    return remap
