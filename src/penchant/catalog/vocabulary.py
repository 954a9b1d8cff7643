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
        codes, size = self.vocabulary.codes, len(self.vocabulary.values)
        added: dict[str, int] = {}  # provisional codes, after the old ones
        provisional = np.fromiter(
            (
                code if (code := codes.get(value)) is not None else added.setdefault(value, size + len(added))
                for value in came
            ),
            np.int32,
            len(came),
        )
        counts = np.bincount(provisional, minlength=size + len(added))
        counts[:size] += self._counts - np.bincount(gone, minlength=size)
        if not added and counts.all():
            self._counts = counts
            return provisional, None
        order = _order(self.vocabulary.values, list(added), counts)
        self._renew(list(added), order)
        self._counts = counts[order]
        remap = np.full(len(counts), -1, np.int32)
        remap[order] = np.arange(len(order))
        return remap[provisional], remap[:size]

    def _renew(self, added: list[str], order: NDArray[np.intp]) -> None:
        old = self.vocabulary
        both = np.array([*old.values, *added], np.object_)
        values = tuple(both[order].tolist())
        hashes = np.concatenate([old.hashes, np.array([hash_id(value) for value in added], np.int64)])
        self.vocabulary = Vocabulary(values, dict(zip(values, range(len(values)), strict=True)), hashes[order])


def _order(old: Sequence[str], added: list[str], counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """The provisional codes in the order of their values, without those that do not occur; `old` is sorted."""
    by_value = sorted(range(len(added)), key=added.__getitem__)
    places = [bisect_left(old, added[index]) for index in by_value]
    order = np.insert(np.arange(len(old)), places, np.array(by_value, np.intp) + len(old))
    return order[counts[order] > 0]
