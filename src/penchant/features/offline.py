"""The same plan over exported records in DuckDB: point-in-time features for any (entity, position, time).

SQL does what the fold and the kernels do online, from the definition and without tiles of state: it returns integers,
and the one finaliser makes the float32. Nothing of the online path is shared but the plan and the finaliser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from penchant.core.hashing import hash_id
from penchant.core.items import Keyed
from penchant.core.log import Record
from penchant.core.schema import Schema
from penchant.features.finalise import Finaliser
from penchant.features.history import Extract, extract
from penchant.features.plan import Cell, ListState, Part, Plan, SidePlan
from penchant.features.spec import Side

Ints = NDArray[np.int64]

# SQL's // cuts towards zero; tiles before 1970 need the floor.
_FLOOR = "CREATE MACRO tile(t, h) AS CASE WHEN t >= 0 THEN t // h ELSE -((h - 1 - t) // h) END"


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


class OfflineFeatures:
    """Records loaded into DuckDB; ask for as many points as you like.

    Features of ["user", item attribute] and the like see the attributes as of each record's position.
    """

    def __init__(self, plan: Plan, schema: Schema, records: Iterable[Record]) -> None:
        self._sides = {"user": plan.user, "item": plan.item}
        self._db = duckdb.connect()
        self._db.execute(_FLOOR)
        self._load(extract(records, schema, plan))

    def close(self) -> None:
        self._db.close()

    def evaluate(
        self, side: Side, entities: Sequence[str], positions: Sequence[int] | Ints, now: Sequence[int] | Ints
    ) -> Recomputed:
        """Features of `entities[i]` as visible at `positions[i]`, at the time `now[i]` (ms)."""
        plan = self._sides[side]
        n = len(entities)
        self._table(
            "asked",
            rid=np.arange(n, dtype=np.int64),
            entity=np.array([hash_id(entity) for entity in entities], np.int64),
            position=np.asarray(positions, np.int64),
            now=np.asarray(now, np.int64),
        )
        born = (
            "coalesce((SELECT max(x.position) FROM erased x WHERE x.user = a.entity AND x.position <= a.position), 0)"
        )
        self._db.execute(
            f"CREATE OR REPLACE TEMP TABLE seen AS SELECT a.rid, a.now, t.* FROM "
            f"(SELECT a.*, {born if side == 'user' else '0'} AS born FROM asked a) a "
            f"JOIN touch t ON t.{side} = a.entity AND t.position <= a.position AND t.position > a.born"
        )
        integers = self._scalars(plan, n)
        keyed = [self._keyed(plan, part, n) for part in plan.keyed]
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
            listing.name: self._list(plan, ListState(listing.actions, listing.n), n, listing.window, listing.hop)
            for listing in plan.listings
            if listing.agg == "last"
        }
        return Recomputed(
            integers=integers,
            features=Finaliser(plan.columns).finish(integers),
            keyed=crosses,
            tops=tops,
            lists=[self._list(plan, kept, n) for kept in plan.lists],
            lasts=lasts,
        )

    def _load(self, data: Extract) -> None:
        self._table("touch_raw", **data.touches)
        self._table("erased", user=data.erased[0], position=data.erased[1])
        for kind, profiles in (("item", data.item_profiles), ("user", data.user_profiles)):
            self._table(f"{kind}_profile", entity=profiles.entity, position=profiles.position, version=profiles.version)
            self._table(f"{kind}_key", version=profiles.key_version, attribute=profiles.attribute, key=profiles.key)
        self._db.execute(
            "CREATE TABLE touch AS SELECT t.*, i.version AS item_version, u.version AS user_version FROM touch_raw t "
            "ASOF LEFT JOIN item_profile i ON t.item = i.entity AND t.position >= i.position "
            "ASOF LEFT JOIN user_profile u ON t.user = u.entity AND t.position >= u.position"
        )

    def _table(self, name: str, **columns: Ints) -> None:
        self._db.register("numpy_columns", columns)
        self._db.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM numpy_columns")
        self._db.unregister("numpy_columns")

    def _scalars(self, plan: SidePlan, n: int) -> Ints:
        integers = np.zeros((n, plan.slots), np.int64)
        sums = [part for part in plan.parts if not part.k and not part.half_life]
        if sums:
            terms = ", ".join(
                f"coalesce(sum({_measure(plan.cells[part.cell])}) FILTER (WHERE {_where(plan, part)}), 0)::BIGINT"
                for part in sums
            )
            for row in self._db.execute(f"SELECT rid, {terms} FROM seen GROUP BY rid").fetchall():
                for part, value in zip(sums, row[1:], strict=True):
                    integers[row[0], part.slot] = value
        for part in plan.parts:
            if part.half_life:
                query = f"SELECT rid, {self._total(plan, part)} FROM {self._source(plan, part)} GROUP BY rid"
                for rid, value in self._db.execute(query).fetchall():
                    integers[rid, part.slot] = value
            elif part.k:
                other = "item" if plan.side == "user" else "user"
                query = (
                    f"SELECT rid, count(*), max(h) FROM (SELECT DISTINCT rid, {other} AS h FROM seen WHERE "
                    f"{_where(plan, part)} QUALIFY dense_rank() OVER (PARTITION BY rid ORDER BY {other}) <= {part.k}) "
                    f"GROUP BY rid"
                )
                for rid, count, largest in self._db.execute(query).fetchall():
                    integers[rid, part.slot] = count
                    integers[rid, part.slot + 1] = largest if count == part.k else 0
        return integers

    def _keyed(self, plan: SidePlan, part: Part, n: int) -> Keyed:
        other = "item" if plan.side == "user" else "user"
        attribute = plan.attributes.index(str(plan.cells[part.cell].key))
        rows = self._db.execute(
            f"SELECT rid, key, total FROM (SELECT rid, key, {self._total(plan, part)} AS total "
            f"FROM {self._source(plan, part)} JOIN {other}_key v ON v.version = {other}_version "
            f"AND v.attribute = {attribute} GROUP BY rid, key) WHERE total <> 0 ORDER BY rid, key"
        ).fetchnumpy()
        rids = np.asarray(rows["rid"], np.int64)
        return Keyed(
            np.searchsorted(rids, np.arange(n + 1)).astype(np.int64),
            np.asarray(rows["key"], np.int64),
            np.asarray(rows["total"], np.int64),
        )

    def _source(self, plan: SidePlan, part: Part) -> str:
        """The records of a part, with their weight `w` where they decay."""
        if not part.half_life:
            return f"(SELECT *, 1 AS w FROM seen WHERE {_where(plan, part)})"
        table = plan.weights[part.half_life, part.hop]
        self._table("weight", k=np.arange(len(table), dtype=np.int64), w=table)
        age = f"greatest(tile(now, {part.hop}) - tile(ts, {part.hop}), 0)"
        return f"(SELECT seen.*, weight.w FROM seen JOIN weight ON weight.k = {age} WHERE {_where(plan, part)})"

    @staticmethod
    def _total(plan: SidePlan, part: Part) -> str:
        return f"sum(w * {_measure(plan.cells[part.cell])})::BIGINT"

    def _list(self, plan: SidePlan, kept: ListState, n: int, window: int = 0, hop: int = 0) -> list[Ints]:
        other = "item" if plan.side == "user" else "user"
        columns = ["ts", "position", other] if kept.distinct else ["ts", "position", other, "action", "q"]
        source = f"SELECT * FROM seen WHERE {_actions(kept.actions)} AND {_inside(window, hop)}"
        if kept.distinct:
            source += f" QUALIFY row_number() OVER (PARTITION BY rid, {other} ORDER BY ts DESC, position DESC) = 1"
        rows = self._db.execute(
            f"SELECT rid, {', '.join(columns)} FROM ({source}) QUALIFY row_number() OVER "
            f"(PARTITION BY rid ORDER BY ts DESC, position DESC) <= {kept.n} ORDER BY rid, ts DESC, position DESC"
        ).fetchnumpy()
        table: Any = np.column_stack([np.asarray(rows[name], np.int64) for name in columns])
        at = np.searchsorted(np.asarray(rows["rid"], np.int64), np.arange(n + 1))
        return [table[at[rid] : at[rid + 1]] for rid in range(n)]


def _measure(cell: Cell) -> str:
    return {"count": "1", "value": "q", "present": "present"}[cell.measure]


def _actions(codes: frozenset[int]) -> str:
    return f"action IN ({', '.join(map(str, sorted(codes)))})" if codes else "false"


def _inside(window: int, hop: int) -> str:
    return f"tile(ts, {hop}) >= tile(now - {window}, {hop})" if window else "true"


def _where(plan: SidePlan, part: Part) -> str:
    return f"{_actions(plan.cells[part.cell].actions)} AND {_inside(part.window, part.hop)}"


def _top(keyed: Keyed, rid: int, n: int) -> list[tuple[int, int]]:
    rows = slice(keyed.offsets[rid], keyed.offsets[rid + 1])
    pairs = zip(keyed.keys[rows].tolist(), keyed.values[rows].tolist(), strict=True)
    return sorted((pair for pair in pairs if pair[1] > 0), key=lambda pair: (-pair[1], pair[0]))[:n]
