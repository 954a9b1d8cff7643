"""What answers when the pipeline cannot: a cached slate, then segment popularity, then global popularity.

Policy beats availability: every rung shows only rows that the surface's standing rules, `where` and the age gate let
through, and never what the user has hidden.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Outcome, Reason, Slate
from penchant.core.query import Query
from penchant.core.stages import Filter, Source


class Fallback:
    """The ladder: `segment` for users who have one, then `everybody`; `policy` filters must hold on every rung."""

    def __init__(
        self, segment: Source, everybody: Source, policy: Sequence[Filter], *, remembered: int = 10_000
    ) -> None:
        self._segment = segment
        self._everybody = everybody
        self._policy = tuple(policy)
        self._slates: OrderedDict[tuple[str, str], NDArray[np.int32]] = OrderedDict()
        self._remembered = remembered

    def remember(self, query: Query, rows: NDArray[np.int32]) -> None:
        """Keep a good slate for the day the pipeline fails."""
        key = (query.user_id, query.surface)
        self._slates[key] = rows
        self._slates.move_to_end(key)
        if len(self._slates) > self._remembered:
            self._slates.popitem(last=False)

    def answer(self, query: Query, failed: Sequence[str]) -> Outcome:
        """A slate from the first rung that has anything; empty when policy lets nothing through."""
        if query.rank_only is not None:
            # Whoever asks for an order of these is not shown others.
            slate = self._allowed(query, query.rank_only, np.zeros(len(query.rank_only), np.float32))
            return self._outcome(slate, [*failed, "fallback:given"], "ranked")
        cached = self._slates.get((query.user_id, query.surface))
        if cached is not None:
            slate = self._allowed(query, cached, np.zeros(len(cached), np.float32))
            if len(slate):
                return self._outcome(slate, [*failed, "fallback:cached"], "ranked")
        for rung in (self._segment, self._everybody) if query.segment >= 0 else (self._everybody,):
            proposed = rung.retrieve(query, query.size + 500)
            slate = self._allowed(query, proposed.rows, proposed.scores)
            if len(slate):
                return self._outcome(slate, [*failed, f"fallback:{rung.name}"], "popular")
        return self._outcome(Candidates(_NO_ROWS, _NO_SOURCES, {"value": _NO_SCORES}), [*failed, "fallback:none"], "")

    def _allowed(self, query: Query, rows: NDArray[np.int32], scores: NDArray[np.float32]) -> Candidates:
        fits = (rows < query.items.count) & ~np.isin(rows, query.hidden)
        rows, scores = rows[fits], scores[fits]
        rows, scores = rows[query.eligible[rows]], scores[query.eligible[rows]]
        candidates = Candidates(rows, np.zeros(len(rows), np.uint32), {"value": scores})
        for gate in self._policy:
            candidates = candidates.take(gate.keep(query, candidates))
        return candidates.take(np.arange(min(query.size, len(candidates))))

    @staticmethod
    def _outcome(chosen: Candidates, degraded: list[str], kind: str) -> Outcome:
        count = len(chosen)
        slate = Slate(
            rows=chosen.rows,
            scores=chosen.columns["value"],
            propensities=np.ones(count, np.float32),
            sources=chosen.sources,
            reasons=[Reason(kind)] * count,
            index=np.arange(count),
        )
        return Outcome(slate, chosen, (), degraded)


_NO_ROWS: NDArray[np.int32] = np.empty(0, np.int32)
_NO_SOURCES: NDArray[np.uint32] = np.empty(0, np.uint32)
_NO_SCORES: NDArray[np.float32] = np.empty(0, np.float32)
