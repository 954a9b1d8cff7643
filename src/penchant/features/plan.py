"""A plan: all features of a deployment compiled to shared cells (what is kept) and parts (what is read).

A *cell* adds up one measure of some actions on one side, tile by tile, possibly split by a key. Features share cells.
A *part* is one integer (two for distinct) read from a cell at some time. A *column* finishes one or two parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.hashing import fingerprint
from penchant.core.schema import Schema
from penchant.features import builtin, tiles
from penchant.features.spec import Measure, Side, Spec, check_feature
from penchant.settings import Settings

CODEC = "1"
"""Version of the blob; another one means rebuild."""

DISTINCT = "#distinct"
"""The key source of cells that keep the smallest hashes of the other side's ids."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`key` is None, an attribute of the other side, or `DISTINCT` (then `k` hashes are kept per tile)."""

    actions: frozenset[int]
    measure: Measure = "count"
    hop: Millis = 0
    key: str | None = None
    k: int = 0


@dataclass(frozen=True, slots=True)
class ListState:
    """The newest `n` records of some actions; `distinct` keeps each item once, at its newest."""

    actions: frozenset[int]
    n: int
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One reading of a cell: a window (0: all time), or decay by a half-life, or (k > 0) a distinct count.

    `slot` is where its integers go; distinct takes two: how many hashes, and the k-th smallest when there are k.
    """

    cell: int
    hop: Millis = 0
    window: Millis = 0
    half_life: Millis = 0
    k: int = 0
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """A scalar feature: `(ints[top] / divisor + prior) / (ints[bottom] + below)`, or the distinct estimate of k."""

    name: str
    top: int
    bottom: int
    divisor: float = 1.0
    prior: float = 0.0
    below: float = 1.0
    k: int = 0


@dataclass(frozen=True, slots=True)
class Cross:
    """A feature split by an attribute of the other side; integers by key, to be finished after adding up keys.

    `part` and `per` are indexes into the side's keyed parts (for user features: into `UserState.keyed`); `per` is -1
    except for mean and rate, whose denominator is a keyed part of its own, called `per_name`. The value of some keys is
    `finalise.finish_cross(cross, integer sum over the keys of part, the same of per or 0)`.
    """

    name: str
    attribute: str
    part: int
    per: int = -1
    divisor: float = 1.0
    prior: float = 0.0
    below: float = 1.0

    @property
    def per_name(self) -> str:
        return f"{self.name}#per"


@dataclass(frozen=True, slots=True)
class Listing:
    """A feature that is a list, for people and not for models: `last` (of a list state) or `top` (of a keyed part)."""

    name: str
    agg: str
    index: int
    n: int
    actions: frozenset[int] = frozenset()
    hop: Millis = 0
    window: Millis = 0


@dataclass(frozen=True, slots=True, eq=False)
class SidePlan:
    """Everything about one side (user or item)."""

    side: Side
    specs: tuple[Spec, ...]
    cells: tuple[Cell, ...]
    retained: tuple[int, ...]
    """Tiles kept behind the newest, by cell; 0 keeps all."""
    lists: tuple[ListState, ...]
    parts: tuple[Part, ...]
    slots: int
    columns: tuple[Column, ...]
    keyed: tuple[Part, ...]
    """Keyed parts: those of `crosses`, then those of `top` listings."""
    crosses: tuple[Cross, ...]
    crossed: int
    """How many of `keyed` belong to crosses."""
    listings: tuple[Listing, ...]
    weights: Mapping[tuple[Millis, Millis], NDArray[np.int64]]
    """Decay tables by (half-life, hop)."""
    attributes: tuple[str, ...]
    """Attributes of the other side that key cells."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The features of a deployment; made by `compile_plan`."""

    state_fingerprint: str
    view_fingerprint: str
    user: SidePlan
    item: SidePlan
    actions: tuple[str, ...]
    """Names by action code; the last is "impression"."""
    user_names: tuple[str, ...]
    """Scalar user features, in column order."""
    item_names: tuple[str, ...]
    cross: tuple[Cross, ...]
    """["user", item attribute] features."""
    keyed: tuple[Cross, ...]
    """["item", user attribute] features."""


def compile_plan(settings: Settings, schema: Schema) -> Plan:
    """All declared and built-in features as one plan; raises `SettingsError` naming `features.NAME.KEY`."""
    builtin.check_names(settings, schema)
    declared = [check_feature(name, feature, schema) for name, feature in settings.features.items()]
    user = _Side("user", len(schema.actions) + 1, [ListState(*kept) for kept in builtin.user_lists(schema)])
    item = _Side("item", len(schema.actions) + 1)
    for spec in (*builtin.specs(settings, schema), *declared):
        (user if spec.side == "user" else item).add(spec)
    users, items = user.build(), item.build()
    actions = (*schema.actions, "impression")
    state = fingerprint(CODEC, "xxh3_63", repr(actions), *_scales(schema), *_state_of(users), *_state_of(items))
    return Plan(
        state_fingerprint=state,
        view_fingerprint=fingerprint(state, *_views_of(users), *_views_of(items)),
        user=users,
        item=items,
        actions=actions,
        user_names=tuple(column.name for column in users.columns),
        item_names=tuple(column.name for column in items.columns),
        cross=users.crosses,
        keyed=items.crosses,
    )


class _Side:
    """One side under construction."""

    def __init__(self, side: Side, totals: int, lists: Sequence[ListState] = ()) -> None:
        self.side = side
        self.totals = totals
        self.specs: list[Spec] = []
        # Cells 0 .. actions are the all-time totals, on both sides, so that counters need not know the side.
        self.cells: dict[Cell, int] = {Cell(frozenset({code})): code for code in range(totals)}
        self.needed: dict[int, int] = {}
        self.lists = list(lists)
        self.builtin_lists = len(lists)
        self.parts: dict[Part, int] = {}
        self.slots = 0
        self.columns: list[Column] = []
        self.crosses: list[tuple[Spec, Part, Part | None]] = []
        self.tops: list[tuple[Spec, Part]] = []
        self.lasts: list[Listing] = []
        self.weights: dict[tuple[Millis, Millis], NDArray[np.int64]] = {}

    def add(self, spec: Spec) -> None:
        self.specs.append(spec)
        if spec.agg == "last":
            self.lasts.append(Listing(spec.name, "last", self._list(spec), spec.n, spec.actions, spec.hop, spec.window))
            return
        above = self._part(spec, spec.actions, spec.measure)
        below = None
        if spec.agg == "mean":
            below = self._part(spec, spec.actions, "present")
        elif spec.agg == "rate":
            below = self._part(spec, spec.per, "count")
        if spec.agg == "top":
            self.tops.append((spec, above))
        elif spec.crossed:
            self.crosses.append((spec, above, below))
        else:
            divisor, prior, least = _finish(spec)
            bottom = -1 if below is None else self._slot(below)
            self.columns.append(Column(spec.name, self._slot(above), bottom, divisor, prior, least, spec.k))

    def build(self) -> SidePlan:
        cells, moved = self._canonical()
        lists, listed = self._canonical_lists()
        keyed: dict[Part, int] = {}
        crosses: list[Cross] = []
        for spec, above, below in self.crosses:
            divisor, prior, least = _finish(spec)
            part = keyed.setdefault(above, len(keyed))
            per = -1 if below is None else keyed.setdefault(below, len(keyed))
            crosses.append(Cross(spec.name, spec.key or "", part, per, divisor, prior, least))
        crossed = len(keyed)
        tops = [
            Listing(spec.name, "top", keyed.setdefault(part, len(keyed)), spec.n, spec.actions, spec.hop, spec.window)
            for spec, part in self.tops
        ]
        sources = sorted({cell.key for cell in self.cells if cell.key not in (None, DISTINCT)}, key=str)
        return SidePlan(
            side=self.side,
            specs=tuple(self.specs),
            cells=cells,
            retained=tuple(
                tiles.retained_tiles(self.needed[self.cells[cell]], cell.hop) if cell.hop else 0 for cell in cells
            ),
            lists=lists,
            parts=tuple(replace(p, cell=moved[p.cell], slot=slot) for p, slot in self.parts.items()),
            slots=self.slots,
            columns=tuple(self.columns),
            keyed=tuple(replace(p, cell=moved[p.cell]) for p in keyed),
            crosses=tuple(crosses),
            crossed=crossed,
            listings=(*(replace(last, index=listed[last.index]) for last in self.lasts), *tops),
            weights=self.weights,
            attributes=tuple(str(source) for source in sources),
        )

    def _canonical(self) -> tuple[tuple[Cell, ...], dict[int, int]]:
        """The cells in an order that does not depend on the order of features, and where each index went."""
        cells = list(self.cells)
        order = (*cells[: self.totals], *sorted(cells[self.totals :], key=_cell_words))
        return order, {self.cells[cell]: index for index, cell in enumerate(order)}

    def _canonical_lists(self) -> tuple[tuple[ListState, ...], dict[int, int]]:
        """The same for lists; the built-in ones keep their places."""
        declared = sorted(range(self.builtin_lists, len(self.lists)), key=lambda i: sorted(self.lists[i].actions))
        order = [*range(self.builtin_lists), *declared]
        return tuple(self.lists[index] for index in order), {index: place for place, index in enumerate(order)}

    def _part(self, spec: Spec, actions: frozenset[int], measure: Measure) -> Part:
        key = DISTINCT if spec.k else spec.key
        cell = self.cells.setdefault(Cell(actions, measure, spec.hop, key, spec.k), len(self.cells))
        needed = 0
        if spec.half_life:
            table = tiles.decay_weights(spec.half_life, spec.hop)
            self.weights[spec.half_life, spec.hop] = table
            needed = len(table)
        elif spec.window:
            needed = -(-spec.window // spec.hop) + 1
        self.needed[cell] = max(self.needed.get(cell, 0), needed)
        return Part(cell, spec.hop, spec.window, spec.half_life, spec.k)

    def _slot(self, part: Part) -> int:
        if part not in self.parts:
            self.parts[part] = self.slots
            self.slots += 2 if part.k else 1
        return self.parts[part]

    def _list(self, spec: Spec) -> int:
        """A list state long enough, shared with the built-in history where the actions agree."""
        for index, known in enumerate(self.lists):
            if known.actions == spec.actions and not known.distinct:
                self.lists[index] = ListState(known.actions, max(known.n, spec.n))
                return index
        self.lists.append(ListState(spec.actions, spec.n))
        return len(self.lists) - 1


def _finish(spec: Spec) -> tuple[float, float, float]:
    """Divisor, prior above, prior below."""
    divisor = float(10**spec.scale) * (tiles.ONE if spec.agg == "decayed" else 1)
    if spec.agg in ("mean", "rate"):
        return divisor, float(spec.prior[0]), float(spec.prior[1])
    return divisor, 0.0, 1.0


def _cell_words(cell: Cell) -> tuple[list[int], str, int, str, int]:
    return sorted(cell.actions), cell.measure, cell.hop, cell.key or "", cell.k


def _scales(schema: Schema) -> Iterable[str]:
    return (f"{action.name}:{action.scale}" for action in schema.actions.values())


def _state_of(side: SidePlan) -> Iterable[str]:
    """What is kept, in words that do not depend on the order of sets."""
    for cell, retained in zip(side.cells, side.retained, strict=True):
        yield repr((side.side, *_cell_words(cell), retained))
    for kept in side.lists:
        yield repr((side.side, sorted(kept.actions), kept.n, kept.distinct))


def _views_of(side: SidePlan) -> Iterable[str]:
    """What is read from it."""
    for rows in (side.parts, side.columns, side.keyed, side.crosses):
        yield from map(repr, rows)
    for listing in side.listings:
        yield repr((listing.name, listing.agg, listing.index, listing.n, listing.hop, listing.window))
    for (half_life, hop), table in sorted(side.weights.items()):
        yield repr((half_life, hop, table.tolist()))
