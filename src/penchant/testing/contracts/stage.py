"""What every filter, scorer, selector and assembler keeps: subclass a suite in a test module and give `make`.

Each suite runs on random worlds (`world` may be overridden to narrow them) and needs pytest only to be found by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Slate
from penchant.core.query import Query
from penchant.core.stages import Assembler, Filter, Scorer, Selector
from penchant.testing.strategies import random_items, random_query

_TYPES: Mapping[str, type[np.generic]] = {
    "rows": np.int32,
    "scores": np.float32,
    "propensities": np.float32,
    "sources": np.uint32,
}


def random_candidates(rng: np.random.Generator, query: Query, *, sources: int = 3, value: bool = True) -> Candidates:
    """Distinct rows of the picture in random order with random source bits, `rank.<n>` columns and maybe `value`.

    Values hold ties and, in some worlds, NaN and both infinities.
    """
    count = int(rng.integers(0, query.items.count + 1))
    rows = rng.permutation(query.items.count)[:count].astype(np.int32)
    bits = rng.integers(1, 1 << sources, count).astype(np.uint32)
    columns: dict[str, NDArray[np.float32]] = {}
    for source in range(sources):
        ranks = rng.permutation(count).astype(np.float32) + np.float32(1)
        columns[f"rank.s{source}"] = np.where(bits >> np.uint32(source) & np.uint32(1), ranks, np.float32(np.nan))
    if value:
        values = rng.integers(-3, 20, count).astype(np.float32) / np.float32(8)
        if rng.random() < 0.5:
            values[rng.random(count) < 0.2] = rng.choice(np.array([np.nan, np.inf, -np.inf], np.float32))
        columns["value"] = values
    return Candidates(rows, bits, columns)


def _frozen(candidates: Candidates) -> Candidates:
    """The same arrays, refusing to be written."""
    for array in (candidates.rows, candidates.sources, *candidates.columns.values()):
        array.flags.writeable = False
    if candidates.features is not None:
        candidates.features.flags.writeable = False
    return candidates


class _StageContract:
    cases = 25
    """How many random worlds each test sees."""
    most = 30
    """The largest picture."""
    value = False
    """Whether the candidates come with a `value`."""

    def world(self, rng: np.random.Generator) -> tuple[Query, Candidates]:
        """One random query with candidates."""
        query = random_query(rng, random_items(rng, int(rng.integers(0, self.most + 1))))
        return query, random_candidates(rng, query, value=self.value)

    def worlds(self) -> Iterator[tuple[np.random.Generator, Query, Candidates]]:
        """All worlds of a test, their arrays write-protected: a stage that writes its input fails."""
        for seed in range(self.cases):
            rng = np.random.default_rng(seed)
            query, candidates = self.world(rng)
            yield rng, query, _frozen(candidates)


class FilterContract(_StageContract):
    """A filter judges each candidate alone, by one bool, and changes nothing."""

    def make(self) -> Filter:
        """The filter under test."""
        raise NotImplementedError

    def test_it_has_a_name(self) -> None:
        """The name stands in the trace."""
        assert self.make().name

    def test_the_mask_fits(self) -> None:
        """One bool per candidate."""
        for _, query, candidates in self.worlds():
            mask = self.make().keep(query, candidates)
            assert mask.dtype == np.bool_
            assert mask.shape == candidates.rows.shape

    def test_it_is_pure(self) -> None:
        """The same question gives the same mask."""
        stage = self.make()
        for _, query, candidates in self.worlds():
            assert np.array_equal(stage.keep(query, candidates), self.make().keep(query, candidates))
            assert np.array_equal(stage.keep(query, candidates), stage.keep(query, candidates))

    def test_each_candidate_is_judged_alone(self) -> None:
        """Order and company do not matter."""
        stage = self.make()
        for rng, query, candidates in self.worlds():
            index = rng.permutation(len(candidates))[: int(rng.integers(0, len(candidates) + 1))]
            expected = stage.keep(query, candidates)[index]
            assert np.array_equal(stage.keep(query, candidates.take(index)), expected)


class ScorerContract(_StageContract):
    """A scorer gives the columns that it promised, `value` among them, and scores each candidate alone."""

    def make(self) -> Scorer:
        """The scorer under test."""
        raise NotImplementedError

    def test_it_gives_what_it_promised(self) -> None:
        """Exactly the promised names; float32, one number per candidate."""
        stage = self.make()
        assert "value" in stage.provides
        for _, query, candidates in self.worlds():
            scored = candidates.with_columns(stage.score(query, candidates), provides=stage.provides)
            assert len(scored) == len(candidates)

    def test_it_is_pure(self) -> None:
        """The same question gives the same bits."""
        stage = self.make()
        for _, query, candidates in self.worlds():
            first, second = stage.score(query, candidates), stage.score(query, candidates)
            for name in stage.provides:
                assert first[name].tobytes() == second[name].tobytes()

    def test_each_candidate_is_scored_alone(self) -> None:
        """Order and company do not matter, to the bit."""
        stage = self.make()
        for rng, query, candidates in self.worlds():
            index = rng.permutation(len(candidates))[: int(rng.integers(0, len(candidates) + 1))]
            whole, part = stage.score(query, candidates), stage.score(query, candidates.take(index))
            for name in stage.provides:
                assert whole[name][index].tobytes() == part[name].tobytes()


class AssemblerContract(_StageContract):
    """An assembler gives a matrix of named columns whose every value is a function of (query, row)."""

    def make(self) -> Assembler:
        """The assembler under test."""
        raise NotImplementedError

    def test_names_are_distinct(self) -> None:
        """A column is found by its name."""
        names = self.make().names
        assert len(set(names)) == len(names)

    def test_equal_plans_have_equal_fingerprints(self) -> None:
        """The fingerprint is of what the columns mean, not of the object."""
        assert self.make().fingerprint == self.make().fingerprint != ""

    def test_the_matrix_fits(self) -> None:
        """float32[columns, candidates]."""
        stage = self.make()
        for _, query, candidates in self.worlds():
            matrix = stage.assemble(query, candidates)
            assert matrix.dtype == np.float32
            assert matrix.shape == (len(stage.names), len(candidates))

    def test_each_candidate_is_described_alone(self) -> None:
        """Order and company do not matter, to the bit; asking twice neither."""
        stage = self.make()
        for rng, query, candidates in self.worlds():
            index = rng.permutation(len(candidates))[: int(rng.integers(0, len(candidates) + 1))]
            whole = np.array(stage.assemble(query, candidates))
            part = np.array(self.make().assemble(query, candidates.take(index)))
            assert np.ascontiguousarray(whole[:, index]).tobytes() == part.tobytes()


class SelectorContract(_StageContract):
    """A selector chooses at most `query.size` of the candidates, loses and doubles none, non-finite values last."""

    value = True
    fills = True
    """Whether the slate is as long as can be; False for selectors with caps."""
    by_value_first = True
    """Whether finite values always come before the others; False where chance may place any."""

    def make(self) -> Selector:
        """The selector under test."""
        raise NotImplementedError

    def slates(self) -> Iterator[tuple[Query, Candidates, Slate]]:
        """The slate of every world."""
        stage = self.make()
        for _, query, candidates in self.worlds():
            yield query, candidates, stage.select(query, candidates)

    def test_columns_are_parallel(self) -> None:
        """One entry per shown item in every column, of the declared type."""
        for _, _, slate in self.slates():
            for name, kind in _TYPES.items():
                column = getattr(slate, name)
                assert column.dtype == kind, name
                assert column.shape == (len(slate),), name
            assert len(slate.reasons) == len(slate.index) == len(slate)

    def test_nothing_is_lost_or_doubled(self) -> None:
        """Shown and not shown together are the candidates."""
        for query, candidates, slate in self.slates():
            index = slate.index.tolist()
            rest = sorted(set(range(len(candidates))) - set(index))
            assert sorted([*index, *rest]) == list(range(len(candidates)))
            assert len(slate) <= query.size
            if self.fills:
                assert len(slate) == min(query.size, len(candidates))

    def test_columns_are_those_of_the_candidates(self) -> None:
        """Rows, bits and scores are copied from where `index` points."""
        for _, candidates, slate in self.slates():
            assert np.array_equal(slate.rows, candidates.rows[slate.index])
            assert np.array_equal(slate.sources, candidates.sources[slate.index])
            assert np.array_equal(slate.scores, candidates.columns["value"][slate.index], equal_nan=True)

    def test_propensities_are_probabilities(self) -> None:
        """Of something that happened: above zero, at most one."""
        for _, _, slate in self.slates():
            assert np.all(slate.propensities > 0)
            assert np.all(slate.propensities <= 1)

    def test_non_finite_values_come_last(self) -> None:
        """No NaN or infinity is shown before a finite value."""
        if not self.by_value_first:
            return
        for _, candidates, slate in self.slates():
            finite = np.isfinite(candidates.columns["value"])
            shown = finite[slate.index]
            assert not np.any(shown[1:] & ~shown[:-1])
            if self.fills and not shown.all():
                assert shown.sum() == finite.sum()

    def test_it_is_pure(self) -> None:
        """The same query gives the same slate."""
        stage = self.make()
        for query, candidates, slate in self.slates():
            again = stage.select(query, candidates)
            assert np.array_equal(slate.index, again.index)
            assert slate.propensities.tobytes() == again.propensities.tobytes()
            assert list(slate.reasons) == list(again.reasons)
