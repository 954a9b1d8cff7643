"""The feature matrix of the candidates: which columns there are is decided once, their values by (query, items)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates
from penchant.core.errors import ContractError, SettingsError
from penchant.core.events import AttributeValue
from penchant.core.hashing import fingerprint, hash_id
from penchant.core.items import Category, Items, Ragged
from penchant.core.query import Query
from penchant.core.schema import Attribute, Schema
from penchant.core.stages import RowScorer
from penchant.features.attributes import value_keys
from penchant.features.finalise import finish_cross
from penchant.features.plan import Cross, Plan
from penchant.ranking import kernels

VERSION: Final = "1"
"""Part of the fingerprint: raised when a column keeps its name and changes its meaning."""

PAST: Final = 50
"""How many of the user's newest liked items `match` and `since` look at."""

_CODE_SHIFT: Final = 63 - 24
"""A category as a number is the top 24 bits of its hash: what float32 holds exactly, and the same in every process."""

_HOUR: Final = 3_600_000
_FIRST_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; weekdays count from Monday, 0."""

_NO_KEYS: Final = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """An attribute as sets of codes by row: those of row `r` are `codes[offsets[r]:offsets[r + 1]]`."""

    offsets: NDArray[np.int64]
    codes: NDArray[np.int32]
    hashes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What the assembler prepares from a picture of the items."""

    static: NDArray[np.float32]
    """float32[count, columns]: numbers, flags and coded categories."""
    times: NDArray[np.int64]
    """int64[count, columns]: milliseconds, `kernels.MISSING_TIME` where missing."""
    sets: dict[str, Sets]


class FeatureAssembler:
    """Makes the matrix of these columns, in this order; all float32, NaN is missing.

    - `item.FEATURE`: the item's features, as in the picture.
    - `attr.NAME`: numbers; flags as 0 and 1; categories as a 24-bit hash; timestamps as age in days at `query.now`.
    - `cross.FEATURE`: the user's integers summed over the candidate's values of an item attribute, then finished.
    - `keyed.FEATURE`: the item's integers summed over the user's values of a user attribute, then finished.
    - `match.NAME`, `since.NAME`, by category and tags attribute: how the candidate's values occur among the user's
      newest `PAST` liked items (see `kernels.overlap`).
    - `score.SOURCE`: what a source says of the row.
    - `user.FEATURE`, `user.history_length` (liked items known), `user_attr.NAME`, `context.NAME` (coded as `attr`),
      `time.hour`, `time.weekday` (UTC, Monday is 0): the same for every candidate.
    """

    table: Final = "assembler"
    """Where `prepare`'s result is kept in `Items.tables`."""

    def __init__(self, plan: Plan, schema: Schema, scorers: Sequence[RowScorer] = ()) -> None:
        self._item_names = plan.item_names
        self._user_width = len(plan.user_names)
        self._static = [one for one in schema.item.values() if one.kind in ("number", "flag", "category")]
        self._times = [one for one in schema.item.values() if one.kind == "timestamp"]
        self._sets = [one for one in schema.item.values() if one.kind in ("category", "tags")]
        self._cross = plan.cross
        self._keyed = plan.keyed
        self._scorers = tuple(scorers)
        self._user = _coded(schema.user)
        self._context = _coded(schema.context)
        self.names: tuple[str, ...] = (
            *(f"item.{name}" for name in plan.item_names),
            *(f"attr.{one.name}" for one in (*self._static, *self._times)),
            *(f"cross.{cross.name}" for cross in plan.cross),
            *(f"keyed.{cross.name}" for cross in plan.keyed),
            *(f"{kind}.{one.name}" for one in self._sets for kind in ("match", "since")),
            *(f"score.{scorer.name}" for scorer in scorers),
            *(f"user.{name}" for name in plan.user_names),
            "user.history_length",
            *(f"user_attr.{one.name}" for one in self._user),
            *(f"context.{one.name}" for one in self._context),
            "time.hour",
            "time.weekday",
        )
        if len(set(self.names)) != len(self.names):
            twice = sorted(name for name in self.names if self.names.count(name) > 1)[0]
            raise SettingsError(f"features: two columns are called {twice}; rename the feature")
        kinds = [f"{one.name}:{one.kind}" for one in (*self._static, *self._times, *self._user, *self._context)]
        self.fingerprint = fingerprint("assembler", VERSION, plan.view_fingerprint, *self.names, *kinds)
        self._kept: dict[str, tuple[tuple[object, ...], Any]] = {}

    def prepare(self, items: Items) -> Table:
        """The item columns that no request changes; parts whose columns the picture shares are taken over."""
        if items.feature_names != self._item_names:
            raise ContractError(f"the picture has features {items.feature_names}, planned were {self._item_names}")
        static = [part for one in self._static for part in _inputs(items, one)]
        times = [items.timestamps[one.name] for one in self._times]
        sets: dict[str, Sets] = {}
        for one in self._sets:
            given: Category | Ragged = (items.categories if one.kind == "category" else items.tags)[one.name]
            sets[one.name] = self._once(one.name, (given.codes, given.vocabulary.hashes), partial(_sets, given))
        return Table(
            self._once("", static, lambda: _static(items, self._static)),
            self._once(" ", times, lambda: _columns(times, items.count, np.int64)),
            sets,
        )

    def _once(self, key: str, inputs: Sequence[object], make: Callable[[], Any]) -> Any:
        """What was made of the very same inputs the last time, or made now. Called by one thread at a time."""
        known = self._kept.get(key)
        if known is None or any(a is not b for a, b in zip(known[0], inputs, strict=True)):
            known = self._kept[key] = (tuple(inputs), make())
        return known[1]

    def assemble(self, query: Query, candidates: Candidates) -> NDArray[np.float32]:
        """float32[len(names), len(candidates)], its rows not contiguous with each other; NaN is missing."""
        table = query.items.tables[self.table]
        if not isinstance(table, Table):
            raise ContractError("the picture was not prepared by this assembler")
        rows = candidates.rows
        if len(rows) == 0:
            return np.empty((len(self.names), 0), np.float32)
        out = kernels.empty_matrix(len(self.names), len(rows))
        kernels.gather(query.items.features, table.static, table.times, rows, query.now, out)
        at = len(self._item_names) + len(self._static) + len(self._times)
        for cross in self._cross:
            out[at] = self._crossed(cross, query, table, rows)
            at += 1
        for cross in self._keyed:
            out[at] = _keyed(cross, query, rows)
            at += 1
        past = query.history[:PAST]
        for one in self._sets:
            held = table.sets[one.name]
            kernels.overlap(held.offsets, held.codes, past, rows, out[at], out[at + 1])
            at += 2
        for scorer in self._scorers:
            out[at] = scorer.score_rows(query, rows)
            at += 1
        out[at:] = self._shared(query)[:, None]
        return out

    def _crossed(self, cross: Cross, query: Query, table: Table, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        held = table.sets[cross.attribute]
        parts = query.user.keyed
        above, below = (
            kernels.sum_by_code(*(parts[part] if parts else _NO_KEYS), held.offsets, held.codes, held.hashes, rows)
            if part >= 0
            else 0
            for part in (cross.part, cross.per)
        )
        return finish_cross(cross, np.asarray(above, np.int64), below)

    def _shared(self, query: Query) -> NDArray[np.float32]:
        """The columns that are the same for every candidate."""
        user = query.user.features
        if len(user) not in (0, self._user_width):
            raise ContractError(f"the user has {len(user)} features, planned were {self._user_width}")
        given = list(user.tolist()) if len(user) else [np.nan] * self._user_width
        given.append(len(query.history))
        given += [_coded_value(query.user.attributes.get(one.name), one, query.now) for one in self._user]
        given += [_coded_value(query.context.get(one.name), one, query.now) for one in self._context]
        given.append(query.now // _HOUR % 24)
        given.append((query.now // kernels.DAY + _FIRST_WEEKDAY) % 7)
        with np.errstate(over="ignore"):
            return np.array(given, np.float64).astype(np.float32)


def _keyed(cross: Cross, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
    wanted = np.array(value_keys(query.user.attributes.get(cross.attribute)), np.int64)
    sums: list[NDArray[np.int64] | int] = []
    for name in (cross.name, cross.per_name if cross.per >= 0 else None):
        if name is None:
            sums.append(0)
        else:
            held = query.items.keyed[name]
            sums.append(kernels.sum_by_key(held.offsets, held.keys, held.values, wanted, rows))
    return finish_cross(cross, np.asarray(sums[0], np.int64), sums[1])


def _coded(declared: Any) -> list[Attribute]:
    return [one for one in declared.values() if one.kind in ("number", "flag", "category", "timestamp")]


def _coded_value(value: AttributeValue, one: Attribute, now: int) -> float:
    """An attribute of a user or of the context as a number, coded as item attributes are."""
    if value is None or isinstance(value, list):
        return np.nan
    if isinstance(value, str):
        return float(hash_id(value) >> _CODE_SHIFT) if one.kind == "category" else np.nan
    return (now - value) / kernels.DAY if one.kind == "timestamp" else float(value)


def _inputs(items: Items, one: Attribute) -> tuple[object, ...]:
    """What a static column is made from."""
    if one.kind == "category":
        held = items.categories[one.name]
        return held.codes, held.vocabulary.hashes
    return (items.numbers[one.name],) if one.kind == "number" else (items.flags[one.name],)


def _static(items: Items, declared: Sequence[Attribute]) -> NDArray[np.float32]:
    columns: list[NDArray[Any]] = []
    for one in declared:
        if one.kind == "number":
            columns.append(items.numbers[one.name])
        elif one.kind == "flag":
            flags = items.flags[one.name]
            columns.append(np.where(flags < 0, np.nan, flags))
        else:
            held = items.categories[one.name]
            codes = np.append(held.vocabulary.hashes >> _CODE_SHIFT, 0)[held.codes]
            columns.append(np.where(held.codes < 0, np.nan, codes))
    matrix: NDArray[np.float32] = _columns(columns, items.count, np.float32)
    return matrix


def _columns(columns: Sequence[NDArray[Any]], count: int, dtype: type[np.generic]) -> Any:
    """Columns as one row-major matrix: one gather a candidate. What float32 cannot hold becomes infinite."""
    matrix = np.empty((count, len(columns)), dtype)
    with np.errstate(over="ignore"):
        for index, column in enumerate(columns):
            matrix[:, index] = column
    return matrix


def _sets(held: Category | Ragged) -> Sets:
    if isinstance(held, Ragged):
        return Sets(held.offsets, held.codes, held.vocabulary.hashes)
    known = held.codes >= 0
    offsets = np.zeros(len(known) + 1, np.int64)
    np.cumsum(known, out=offsets[1:])
    return Sets(offsets, held.codes[known], held.vocabulary.hashes)
