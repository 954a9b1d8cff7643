"""A plan as SQL that DuckDB and Spark both run; integers come out.

Only what both mean alike is used: 64-bit integers, joins, sums, windows. Their one difference is a dialect's: how an
integer is divided.
"""

from __future__ import annotations

from collections.abc import Callable

from penchant.core.clock import Millis
from penchant.features.plan import Cell, ListState, Part, SidePlan

Divide = Callable[[str, int], str]
"""SQL for an integer divided by a positive constant, cut towards zero."""

LIST_COLUMNS = ("ts", "position", "other", "action", "q")
"""What the rows of a list hold; those of a distinct list end after `other`."""


class Statements:
    """The queries of one side.

    They read `asked` (rid, entity, position, asked_at), `touch_SIDE` and `erased` (see `history`), `keys_SIDE` (the
    members of the other side's key sets), `weight_SIDE` (table, k, w: the decay tables by their index) and, after
    `seen`, the rows of that query under that name.
    """

    def __init__(self, plan: SidePlan, divide: Divide) -> None:
        self._plan = plan
        self._divide = divide
        self._other = "item" if plan.side == "user" else "user"
        self._tables = {key: index for index, key in enumerate(plan.weights)}

    def seen(self) -> str:
        """Every touch that each request may see, once per request."""
        side, other = self._plan.side, self._other
        asked, born = "asked", ""
        if side == "user":
            born = "AND t.position > a.born"
            asked = (
                "(SELECT p.rid, p.entity, p.position, p.asked_at, coalesce(max(x.position), -1) AS born FROM asked p "
                "LEFT JOIN erased x ON x.user_id = p.entity AND x.position <= p.position "
                "GROUP BY p.rid, p.entity, p.position, p.asked_at)"
            )
        return (
            "SELECT a.rid, a.asked_at, t.position, t.ts, t.action, t.q, t.present, "
            f"t.{other}_id AS other, t.{other}_keys AS other_keys "
            f"FROM {asked} a JOIN touch_{side} t ON t.{side}_id = a.entity AND t.position <= a.position {born}"
        )

    def sums(self, parts: list[Part]) -> str:
        """rid, then `s0`, `s1` .. for each part."""
        terms = ", ".join(
            f"CAST(coalesce(sum({self._measure(part)}) FILTER (WHERE {self._where(part)}), 0) AS BIGINT) AS s{index}"
            for index, part in enumerate(parts)
        )
        return f"SELECT rid, {terms} FROM seen GROUP BY rid"

    def decayed(self, part: Part) -> str:
        """rid, total: a scalar part with a half-life."""
        return f"SELECT rid, {self._total(part)} AS total FROM {self._source(part)} s GROUP BY rid"

    def distinct(self, part: Part) -> str:
        """rid, n, kth: how many of the k smallest hashes there are, and the largest of them."""
        return (
            "SELECT rid, count(*) AS n, max(h) AS kth FROM ("
            "SELECT rid, h, row_number() OVER (PARTITION BY rid ORDER BY h) AS place FROM ("
            f"SELECT DISTINCT rid, other AS h FROM seen WHERE {self._where(part)}) d) r "
            f"WHERE place <= {part.k} GROUP BY rid"
        )

    def keyed(self, part: Part) -> str:
        """rid, key, total: a part by the keys of the other side, without zeros."""
        attribute = self._plan.attributes.index(str(self._cell(part).key))
        return (
            f"SELECT rid, key, total FROM (SELECT s.rid, v.key, {self._total(part)} AS total "
            f"FROM {self._source(part)} s JOIN keys_{self._plan.side} v ON v.keys = s.other_keys "
            f"AND v.attribute = {attribute} GROUP BY s.rid, v.key) k WHERE total <> 0"
        )

    def newest(self, kept: ListState, window: Millis = 0, hop: Millis = 0) -> str:
        """rid, place (from 1, newest first), and the columns of a list's rows."""
        newest = "ORDER BY ts DESC, position DESC"
        columns = "rid, ts, position, other, action, q"
        source = f"SELECT {columns} FROM seen WHERE {_actions(kept.actions)} AND {self._inside(window, hop)}"
        if kept.distinct:
            source = (
                f"SELECT {columns} FROM (SELECT {columns}, row_number() OVER (PARTITION BY rid, other {newest}) "
                f"AS again FROM ({source}) o) f WHERE again = 1"
            )
        return (
            f"SELECT {columns}, place FROM (SELECT {columns}, row_number() OVER (PARTITION BY rid {newest}) AS place "
            f"FROM ({source}) s) n WHERE place <= {kept.n}"
        )

    def _source(self, part: Part) -> str:
        """The touches of a part, with their weight `w`."""
        if not part.half_life:
            return f"(SELECT seen.*, 1 AS w FROM seen WHERE {self._where(part)})"
        table = self._tables[part.half_life, part.hop]
        age = f"greatest({self._tile('asked_at', part.hop)} - {self._tile('ts', part.hop)}, 0)"
        return (
            f"(SELECT seen.*, d.w FROM seen JOIN weight_{self._plan.side} d ON d.k = {age} AND d.decay = {table} "
            f"WHERE {self._where(part)})"
        )

    def _total(self, part: Part) -> str:
        return f"CAST(sum(w * {self._measure(part)}) AS BIGINT)"

    def _where(self, part: Part) -> str:
        return f"{_actions(self._cell(part).actions)} AND {self._inside(part.window, part.hop)}"

    def _inside(self, window: Millis, hop: Millis) -> str:
        return f"{self._tile('ts', hop)} >= {self._tile(f'(asked_at - {window})', hop)}" if window else "true"

    def _tile(self, time: str, hop: Millis) -> str:
        # Division cuts towards zero; tiles before 1970 need the floor.
        below = self._divide(f"({hop - 1} - {time})", hop)
        return f"(CASE WHEN {time} >= 0 THEN {self._divide(time, hop)} ELSE -({below}) END)"

    def _measure(self, part: Part) -> str:
        return {"count": "1", "value": "q", "present": "present"}[self._cell(part).measure]

    def _cell(self, part: Part) -> Cell:
        return self._plan.cells[part.cell]


def _actions(codes: frozenset[int]) -> str:
    return f"action IN ({', '.join(map(str, sorted(codes)))})" if codes else "false"
