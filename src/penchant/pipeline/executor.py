"""The request path of one surface, from query to slate: `run` is its table of contents."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Columns, Outcome, Retrieved
from penchant.core.errors import ContractError, PenchantError
from penchant.core.query import Query
from penchant.core.stages import Assembler, Filter, RowScorer, Scorer, Selector, Source
from penchant.pipeline.merge import Merger
from penchant.pipeline.trace import Timer, Trace
from penchant.ranking.blend import BlendScorer


class PolicyFailure(PenchantError):
    """A filter failed, so nobody knows what may be shown: answer from what passes the static policy instead."""

    def __init__(self, stage: str, error: Exception) -> None:
        super().__init__(f"filter {stage!r} failed ({type(error).__name__}: {error}); nothing was shown past it")
        self.stage = stage


_RESERVED = 500
"""How many more than asked for the reserve may propose, because filters come after it."""
_RESERVE_WEIGHT = 1e-3
"""In the fusion the reserve only orders what no other source proposed."""


class SurfacePipeline:
    """The stages of one surface, put together once and then run for every request.

    What happens when a stage raises is decided here and nowhere else. A source is skipped; without its features or
    its scorer the sources' own orders rank (`BlendScorer`); both are named in `Outcome.degraded`, as `source:NAME`,
    `features`, `score`. A filter raises `PolicyFailure`: policy never fails open. `ContractError` is a programmer's
    mistake and always passes through, and so does whatever the selector raises.

    `sources` come with how many items each may propose; at most `limit` candidates are scored. When fewer than asked
    for are left after the filters, `reserve` is asked as well, so that a slate is short only where no more is allowed.
    Without a scorer the sources' orders rank at all times; `weights` says how much each counts. `timer` gives seconds.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[tuple[Source, int]],
        filters: Sequence[Filter],
        assembler: Assembler | None,
        scorer: Scorer | None,
        selector: Selector,
        limit: int = 500,
        *,
        reserve: Source | None = None,
        weights: Mapping[str, float] = MappingProxyType({}),
        timer: Timer = time.perf_counter,
    ) -> None:
        self.name = name
        self.sources = tuple(sources)
        self._reserve = reserve
        merged = [(source.name, n) for source, n in sources]
        if reserve is not None:
            merged.append((reserve.name, 1))
        self.source_names = tuple(name for name, _ in merged)
        self._opinions = [source if isinstance(source, RowScorer) else None for source, _ in sources]
        self._opinions += [None] * (len(merged) - len(sources))
        self._filters = tuple(filters)
        self._assembler = assembler
        last = {} if reserve is None else {reserve.name: _RESERVE_WEIGHT}
        self._blend = BlendScorer(self.source_names, {**weights, **last})
        self._scorer = scorer or self._blend
        self._selector = selector
        self._limit = limit
        self._timer = timer
        self._merger = Merger(merged)

    def run(self, query: Query, *, trace: bool = False) -> Outcome:
        """The slate for a query and how it came about; raises `PolicyFailure` and `ContractError`."""
        told = Trace(self._timer, trace)
        given = query.rank_only
        candidates = self._retrieved(query, told) if given is None else self._given(query, given, told)
        candidates = self._describe(query, candidates, told)
        candidates = self._score(query, candidates, told)
        slate = self._selector.select(query, candidates)
        told.done("select", type(self._selector).__name__, len(candidates), len(slate))
        return Outcome(slate, candidates, told.stages, tuple(told.degraded), self.source_names)

    def _given(self, query: Query, rows: NDArray[np.int32], told: Trace) -> Candidates:
        """The rows that the query gives, with what the sources say of them, as far as the filters allow."""
        candidates = self._merger.given(query, rows, lambda source, rows: self._opinion(source, query, rows, told))
        told.done("merge", "given", len(rows), len(candidates))
        return self._filter(query, candidates, told)

    def _retrieved(self, query: Query, told: Trace) -> Candidates:
        """What the sources propose and the filters keep."""
        proposals = [self._retrieve(source, limit, query, told) for source, limit in self.sources]
        candidates = self._merged(query, proposals, told)
        if len(candidates) < query.size and self._reserve is not None:
            more = self._retrieve(self._reserve, query.size + _RESERVED, query, told)
            candidates = self._merged(query, [*proposals, more], told)
        return candidates

    def _merged(self, query: Query, proposals: Sequence[Retrieved | None], told: Trace) -> Candidates:
        unasked = [None] * (len(self.source_names) - len(proposals))
        candidates = self._merger.merge(query, [*proposals, *unasked])
        told.done("merge", "interleave", sum(len(one.rows) for one in proposals if one), len(candidates))
        return self._filter(query, candidates, told)

    @staticmethod
    def _retrieve(source: Source, limit: int, query: Query, told: Trace) -> Retrieved | None:
        try:
            found = source.retrieve(query, limit)
        except ContractError:
            raise
        except Exception as error:
            told.failed("source", source.name, 0, error)
            return None
        told.done("source", source.name, limit, len(found.rows))
        return found

    def _opinion(self, index: int, query: Query, rows: NDArray[np.int32], told: Trace) -> NDArray[np.float32] | None:
        source = self._opinions[index]
        if source is None:
            return None
        try:
            scores = source.score_rows(query, rows)
        except ContractError:
            raise
        except Exception as error:
            told.failed("source", source.name, len(rows), error)
            return None
        if scores.shape != rows.shape:
            raise ContractError(f"source {source.name!r} scored {len(scores)} rows, asked were {len(rows)}")
        told.done("source", source.name, len(rows), int(np.count_nonzero(np.isfinite(scores))))
        return scores

    def _filter(self, query: Query, candidates: Candidates, told: Trace) -> Candidates:
        """What every filter keeps, cut to the limit: filters see all, so that what they drop leaves no gap."""
        if self._filters:
            keep = np.ones(len(candidates), np.bool_)
            left = len(candidates)
            for stage in self._filters:
                try:
                    mask = stage.keep(query, candidates)
                except ContractError:
                    raise
                except Exception as error:
                    raise PolicyFailure(stage.name, error) from error
                if mask.shape != keep.shape or mask.dtype != np.bool_:
                    raise ContractError(
                        f"filter {stage.name!r} must give bool[{len(keep)}], gave {mask.dtype}{list(mask.shape)}"
                    )
                keep &= mask
                before, left = left, int(np.count_nonzero(keep))
                told.done("filter", stage.name, before, left)
            if left < len(candidates):
                candidates = candidates.take(np.flatnonzero(keep))
        if query.rank_only is None and len(candidates) > self._limit:
            candidates = candidates.take(np.arange(self._limit))
        return candidates

    def _describe(self, query: Query, candidates: Candidates, told: Trace) -> Candidates:
        """The candidates with their features, if the surface has any."""
        if self._assembler is None:
            return candidates
        try:
            features = self._assembler.assemble(query, candidates)
        except ContractError:
            raise
        except Exception as error:
            told.failed("features", type(self._assembler).__name__, len(candidates), error)
            return candidates
        told.done("features", type(self._assembler).__name__, len(candidates), len(candidates))
        return replace(candidates, features=features)

    def _score(self, query: Query, candidates: Candidates, told: Trace) -> Candidates:
        """The candidates with a `value`: the scorer's, or the sources' where it failed or has no features."""
        if self._assembler is None or candidates.features is not None:
            try:
                columns = self._scorer.score(query, candidates)
            except ContractError:
                raise
            except Exception as error:
                told.failed("score", type(self._scorer).__name__, len(candidates), error)
            else:
                return self._scored(self._scorer, candidates, columns, told)
        return self._scored(self._blend, candidates, self._blend.score(query, candidates), told)

    @staticmethod
    def _scored(scorer: Scorer, candidates: Candidates, columns: Columns, told: Trace) -> Candidates:
        candidates = candidates.with_columns(columns, provides=scorer.provides)
        told.done("score", type(scorer).__name__, len(candidates), len(candidates))
        return candidates
