"""The catalogue as TF-IDF vectors, both ways round: terms of a row, rows of a term."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.hashing import hash_id
from penchant.core.items import Items

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, eq=False)
class ContentTable:
    """L2-normalised vectors: row `r` has `values[offsets[r]:offsets[r + 1]]` at `terms[...]`, ascending.

    Inverted: term `t` is in `rows[starts[t]:starts[t + 1]]`, ascending, with `weights[...]`.
    """

    offsets: NDArray[np.int64]
    terms: NDArray[np.int32]
    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """One attribute: the terms of row `r` are `codes[offsets[r]:offsets[r + 1]]`, each once."""

    name: str
    offsets: NDArray[np.int64]
    codes: NDArray[np.int64]
    order: NDArray[np.int64]
    """Term codes in an order that depends on the terms alone, not on who came first."""
    size: int


class TermIndex:
    """Makes `ContentTable`s, and makes none while the catalogue's columns are the same objects.

    The words of a text are looked up by the text, so that a change of few items costs little. What comes out does not
    depend on what was kept. One thread at a time.
    """

    def __init__(self) -> None:
        self._texts: dict[str, _Texts] = {}
        self._count = -1
        self._names: list[str] = []
        self._columns: list[object] = []
        self._table: ContentTable | None = None

    def build(self, items: Items, weights: Mapping[str, float]) -> ContentTable:
        """The vectors of all rows of the picture.

        A term counts once a row; its value is `ln(1 + rows / rows with the term)` times the weight of its attribute
        (1 unless given). One word in two attributes is two terms.
        """
        names = sorted({*items.texts, *items.tags, *items.categories})
        names = [name for name in names if weights.get(name, 1.0) > 0]
        columns = [_column(items, name) for name in names]
        same = (items.count, names) == (self._count, self._names)
        if self._table is not None and same and all(map(operator.is_, columns, self._columns)):
            return self._table
        table = _vectors([self._field(items, name) for name in names], items.count, weights)
        self._count, self._names, self._columns, self._table = items.count, names, columns, table
        return table

    def _field(self, items: Items, name: str) -> _Field:
        count = items.count
        if name in items.texts:
            return self._texts.setdefault(name, _Texts()).field(name, items.texts[name], count)
        if name in items.tags:
            tags = items.tags[name]
            offsets = tags.offsets[: count + 1]
            hashes = tags.vocabulary.hashes
            return _Field(name, offsets, tags.codes[: offsets[-1]].astype(np.int64), np.argsort(hashes), len(hashes))
        category = items.categories[name]
        codes = category.codes[:count].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(codes >= 0)])
        hashes = category.vocabulary.hashes
        return _Field(name, offsets, codes[codes >= 0], np.argsort(hashes), len(hashes))


class _Texts:
    """The words of one text attribute, kept by the text."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._texts: dict[str, NDArray[np.int64]] = {}

    def field(self, name: str, texts: Sequence[str | None], count: int) -> _Field:
        if len(self._texts) > 2 * count + 1_000:
            self._words, self._texts = {}, {}  # most are of items gone or changed
        kept = self._texts
        rows = [kept[text] if text in kept else self._read(text) for text in (texts[row] or "" for row in range(count))]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        codes = np.concatenate(rows) if rows else np.empty(0, np.int64)
        hashes = np.array([hash_id(word) for word in self._words], np.int64)
        return _Field(name, offsets, codes, np.argsort(hashes), len(hashes))

    def _read(self, text: str) -> NDArray[np.int64]:
        words = self._words
        codes = {words.setdefault(word, len(words)) for word in _WORD.findall(text.lower())}
        self._texts[text] = row = np.fromiter(codes, np.int64, len(codes))
        return row


def _column(items: Items, name: str) -> object:
    if name in items.texts:
        return items.texts[name]
    return items.tags[name] if name in items.tags else items.categories[name]


def _vectors(fields: Sequence[_Field], count: int, weights: Mapping[str, float]) -> ContentTable:
    rows = [np.empty(0, np.int32)]
    terms = [np.empty(0, np.int32)]
    values = [np.empty(0)]
    size = 0
    for column in fields:
        found = np.bincount(column.codes, minlength=column.size)
        used = column.order[found[column.order] > 0]
        rank = np.empty(column.size, np.int32)
        rank[used] = np.arange(size, size + len(used), dtype=np.int32)
        rarity = weights.get(column.name, 1.0) * np.log1p(count / np.maximum(found, 1))
        rows.append(np.repeat(np.arange(count, dtype=np.int32), np.diff(column.offsets)))
        terms.append(rank[column.codes])
        values.append(rarity[column.codes])
        size += len(used)
    # By term and then by row: within a row terms now ascend, so that sums run in one order whatever the codes were.
    starts, by_term, by_row, value = _by(np.concatenate(terms), np.concatenate(rows), np.concatenate(values), size)
    offsets, _, term, forward = _by(by_row, by_term, value, count)
    norms = _norms(offsets, forward)
    return ContentTable(
        offsets,
        term,
        (forward / np.repeat(norms, np.diff(offsets))).astype(np.float32),
        starts,
        by_row,
        (value / norms[by_row]).astype(np.float32),
    )


@kernel
def _by(
    keys: NDArray[np.int32], others: NDArray[np.int32], values: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Where each key (0 to `size`) starts, and the triples by key, those of one key as they stood: a counting sort."""
    starts = np.zeros(size + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for key in range(size):
        starts[key + 1] += starts[key]
    free = starts.copy()
    sorted_keys, sorted_others, sorted_values = np.empty_like(keys), np.empty_like(others), np.empty_like(values)
    for at in range(len(keys)):
        to = free[keys[at]]
        free[keys[at]] = to + 1
        sorted_keys[to], sorted_others[to], sorted_values[to] = keys[at], others[at], values[at]
    return starts, sorted_keys, sorted_others, sorted_values


@kernel
def _norms(offsets: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The L2 norm of each row's values."""
    norms = np.empty(len(offsets) - 1, np.float64)
    for row in range(len(norms)):
        total = 0.0
        for at in range(offsets[row], offsets[row + 1]):
            total += values[at] * values[at]
        norms[row] = np.sqrt(total)
    return norms
