"""How alike two items are: the values of their categories and tags as sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.errors import SettingsError
from penchant.core.items import Category, Items, Ragged
from penchant.core.schema import Schema


class CodeSets(NamedTuple):
    """The codes of some rows by attribute: those of row `i` and attribute `a` are `codes[begin[a, i]:end[a, i]]`.

    `begin` and `end` are int64[attributes, rows]; codes ascend within a set.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    codes: NDArray[np.int32]


def set_attributes(schema: Schema, names: Iterable[str] | None, key: str) -> tuple[str, ...]:
    """The named item attributes, all categories and tags for `None`; raises `SettingsError` for any other kind."""
    sets = tuple(name for name, declared in schema.item.items() if declared.kind in ("category", "tags"))
    if names is None:
        return sets
    chosen = tuple(names)
    for name in chosen:
        if name not in sets:
            declared = schema.item.get(name)
            what = "is not declared" if declared is None else f"is a {declared.kind}"
            there = f"use one of: {', '.join(sets)}" if sets else "declare one as category or tags"
            raise SettingsError(f"{key}: {name!r} {what}; it must be a category or tags in [attributes.item]; {there}")
    return chosen


def gather(items: Items, attributes: Sequence[str], rows: NDArray[np.int32]) -> CodeSets:
    """The code sets of `rows`; an attribute that the picture does not have is empty everywhere."""
    begin = np.zeros((len(attributes), len(rows)), np.int64)
    end = np.zeros((len(attributes), len(rows)), np.int64)
    parts: list[NDArray[np.int32]] = []
    base = 0
    for a, name in enumerate(attributes):
        column: Category | Ragged | None = items.categories.get(name) or items.tags.get(name)
        if isinstance(column, Category):
            parts.append(_take_category(column.codes, rows, base, begin[a], end[a]))
        elif isinstance(column, Ragged):
            parts.append(_take_tags(column.offsets, column.codes, rows, base, begin[a], end[a]))
        else:
            continue
        base += len(parts[-1])
    return CodeSets(begin, end, np.concatenate(parts) if parts else np.empty(0, np.int32))


@kernel
def _take_category(
    codes: NDArray[np.int32],
    rows: NDArray[np.int32],
    base: int,
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
) -> NDArray[np.int32]:
    out = np.empty(len(rows), np.int32)
    n = 0
    for i in range(len(rows)):
        begin[i] = base + n
        code = codes[rows[i]]
        if code >= 0:
            out[n] = code
            n += 1
        end[i] = base + n
    return out[:n]


@kernel
def _take_tags(
    offsets: NDArray[np.int64],
    codes: NDArray[np.int32],
    rows: NDArray[np.int32],
    base: int,
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
) -> NDArray[np.int32]:
    total = 0
    for i in range(len(rows)):
        total += offsets[rows[i] + 1] - offsets[rows[i]]
    out = np.empty(total, np.int32)
    n = 0
    for i in range(len(rows)):
        begin[i] = base + n
        for k in range(offsets[rows[i]], offsets[rows[i] + 1]):
            out[n] = codes[k]
            n += 1
        end[i] = base + n
    return out


@kernel
def overlaps(
    begin: NDArray[np.int64], end: NDArray[np.int64], codes: NDArray[np.int32], j: int, limit: int
) -> NDArray[np.int32]:
    """How many codes each row below `limit` shares with row `j`, in one attribute (`begin`, `end` are its lines)."""
    out = np.zeros(limit, np.int32)
    if limit == 0:
        return out
    # Rows stand one behind the other, so that all codes are compared at once; running totals then give each row its
    # own without a loop inside the loop. Unsigned indexes need no test for counting from the end.
    base = np.uintp(begin[0])
    n = np.uintp(end[limit - 1]) - base
    one = np.uintp(1)
    totals = np.zeros(n + one, np.int32)
    for m in range(begin[j], end[j]):
        code = codes[m]
        for k in range(n):
            totals[k + one] += codes[base + k] == code
    for k in range(n):
        totals[k + one] += totals[k]
    for i in range(np.uintp(limit)):
        out[i] = totals[np.uintp(end[i]) - base] - totals[np.uintp(begin[i]) - base]
    return out


@kernel
def similarities(
    begin: NDArray[np.int64], end: NDArray[np.int64], codes: NDArray[np.int32], attributes: int, j: int, limit: int
) -> NDArray[np.float64]:
    """Of each row below `limit` with row `j`: mean over the first `attributes` attributes of |shared| / |either|.

    That is the Jaccard similarity of the sets, 0 where both are empty.
    """
    out = np.zeros(limit)
    for a in range(attributes):
        both = overlaps(begin[a], end[a], codes, j, limit)
        mine = end[a, j] - begin[a, j]
        for i in range(limit):
            out[i] += both[i] / max(mine + end[a, i] - begin[a, i] - both[i], 1)
    for i in range(limit):
        out[i] /= attributes
    return out


@kernel
def most_similar(
    begin: NDArray[np.int64], end: NDArray[np.int64], codes: NDArray[np.int32], split: int
) -> NDArray[np.int64]:
    """For each of the rows from `split` on, the most similar one below `split` (ties: the first), -1 for none."""
    n = begin.shape[1] - split
    out = np.full(n, -1, np.int64)
    for i in range(n):
        found = similarities(begin, end, codes, len(begin), split + i, split)
        best = 0.0
        for j in range(split):
            if found[j] > best:
                best = found[j]
                out[i] = j
    return out
