"""The slate by the definitions, in plain Python: slow, and as near to the text of `rerank.selector` as can be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from penchant.core.candidates import Candidates
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.settings import Select

_MASK = 2**64 - 1


class Placed(NamedTuple):
    """One slot: `at` is an index into the candidates, P(it | what stands above), whether chance put it there."""

    at: int
    propensity: float
    explored: bool


class Slot(NamedTuple):
    """What a slot could hold, given what stands above: allowed indexes in order of value, and the greedy choice."""

    allowed: tuple[int, ...]
    greedy: int


def select(chosen: Select, schema: Schema, query: Query, candidates: Candidates) -> list[Placed]:
    """The slate that `SlateSelector` must give."""
    share = chosen.explore.share if chosen.explore.policy == "epsilon" else 0.0
    placed: list[Placed] = []
    while len(placed) < query.size:
        slot = next_slot(chosen, schema, query, candidates, [entry.at for entry in placed])
        if slot is None:
            break
        index = slot.greedy
        if draw(query.seed, 2 * len(placed) + 1) < share:
            index = slot.allowed[int(draw(query.seed, 2 * len(placed) + 2) * len(slot.allowed))]
        chance = dict(distribution(slot, share))[index]
        placed.append(Placed(index, chance, index != slot.greedy))
    return placed


def distribution(slot: Slot, share: float) -> Iterator[tuple[int, float]]:
    """What the slot holds with which probability, every possible index once."""
    for index in slot.allowed:
        yield index, (1.0 - share if index == slot.greedy else 0.0) + share / len(slot.allowed)


def next_slot(
    chosen: Select, schema: Schema, query: Query, candidates: Candidates, above: Sequence[int]
) -> Slot | None:
    """What may stand beneath `above`; None when nothing may."""
    value, rows = candidates.columns["value"].tolist(), candidates.rows.tolist()
    finite = [index for index in range(len(rows)) if math.isfinite(value[index])]
    others = [index for index in range(len(rows)) if not math.isfinite(value[index])]
    ranked = sorted(finite, key=lambda index: (-value[index], rows[index])) + sorted(others, key=rows.__getitem__)
    pool = ranked[: min(chosen.pool, len(finite))]
    left = [index for index in ranked if index not in above]
    allowed = [index for index in left if _may(chosen, query.items, [rows[j] for j in above], rows[index])]
    if not allowed and query.rank_only is not None:
        allowed = left
    new = _new(chosen, query.items, rows)
    if query.rank_only is None and _owed(chosen, len(above), min(query.size, len(rows))) > len(new & {*above}):
        allowed = [index for index in allowed if index in new] or allowed
    if not allowed:
        return None

    names = [name for name, declared in schema.item.items() if declared.kind in ("category", "tags")]
    names = names if chosen.by is None else chosen.by
    diversity = chosen.diversity if names else 0.0

    def gain(index: int) -> float:
        best, worst = value[pool[0]], value[pool[-1]]
        scaled = 1.0 if best == worst else (value[index] - worst) / (best - worst)
        nearest = max([similarity(query.items, names, rows[index], rows[j]) for j in above], default=0.0)
        return float((1.0 - diversity) * scaled - diversity * nearest)

    inside = [index for index in pool if index in allowed]
    greedy = max(inside, key=gain) if inside else allowed[0]
    return Slot(tuple(allowed), greedy)


def _owed(chosen: Select, slot: int, size: int) -> int:
    """New items down to a slot from 0: the k-th is due `(k - 1) / slots` of the way from the fifth slot down."""
    room = size - 4
    wanted = min(chosen.new.slots, room)
    return sum((slot - 4) * wanted >= k * room for k in range(wanted)) if room > 0 else 0


def _new(chosen: Select, items: Items, rows: Sequence[int]) -> set[int]:
    """Places of the candidates shown seldom: those of the last thirty days, or all where there are none."""
    if "total_impression" not in items.feature_names:
        return set()
    seldom = {at for at, row in enumerate(rows) if not items.column("total_impression")[row] >= chosen.new.below}
    young = {at for at in seldom if items.time - int(items.listed_at[rows[at]]) < 30 * 86_400_000}
    return young or seldom


def _may(chosen: Select, items: Items, above: Sequence[int], row: int) -> bool:
    for cap in chosen.caps:
        mine = values(items, cap.by, row)
        if cap.max is not None and any(sum(v in values(items, cap.by, r) for r in above) >= cap.max for v in mine):
            return False
        if not cap.adjacent and above and mine & values(items, cap.by, above[-1]):
            return False
    return True


def similarity(items: Items, names: Sequence[str], left: int, right: int) -> float:
    """Mean Jaccard similarity over the attributes; 0 where both have none."""
    if not names:
        return 0.0
    total = 0.0
    for name in names:
        a, b = values(items, name, left), values(items, name, right)
        total += len(a & b) / len(a | b) if a | b else 0.0
    return total / len(names)


def values(items: Items, name: str, row: int) -> set[str]:
    """The values of a category or tags attribute."""
    if name in items.categories:
        category = items.categories[name]
        code = int(category.codes[row])
        return {category.vocabulary.values[code]} if code >= 0 else set()
    tags = items.tags[name]
    return {tags.vocabulary.values[code] for code in tags.codes[tags.offsets[row] : tags.offsets[row + 1]]}


def draw(seed: int, counter: int) -> float:
    """SplitMix64 as published: the output function of the state `seed + counter * gamma`, its upper 53 bits."""
    z = (seed + counter * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) / 2**53
