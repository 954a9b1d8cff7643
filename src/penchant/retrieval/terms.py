"""The catalogue as TF-IDF vectors, both ways round: terms of a row, rows of a term."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

        Each attribute's vector (a term counts once; `idf = ln(1 + rows / rows with the term)`) is normalised, times
        its weight, so that a long text does not drown two tags; then the whole is normalised.
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
    all_rows, all_terms, all_values = [], [], []
    base = 0
    for column in fields:
        rows = np.repeat(np.arange(count), np.diff(column.offsets))
        found = np.bincount(column.codes, minlength=column.size)
        rank = np.empty(column.size, np.int64)
        used = column.order[found[column.order] > 0]
        rank[used] = np.arange(len(used))
        idf = np.log1p(count / np.maximum(found, 1))
        values = idf[column.codes]
        terms = rank[column.codes]
        by_term = np.lexsort((terms, rows))  # sums in the order of terms, whatever the codes
        rows, terms, values = rows[by_term], terms[by_term], values[by_term]
        norms = np.sqrt(np.bincount(rows, values * values, minlength=count))
        all_rows.append(rows)
        all_terms.append(terms + base)
        all_values.append(values / norms[rows] * weights.get(column.name, 1.0))
        base += len(used)
    rows = np.concatenate([*all_rows, np.empty(0, np.int64)])
    terms = np.concatenate([*all_terms, np.empty(0, np.int64)])
    values = np.concatenate([*all_values, np.empty(0)])
    forward = np.argsort(rows, kind="stable")  # fields follow each other with growing terms, so terms ascend in a row
    rows, terms, values = rows[forward], terms[forward], values[forward]
    norms = np.sqrt(np.bincount(rows, values * values, minlength=count))
    values = (values / norms[rows]).astype(np.float32)
    inverted = np.argsort(terms, kind="stable")
    return ContentTable(
        np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]),
        terms.astype(np.int32),
        values,
        np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=base))]),
        rows[inverted].astype(np.int32),
        values[inverted],
    )
