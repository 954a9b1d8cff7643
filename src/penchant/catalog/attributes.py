"""One column per declared attribute, renewed row by row; what is not of the declared kind counts as missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.arrays import IntArray, Runs, offsets_of, renewed, spliced
from penchant.catalog.vocabulary import Counted
from penchant.core.events import AttributeValue
from penchant.core.items import MISSING_CODE, MISSING_TIME, Category, Ragged
from penchant.core.vectors import unpack


class Column(Protocol):
    """The column of one attribute; its `value` is what pictures show: replaced by `patch`, never written."""

    def patch(self, count: int, rows: IntArray, values: Sequence[AttributeValue]) -> None:
        """Renew `rows` (ascending, each once) of now `count` rows; every row past the old count is among them."""


N = TypeVar("N", np.float64, np.int64, np.int8)


class Scalars(Generic[N]):
    """Numbers, timestamps or flags."""

    def __init__(self, dtype: type[N], missing: float) -> None:
        self.value: NDArray[N] = np.empty(0, dtype)
        self._missing = missing
        self._convert = {np.float64: _number, np.int64: _timestamp, np.int8: _flag}[dtype]

    def patch(self, count: int, rows: IntArray, values: Sequence[AttributeValue]) -> None:
        converted = np.array([self._convert(value) for value in values], self.value.dtype)
        self.value = renewed(self.value, count, self._missing, rows, converted)


class Texts:
    """Texts, None where missing."""

    def __init__(self) -> None:
        self.value: Sequence[str | None] = ()

    def patch(self, count: int, rows: IntArray, values: Sequence[AttributeValue]) -> None:
        came = [value if isinstance(value, str) else None for value in values]
        old, places = self.value, rows.tolist()
        if count == len(old) and all(old[row] == text for row, text in zip(places, came, strict=True)):
            return
        texts: list[str | None] = [*old, *[None] * (count - len(old))]
        for row, text in zip(places, came, strict=True):
            texts[row] = text
        self.value = texts


class Categories:
    """One value a row, as codes."""

    def __init__(self) -> None:
        self._counted = Counted()
        self.value = Category(np.empty(0, np.int32), self._counted.vocabulary)

    def patch(self, count: int, rows: IntArray, values: Sequence[AttributeValue]) -> None:
        old = self.value.codes
        gone = old[rows[rows < len(old)]]
        present = [value for value in values if isinstance(value, str)]
        came, remap = self._counted.exchange(gone[gone != MISSING_CODE], present)
        if remap is not None:  # the appended -1 keeps missing missing: it is what index -1 finds
            old = np.append(remap, np.int32(MISSING_CODE))[old]
        codes = np.full(len(values), MISSING_CODE, np.int32)
        codes[[isinstance(value, str) for value in values]] = came
        new = renewed(old, count, MISSING_CODE, rows, codes)
        if new is not self.value.codes or self._counted.vocabulary is not self.value.vocabulary:
            self.value = Category(new, self._counted.vocabulary)


class Tags:
    """Any number of values a row, as ascending codes."""

    def __init__(self) -> None:
        self._counted = Counted()
        self.value = Ragged(np.zeros(1, np.int64), np.empty(0, np.int32), self._counted.vocabulary)

    def patch(self, count: int, rows: IntArray, values: Sequence[AttributeValue]) -> None:
        old = self.value
        known = rows[rows < len(old.offsets) - 1].tolist()
        gone = [old.codes[old.offsets[row] : old.offsets[row + 1]] for row in known]
        distinct = [_distinct(value) for value in values]
        came, remap = self._counted.exchange(
            np.concatenate(gone) if gone else np.empty(0, np.int32), [tag for tags in distinct for tag in tags]
        )
        new_offsets = offsets_of([len(tags) for tags in distinct])
        owner = np.repeat(np.arange(len(values)), np.diff(new_offsets))
        came = came[np.lexsort((came, owner))]
        if remap is None and count == len(old.offsets) - 1 and _same(old, rows, new_offsets, came):
            return
        # Codes keep their order when they are renumbered, so the runs that stay are ascending still.
        codes = old.codes if remap is None else remap[old.codes]
        runs = spliced(Runs(old.offsets, codes), count, rows, Runs(new_offsets, came))
        self.value = Ragged(runs.offsets, runs.values, self._counted.vocabulary)


class Vectors:
    """Rows of float32, NaN where missing. New rows are written where no earlier picture looks: they cost no copy."""

    def __init__(self, size: int) -> None:
        self.value: NDArray[np.float32] = np.empty((0, size), np.float32)
        self._held = self.value
        """`value` and room for more."""

    def patch(self, count: int, rows: IntArray, values: Sequence[AttributeValue]) -> None:
        known, size = self.value.shape
        came = np.full((len(values), size), np.nan, np.float32)
        for place, value in enumerate(values):
            vector = unpack(value, size)
            if vector is not None:
                came[place] = vector
        old = int(np.searchsorted(rows, known))  # rows ascend: those before are not new
        if old and self.value[rows[:old]].tobytes() != came[:old].tobytes():
            self._hold(max(len(self._held), count))
            self._held[rows[:old]] = came[:old]
        elif count > len(self._held):
            self._hold(count + count // 8)
        if count > known:
            self._held[known:count] = np.nan
            self._held[rows[old:]] = came[old:]
        if count != known or self.value.base is not self._held:
            self.value = self._held[:count]

    def _hold(self, room: int) -> None:
        """Go on in an array of its own."""
        held = np.empty((room, self.value.shape[1]), np.float32)
        held[: len(self.value)] = self.value
        self._held = held


def _same(old: Ragged, rows: IntArray, offsets: IntArray, codes: NDArray[np.int32]) -> bool:
    """Whether the rows hold these runs already."""
    if not np.array_equal(old.offsets[rows + 1] - old.offsets[rows], np.diff(offsets)):
        return False
    held = [old.codes[old.offsets[row] : old.offsets[row + 1]] for row in rows.tolist()]
    return np.array_equal(np.concatenate(held) if held else codes[:0], codes)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def _timestamp(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else MISSING_TIME


def _flag(value: Any) -> int:
    return int(value) if isinstance(value, bool) else -1


def _distinct(value: AttributeValue) -> list[str]:
    return list(dict.fromkeys(tag for tag in value if isinstance(tag, str))) if isinstance(value, list) else []
