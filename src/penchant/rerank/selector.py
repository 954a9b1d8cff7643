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
from penchant.rerank.diversity import CodeSets, gather, set_attributes, similarity
from penchant.rerank.exploration import propensity, uniform
from penchant.rerank.presentation import Contributor, Presenter
from penchant.rerank.quotas import FREE, SHOWN, Caps, block, clashes, compile_caps
from penchant.settings import Select


class SlateSelector:
    """Chooses at most `query.size` candidates by their column `value`.

    The best `pool` finite values, scaled to [0, 1], enter maximal marginal relevance (Carbonell and Goldstein, SIGIR
    1998): each slot takes the largest `(1 - diversity) * value - diversity * s`, `s` being the largest similarity to
    an item above (`rerank.diversity.similarity`); ties go to the better value, then to the lower row. When caps leave
    nobody in the pool, the rest follow in order of value, non-finite ones last. Caps look at what stands above, so a
    slate is shorter than asked only when no candidate is allowed beneath it.

    Each slot is explored with probability `explore.share`: a uniform draw from all candidates allowed in it. The
    propensity of an item is exact given what stands above it, 1 without exploration.

    A request to rank given items loses none of them to caps: in a slot where nobody is allowed, all that are left are.

    `sources` are the surface's sources in the order of the bits of `Candidates.sources`; `kinds` and `contributors`
    are those of `rerank.presentation.Presenter`. Raises `SettingsError` for attributes that are not sets.
    """

    def __init__(
        self,
        select: Select,
        schema: Schema,
        *,
        sources: Sequence[str] = (),
        kinds: Mapping[str, str] | None = None,
        contributors: Mapping[str, Contributor] | None = None,
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
        self._beyond = bool(select.caps) or self._share > 0
        self._presenter = Presenter(schema, sources=sources, kinds=kinds, contributors=contributors)

    def select(self, query: Query, candidates: Candidates) -> Slate:
        """The slate, with reasons; raises `ContractError` when no scorer gave a `value`."""
        value = candidates.columns.get("value")
        if value is None:
            raise ContractError("selection goes by the column 'value', and no scorer provided it")
        order = best_first(value, candidates.rows)
        ranked = value[order]
        pool = min(self._pool, int(np.count_nonzero(np.isfinite(ranked))))
        near = len(order) if self._beyond else pool
        sets = gather(query.items, self._attributes, candidates.rows[order[:near]])
        shown, propensities, explored = _choose(
            _scaled(ranked[:pool]),
            len(order),
            min(query.size, len(order)),
            self._diversity,
            self._similar,
            sets,
            self._caps,
            self._share,
            query.seed,
            query.rank_only is not None,
        )
        index = order[shown]
        rows, bits = candidates.rows[index], candidates.sources[index]
        reasons = self._presenter.reasons(query, rows, bits, explored)
        return Slate(rows, value[index], propensities, bits, reasons, index)


def best_first(values: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.intp]:
    """The order by `(value descending, row ascending)` of rows that occur once; non-finite values come last.

    >>> best_first(np.array([1, np.nan, 2, 1], np.float32), np.array([7, 1, 9, 3], np.int32)).tolist()
    [2, 3, 0, 1]
    """
    # One integer a candidate sorts ten times faster than two keys: the bits of the float, made monotone, above the row.
    bits = (values + np.float32(0)).view(np.int32)  # + 0 turns -0 into 0, which must tie with it
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    descending = np.where(np.isfinite(values), ~ascending, np.int32(0x7FFFFFFF)).astype(np.int64)
    return np.argsort((descending << 32) | rows)


def _scaled(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Finite values, best first, on [0, 1]; all 1 when they are equal."""
    wide = values.astype(np.float64)
    if len(wide) == 0 or wide[0] == wide[-1]:
        return np.ones(len(wide))
    scaled: NDArray[np.float64] = (wide - wide[-1]) / (wide[0] - wide[-1])
    return scaled


@kernel
def _choose(  # noqa: PLR0917
    value: NDArray[np.float64],
    count: int,
    size: int,
    diversity: float,
    similar: int,
    sets: CodeSets,
    caps: Caps,
    share: float,
    seed: int,
    keep_all: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Which of `count` candidates, best first, fill `size` slots; the first `len(value)` are the pool."""
    status = np.zeros(count, np.uint8)
    nearest = np.zeros(len(value))  # the largest similarity to an item shown so far
    shown = np.empty(size, np.int64)
    chances = np.ones(size, np.float32)
    explored = np.zeros(size, np.bool_)
    allowed = np.empty(count if share > 0.0 else 0, np.int64)
    filled = 0
    while filled < size:
        last = shown[filled - 1] if filled > 0 else -1
        bound = True
        greedy = _greedy(value, nearest, diversity, status, sets, caps, last, bound)
        if greedy < 0 and keep_all:
            bound = False
            greedy = _greedy(value, nearest, diversity, status, sets, caps, last, bound)
        if greedy < 0:
            break
        choice = greedy
        if share > 0.0:
            n = 0
            for i in range(count):
                if _may(status, sets, caps, i, last, bound):
                    allowed[n] = i
                    n += 1
            if uniform(seed, 2 * filled + 1) < share:
                choice = allowed[int(uniform(seed, 2 * filled + 2) * n)]
            chances[filled] = propensity(share, n, choice == greedy)
            explored[filled] = choice != greedy
        status[choice] = SHOWN
        shown[filled] = choice
        filled += 1
        block(sets, caps, shown[:filled], status)
        if diversity > 0.0:
            for i in range(len(value)):
                if status[i] != SHOWN:
                    nearest[i] = max(nearest[i], similarity(sets, similar, i, choice))
    return shown[:filled], chances[:filled], explored[:filled]


@kernel
def _may(  # noqa: PLR0917
    status: NDArray[np.uint8], sets: CodeSets, caps: Caps, i: int, last: int, bound: bool
) -> bool:
    """Whether candidate `i` may stand beneath `last`; `bound` by caps or not."""
    if not bound:
        return bool(status[i] != SHOWN)
    return bool(status[i] == FREE) and (last < 0 or not clashes(sets, caps, i, last))


@kernel
def _greedy(  # noqa: PLR0917
    value: NDArray[np.float64],
    nearest: NDArray[np.float64],
    diversity: float,
    status: NDArray[np.uint8],
    sets: CodeSets,
    caps: Caps,
    last: int,
    bound: bool,
) -> int:
    """The allowed candidate of the pool with the largest marginal relevance, else the first beyond it, else -1."""
    best = -np.inf
    greedy = -1
    for i in range(len(value)):
        gain = (1.0 - diversity) * value[i] - diversity * nearest[i]
        if gain > best and _may(status, sets, caps, i, last, bound):
            best = gain
            greedy = i
    if greedy < 0:
        for i in range(len(value), len(status)):
            if _may(status, sets, caps, i, last, bound):
                return i
    return greedy
