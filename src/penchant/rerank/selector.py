"""Choosing the slate: greedy for value and variety, within caps, with some slots left to chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Slate
from penchant.core.compile import kernel
from penchant.core.errors import ContractError
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.rerank.diversity import gather, set_attributes, similarities
from penchant.rerank.exploration import propensity, uniform
from penchant.rerank.presentation import Contributor, Presenter
from penchant.rerank.quotas import CLASH, FULL, OLD, TAKEN, apply_caps, compile_caps, new_by, new_rows
from penchant.settings import Select


class SlateSelector:
    """Chooses at most `query.size` candidates by their column `value`.

    The best `pool` finite values, scaled to [0, 1], enter maximal marginal relevance (Carbonell and Goldstein, SIGIR
    1998): each slot takes the largest `(1 - diversity) * value - diversity * s`, `s` being the largest similarity to
    an item above (`rerank.diversity.similarities`); ties go to the better value, then to the lower row. When caps leave
    nobody in the pool, the rest follow in order of value, non-finite ones last. Caps look at what stands above, so a
    slate is shorter than asked only when no candidate is allowed beneath it.

    Each slot is explored with probability `explore.share`: a uniform draw from all candidates allowed in it. The
    propensity of an item is exact given what stands above it, 1 without exploration.

    With `new.slots`, so many slots from the fifth on, evenly spread, hold items that were shown fewer than `new.below`
    times: where fewer stand above than by then there should be, only those are allowed, as long as there are any. That
    is decided by what stands above alone, so that propensities stay exact. Requests to rank given items are exempt.

    A request to rank given items loses none of them to caps: in a slot where nobody is allowed, all that are left are.

    `sources` are the surface's sources in the order of the bits of `Candidates.sources`; `kinds`, `contributors` and
    `seeded` are those of `rerank.presentation.Presenter`. Raises `SettingsError` for attributes that are not sets.
    """

    def __init__(
        self,
        select: Select,
        schema: Schema,
        *,
        sources: Sequence[str] = (),
        kinds: Mapping[str, str] | None = None,
        contributors: Mapping[str, Contributor] | None = None,
        seeded: str = "similar",
    ) -> None:
        similar = set_attributes(schema, select.by, "select.by") if select.diversity > 0 else ()
        capped = set_attributes(schema, dict.fromkeys(cap.by for cap in select.caps), "select.caps")
        self._attributes = (*similar, *(name for name in capped if name not in similar))
        self._similar = len(similar)
        self._caps = compile_caps(select.caps, self._attributes)
        self._diversity = select.diversity if similar else 0.0
        self._share = select.explore.share if select.explore.policy == "epsilon" else 0.0
        self._pool = select.pool
        # Beyond the pool only caps look at attributes, and similarity when chance brings an item up from there.
        self._beyond = bool(select.caps) or self._share > 0 or select.new.slots > 0
        self._new = select.new
        self._presenter = Presenter(schema, sources=sources, kinds=kinds, contributors=contributors, seeded=seeded)

    def select(self, query: Query, candidates: Candidates) -> Slate:
        """The slate, with reasons; raises `ContractError` when no scorer gave a `value`."""
        value = candidates.columns.get("value")
        if value is None:
            raise ContractError("selection goes by the column 'value', and no scorer provided it")
        order = best_first(value, candidates.rows)
        near = order if self._beyond else order[: self._pool]
        sets = gather(query.items, self._attributes, candidates.rows[near])
        slots = self._new.slots if query.rank_only is None else 0
        new = new_rows(query.items, candidates.rows[order], self._new.below) if slots else _NO_ONE
        shown, propensities, explored = _choose(
            value[order],
            self._pool,
            min(query.size, len(order)),
            self._diversity,
            self._similar,
            sets.begin,
            sets.end,
            sets.codes,
            self._caps,
            self._share,
            query.seed,
            query.rank_only is not None,
            slots,
            new,
        )
        index = order[shown]
        rows, bits = candidates.rows[index], candidates.sources[index]
        reasons = self._presenter.reasons(query, rows, bits, explored)
        return Slate(rows, value[index], propensities, bits, reasons, index)


_NO_ONE: NDArray[np.bool_] = np.empty(0, np.bool_)


def best_first(values: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.intp]:
    """The order by `(value descending, row ascending)` of rows that occur once; non-finite values come last.

    >>> best_first(np.array([1, np.nan, 2, 1], np.float32), np.array([7, 1, 9, 3], np.int32)).tolist()
    [2, 3, 0, 1]
    """
    return np.argsort(_keys(values, rows))


@kernel
def _keys(values: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """One integer a candidate, much faster to sort than two keys: the value's bits, made monotone, then the row."""
    keys = np.empty(len(rows), np.int64)
    bits = values.view(np.int32)
    for i in range(len(rows)):
        order = np.int64(0x7FFFFFFF)
        if np.isfinite(values[i]):
            order = np.int64(bits[i])
            # Of negative floats the larger bits are the smaller number; -0 ties with 0.
            order = -order if order >= 0 else order & 0x7FFFFFFF
        keys[i] = order * 2**32 + rows[i]
    return keys


@kernel
def _choose(
    ranked: NDArray[np.float32],
    pool: int,
    size: int,
    diversity: float,
    similar: int,
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    codes: NDArray[np.int32],
    caps: NDArray[np.int64],
    share: float,
    seed: int,
    keep_all: bool,
    slots: int,
    new: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Which of the candidates, best first, fill `size` slots; the first `pool` at most, all finite, are the pool."""
    count = len(ranked)
    value = _scaled(ranked, pool)
    nearest = np.zeros(len(value))  # the largest similarity to an item shown so far
    barred = np.zeros(count, np.uint8)
    for i in range(len(new)):
        if not new[i]:
            barred[i] = OLD
    met = 0  # new items shown so far
    shown = np.empty(size, np.int64)
    chances = np.ones(size, np.float32)
    explored = np.zeros(size, np.bool_)
    allowed = np.empty(count if share > 0.0 else 0, np.int64)
    filled = 0
    while filled < size:
        bars = TAKEN | FULL | CLASH
        if slots > 0 and met < new_by(filled, size, slots):
            bars |= OLD
        greedy = _greedy(value, nearest, diversity, barred, bars)
        if greedy < 0 and bars & OLD:
            bars = TAKEN | FULL | CLASH
            greedy = _greedy(value, nearest, diversity, barred, bars)
        if greedy < 0 and keep_all:
            bars = TAKEN
            greedy = _greedy(value, nearest, diversity, barred, bars)
        if greedy < 0:
            break
        choice = greedy
        if share > 0.0:
            n = 0
            for i in range(count):
                if not barred[i] & bars:
                    allowed[n] = i
                    n += 1
            if uniform(seed, 2 * filled + 1) < share:
                choice = allowed[int(uniform(seed, 2 * filled + 2) * n)]
            chances[filled] = propensity(share, n, choice == greedy)
            explored[filled] = choice != greedy
        shown[filled] = choice
        filled += 1
        if slots > 0 and new[choice]:
            met += 1
        if filled == size:
            break
        apply_caps(begin, end, codes, caps, shown[:filled], barred)
        if diversity > 0.0 and choice < begin.shape[1]:  # else the pool is used up
            found = similarities(begin, end, codes, similar, choice, len(value))
            for i in range(len(value)):
                nearest[i] = max(nearest[i], found[i])
    return shown[:filled], chances[:filled], explored[:filled]


@kernel
def _scaled(ranked: NDArray[np.float32], pool: int) -> NDArray[np.float64]:
    """The finite values among the first `pool`, on [0, 1]; all 1 when they are equal."""
    n = 0
    while n < min(pool, len(ranked)) and np.isfinite(ranked[n]):
        n += 1
    out = np.ones(n)
    if n > 0 and ranked[0] != ranked[n - 1]:
        worst = np.float64(ranked[n - 1])
        for i in range(n):
            out[i] = (ranked[i] - worst) / (ranked[0] - worst)
    return out


@kernel
def _greedy(
    value: NDArray[np.float64],
    nearest: NDArray[np.float64],
    diversity: float,
    barred: NDArray[np.uint8],
    bars: int,
) -> int:
    """The allowed candidate of the pool with the largest marginal relevance, else the first beyond it, else -1."""
    best = -np.inf
    greedy = -1
    for i in range(len(value)):
        gain = (1.0 - diversity) * value[i] - diversity * nearest[i]
        if gain > best and not barred[i] & bars:
            best = gain
            greedy = i
    if greedy < 0:
        for i in range(len(value), len(barred)):
            if not barred[i] & bars:
                return i
    return greedy
