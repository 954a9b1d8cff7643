"""Point-in-time features by an engine that speaks SQL: what both engines share around the statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.core.hashing import hash_id
from penchant.core.items import Keyed
from penchant.features.finalise import Finaliser
from penchant.features.history import Extract
from penchant.features.plan import ListState, Part, Plan, SidePlan
from penchant.features.spec import Side
from penchant.features.sql import LIST_COLUMNS, Statements

Ints = NDArray[np.int64]


class Engine(Protocol):
    """Runs SQL over named tables of int64 columns."""

    def divide(self, left: str, right: int) -> str:
        """SQL for an integer divided by a positive constant, cut towards zero."""

    def table(self, name: str, columns: Mapping[str, Ints]) -> None:
        """Make a table, in place of the one of that name."""

    def view(self, name: str, query: str) -> None:
        """Give a query a name."""

    def keep(self, name: str, query: str) -> None:
        """Work out a query once and keep its rows under a name, in place of those before."""

    def rows(self, query: str) -> Mapping[str, Ints]:
        """The columns of a query's rows, in any order of rows."""


def load(engine: Engine, data: Extract) -> None:
    """Make the tables that `sql.Statements` read."""
    engine.table("touch_user", data.touches)
    if data.item_touches is None:
        engine.view("touch_item", "SELECT * FROM touch_user")
    else:
        engine.table("touch_item", data.item_touches)
    engine.table("erased", data.erased)
    engine.table("keys_user", data.item_keys)
    engine.table("keys_item", data.user_keys)


@dataclass(frozen=True, slots=True, eq=False)
class Recomputed:
    """What the log says, by request."""

    integers: Ints
    """int64[n, slots], as the online kernel gives."""
    features: NDArray[np.float32]
    """float32[n, columns]."""
    keyed: dict[str, Keyed]
    """By cross name and `Cross.per_name`."""
    tops: dict[str, list[list[tuple[int, int]]]]
    """By feature name: (key, count) by (count descending, key ascending)."""
    lists: list[list[Ints]]
    """By list state of the plan: rows as the blob holds them, newest first."""
    lasts: dict[str, list[Ints]]
    """By feature name: the rows a `last` feature shows."""


class PointInTime:
    """Evaluates a plan with an engine whose tables hold the log (see `sql.Statements`)."""

    def __init__(self, plan: Plan, engine: Engine) -> None:
        self._engine = engine
        self._sides = {side.side: side for side in (plan.user, plan.item)}
        self._statements = {side.side: Statements(side, engine.divide) for side in (plan.user, plan.item)}
        for side in (plan.user, plan.item):
            tables = list(side.weights.values())
            lengths = [len(table) for table in tables]
            engine.table(
                f"weight_{side.side}",
                {
                    "decay": np.repeat(np.arange(len(tables), dtype=np.int64), lengths),
                    "k": np.concatenate([np.zeros(0, np.int64), *(np.arange(n, dtype=np.int64) for n in lengths)]),
                    "w": np.concatenate([np.zeros(0, np.int64), *tables]),
                },
            )

    def evaluate(
        self, side: Side, entities: Sequence[str], positions: Sequence[int] | Ints, now: Sequence[int] | Ints
    ) -> Recomputed:
        """Features of `entities[i]` as visible at `positions[i]`, at the time `now[i]` (ms)."""
        plan, statements = self._sides[side], self._statements[side]
        n = len(entities)
        self._engine.table(
            "asked",
            {
                "rid": np.arange(n, dtype=np.int64),
                "entity": np.array([hash_id(entity) for entity in entities], np.int64),
                "position": np.asarray(positions, np.int64),
                "asked_at": np.asarray(now, np.int64),
            },
        )
        self._engine.keep("seen", statements.seen())
        integers = self._scalars(plan, statements, n)
        keyed = [self._keyed(statements, part, n) for part in plan.keyed]
        crosses: dict[str, Keyed] = {}
        for cross in plan.crosses:
            crosses[cross.name] = keyed[cross.part]
            if cross.per >= 0:
                crosses[cross.per_name] = keyed[cross.per]
        tops = {
            listing.name: [_top(keyed[listing.index], rid, listing.n) for rid in range(n)]
            for listing in plan.listings
            if listing.agg == "top"
        }
        lasts = {
            listing.name: self._list(statements, ListState(listing.actions, listing.n), n, listing.window, listing.hop)
            for listing in plan.listings
            if listing.agg == "last"
        }
        return Recomputed(
            integers=integers,
            features=Finaliser(plan.columns).finish(integers),
            keyed=crosses,
            tops=tops,
            lists=[self._list(statements, kept, n) for kept in plan.lists],
            lasts=lasts,
        )

    def _scalars(self, plan: SidePlan, statements: Statements, n: int) -> Ints:
        integers = np.zeros((n, plan.slots), np.int64)
        sums = [part for part in plan.parts if not part.k and not part.half_life]
        if sums:
            rows = self._engine.rows(statements.sums(sums))
            for index, part in enumerate(sums):
                integers[rows["rid"], part.slot] = rows[f"s{index}"]
        for part in plan.parts:
            if part.half_life:
                rows = self._engine.rows(statements.decayed(part))
                integers[rows["rid"], part.slot] = rows["total"]
            elif part.k:
                rows = self._engine.rows(statements.distinct(part))
                integers[rows["rid"], part.slot] = rows["n"]
                integers[rows["rid"], part.slot + 1] = np.where(rows["n"] == part.k, rows["kth"], 0)
        return integers

    def _keyed(self, statements: Statements, part: Part, n: int) -> Keyed:
        rows = self._engine.rows(statements.keyed(part))
        order = np.lexsort((rows["key"], rows["rid"]))
        rids = rows["rid"][order]
        return Keyed(np.searchsorted(rids, np.arange(n + 1)).astype(np.int64), rows["key"][order], rows["total"][order])

    def _list(self, statements: Statements, kept: ListState, n: int, window: int = 0, hop: int = 0) -> list[Ints]:
        rows = self._engine.rows(statements.newest(kept, window, hop))
        order = np.lexsort((rows["place"], rows["rid"]))
        names = LIST_COLUMNS[:3] if kept.distinct else LIST_COLUMNS
        table: Any = np.column_stack([rows[name][order] for name in names])
        at = np.searchsorted(rows["rid"][order], np.arange(n + 1))
        return [table[at[rid] : at[rid + 1]] for rid in range(n)]


def _top(keyed: Keyed, rid: int, n: int) -> list[tuple[int, int]]:
    rows = slice(keyed.offsets[rid], keyed.offsets[rid + 1])
    pairs = zip(keyed.keys[rows].tolist(), keyed.values[rows].tolist(), strict=True)
    return sorted((pair for pair in pairs if pair[1] > 0), key=lambda pair: (-pair[1], pair[0]))[:n]
