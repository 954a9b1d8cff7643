"""Plain second implementations of the request path: merging, fusion and features, one value at a time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from penchant.core.hashing import hash_id
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.features.plan import Cross, Plan


def merge(
    proposals: Sequence[Sequence[int]], quotas: Sequence[int], eligible: Sequence[bool]
) -> tuple[list[int], list[int], list[list[int | None]]]:
    """Rows, bits, and per source the rank of each row (from 1): weighted round robin over the proposals."""
    lists = [[(rank, row) for rank, row in enumerate(rows, 1) if eligible[row]] for rows in proposals]
    taken = [0] * len(lists)
    rows: list[int] = []
    waiting = [list(entries) for entries in lists]
    while any(waiting):
        turn = min(
            (source for source in range(len(lists)) if waiting[source]),
            key=lambda source: (Fraction(taken[source] + 1, quotas[source]), source),
        )
        while waiting[turn]:
            _, row = waiting[turn].pop(0)
            if row not in rows:
                rows.append(row)
                taken[turn] += 1
                break
    ranks: list[list[int | None]] = [
        [{row: rank for rank, row in entries}.get(row) for row in rows] for entries in lists
    ]
    bits = [sum(1 << source for source in range(len(lists)) if ranks[source][at]) for at in range(len(rows))]
    return rows, bits, ranks


def fuse(ranks: Sequence[int | None], weights: Sequence[float]) -> float:
    """Reciprocal-rank fusion of one row, 1 where every source puts it first."""
    shares = [w * 21 / (20 + rank) for rank, w in zip(ranks, weights, strict=True) if rank is not None]
    return math.fsum(shares) / math.fsum(weights)


def describe(query: Query, row: int, plan: Plan, schema: Schema) -> dict[str, float]:
    """Every column of one candidate but `score.*`, as float64 before the one rounding to float32."""
    items, user = query.items, query.user
    told: dict[str, float] = {}
    for index, name in enumerate(plan.item_names):
        told[f"item.{name}"] = float(items.features[row, index])
    for name, attribute in schema.item.items():
        value: object = None
        if attribute.kind == "number":
            value = float(items.numbers[name][row])
        elif attribute.kind == "flag":
            value = None if items.flags[name][row] < 0 else bool(items.flags[name][row])
        elif attribute.kind == "category":
            value = next(iter(_values(query, row, name)), None)
        elif attribute.kind == "timestamp":
            value = None if items.timestamps[name][row] == -1 else int(items.timestamps[name][row])
        if attribute.kind not in ("text", "tags"):
            told[f"attr.{name}"] = _coded(value, attribute.kind, query.now)
    for cross in plan.cross:
        keys = [hash_id(value) for value in _values(query, row, cross.attribute)]
        held = [dict(zip(*(a.tolist() for a in pair), strict=True)) for pair in user.keyed]
        told[f"cross.{cross.name}"] = _finished(
            cross,
            sum(held[cross.part].get(key, 0) for key in keys) if held else 0,
            sum(held[cross.per].get(key, 0) for key in keys) if held and cross.per >= 0 else 0,
        )
    for cross in plan.keyed:
        given = user.attributes.get(cross.attribute)
        words = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        sums = [0, 0]
        for part, name in enumerate([cross.name, cross.per_name][: 1 + (cross.per >= 0)]):
            column = items.keyed[name]
            for at in range(column.offsets[row], column.offsets[row + 1]):
                if int(column.keys[at]) in {hash_id(word) for word in words}:
                    sums[part] += int(column.values[at])
        told[f"keyed.{cross.name}"] = _finished(cross, *sums)
    past = query.history[:50].tolist()
    for name, attribute in schema.item.items():
        if attribute.kind in ("category", "tags"):
            mine = _values(query, row, name)
            both = [len(set(mine) & set(_values(query, other, name))) for other in past]
            told[f"match.{name}"] = sum(both) / (len(mine) * len(past)) if mine and past else math.nan
            told[f"since.{name}"] = float(next((at for at, n in enumerate(both) if n), math.nan))
    for index, name in enumerate(plan.user_names):
        told[f"user.{name}"] = float(user.features[index])
    told["user.history_length"] = float(len(query.history))
    for prefix, declared, given_by in (
        ("user_attr", schema.user, user.attributes),
        ("context", schema.context, query.context),
    ):
        for name, attribute in declared.items():
            if attribute.kind not in ("text", "tags"):
                told[f"{prefix}.{name}"] = _coded(given_by.get(name), attribute.kind, query.now)
    moment = datetime.datetime.fromtimestamp(query.now / 1000, datetime.UTC)
    told["time.hour"], told["time.weekday"] = float(moment.hour), float(moment.weekday())
    return told


def _values(query: Query, row: int, name: str) -> Sequence[str]:
    items = query.items
    if name in items.categories:
        code = items.categories[name].codes[row]
        return [items.categories[name].vocabulary.values[code]] if code >= 0 else []
    tags = items.tags[name]
    return [tags.vocabulary.values[code] for code in tags.codes[tags.offsets[row] : tags.offsets[row + 1]]]


def _coded(value: object, kind: str, now: int) -> float:
    if value is None:
        return math.nan
    if kind == "category":
        return float(hash_id(str(value)) // 2**39)
    assert isinstance(value, bool | int | float)
    return (now - value) / 86_400_000 if kind == "timestamp" else float(value)


def _finished(cross: Cross, above: int, below: int) -> float:
    bottom = float(below) + cross.below
    with np.errstate(all="ignore"):
        return float(np.float64(float(above) / cross.divisor + cross.prior) / bottom) if bottom else math.nan
