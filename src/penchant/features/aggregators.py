"""The aggregates as commutative monoids: what every evaluator of a plan computes, said once, one record at a time.

The fold (`merging`), the reader (`reading`) and DuckDB (`offline`) are fast forms of these; plug-ins that add an
aggregate start here and must pass `penchant.testing.contracts.aggregator`. States are integers or finite sets under a
total order, so that any grouping and any order of merges gives the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis

V_contra = TypeVar("V_contra", contravariant=True)
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)

Tiles = Mapping[int, int]


class Aggregator(Protocol[V_contra, S, R_co]):
    """A commutative monoid with a way in and a way out. States are values: no method changes its arguments."""

    def zero(self) -> S: ...

    def lift(self, value: V_contra, ts: Millis) -> S:
        """The state of one record."""

    def merge(self, left: S, right: S) -> S:
        """Associative and commutative, with `zero()` as its unit."""

    def finish(self, state: S) -> R_co: ...


class Count:
    """How many records.

    >>> Count().merge(Count().lift(None, 0), Count().lift(None, 9))
    2
    """

    def zero(self) -> int:
        return 0

    def lift(self, value: object, ts: Millis) -> int:
        del value, ts
        return 1

    def merge(self, left: int, right: int) -> int:
        return left + right

    def finish(self, state: int) -> int:
        return state


class Sum:
    """The sum of fixed-point values; a retraction is a negative value."""

    def zero(self) -> int:
        return 0

    def lift(self, value: int, ts: Millis) -> int:
        del ts
        return value

    def merge(self, left: int, right: int) -> int:
        return left + right

    def finish(self, state: int) -> int:
        return state


class Ratio:
    """Two sums, divided once at the end: mean is (sum of values, records with one), rate is (count of, count per)."""

    def __init__(self, prior: tuple[float, float] = (0.0, 0.0)) -> None:
        self.prior = prior

    def zero(self) -> tuple[int, int]:
        return 0, 0

    def lift(self, value: tuple[int, int], ts: Millis) -> tuple[int, int]:
        del ts
        return value

    def merge(self, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        return left[0] + right[0], left[1] + right[1]

    def finish(self, state: tuple[int, int]) -> float | None:
        """None where the denominator is 0."""
        below = state[1] + self.prior[1]
        return (state[0] + self.prior[0]) / below if below else None


class Tiled:
    """A sum by tile; the out-way adds up the tiles from `tail` on (a window) or weighs them by age (decay)."""

    def __init__(self, hop: Millis, tail: int | None = None) -> None:
        self.hop = hop
        self.tail = tail

    def zero(self) -> Tiles:
        return {}

    def lift(self, value: int, ts: Millis) -> Tiles:
        return {ts // self.hop: value} if value else {}

    def merge(self, left: Tiles, right: Tiles) -> Tiles:
        both = {tile: left.get(tile, 0) + right.get(tile, 0) for tile in sorted({*left, *right})}
        return {tile: total for tile, total in both.items() if total}

    def finish(self, state: Tiles) -> int:
        return sum(total for tile, total in state.items() if self.tail is None or tile >= self.tail)


class Decayed(Tiled):
    """A sum by tile, weighed at `now` with an integer table (`tiles.decay_weights`)."""

    def __init__(self, hop: Millis, weights: NDArray[np.int64], now: Millis) -> None:
        super().__init__(hop)
        self.weights = weights
        self.now = now

    def finish(self, state: Tiles) -> int:
        ages = {tile: max(self.now // self.hop - tile, 0) for tile in state}
        return sum(int(self.weights[k]) * state[tile] for tile, k in ages.items() if k < len(self.weights))


class Entry(NamedTuple):
    """A record in a list: ordered by time, then by its place in the log."""

    ts: Millis
    position: int
    item: int


class Last:
    """The n largest entries by (ts, position), newest first; `distinct` keeps an item once, at its newest."""

    def __init__(self, n: int, *, distinct: bool = False) -> None:
        self.n = n
        self.distinct = distinct

    def zero(self) -> tuple[Entry, ...]:
        return ()

    def lift(self, value: tuple[int, int], ts: Millis) -> tuple[Entry, ...]:
        """`value` is (position, item)."""
        return (Entry(ts, *value),)

    def merge(self, left: tuple[Entry, ...], right: tuple[Entry, ...]) -> tuple[Entry, ...]:
        entries = sorted({*left, *right}, reverse=True)
        if self.distinct:
            newest: dict[int, Entry] = {}
            for entry in entries:
                newest.setdefault(entry.item, entry)
            entries = list(newest.values())
        return tuple(entries[: self.n])

    def finish(self, state: tuple[Entry, ...]) -> tuple[int, ...]:
        return tuple(entry.item for entry in state)


class Distinct:
    """The k smallest hashes: a uniform sample of the set, exact while there are fewer than k."""

    def __init__(self, k: int) -> None:
        self.k = k

    def zero(self) -> tuple[int, ...]:
        return ()

    def lift(self, value: int, ts: Millis) -> tuple[int, ...]:
        del ts
        return (value,)

    def merge(self, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({*left, *right})[: self.k])

    def finish(self, state: tuple[int, ...]) -> float:
        if len(state) < self.k or not state[-1]:
            return float(len(state))
        return (self.k - 1) / (state[-1] / float(1 << 63))


class TopKeys:
    """An exact count by key of a bounded domain; the n largest by (count descending, key ascending)."""

    def __init__(self, n: int) -> None:
        self.n = n

    def zero(self) -> Mapping[int, int]:
        return {}

    def lift(self, value: int, ts: Millis) -> Mapping[int, int]:
        del ts
        return {value: 1}

    def merge(self, left: Mapping[int, int], right: Mapping[int, int]) -> Mapping[int, int]:
        both = {key: left.get(key, 0) + right.get(key, 0) for key in sorted({*left, *right})}
        return {key: count for key, count in both.items() if count}

    def finish(self, state: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
        return tuple(sorted(state.items(), key=lambda pair: (-pair[1], pair[0]))[: self.n])
