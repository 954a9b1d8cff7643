"""What every aggregator keeps: the laws of a commutative monoid, and arguments that stay as they were."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from penchant.core.clock import Millis
from penchant.features.aggregators import Aggregator

ROUNDS = 60


class AggregatorContract:
    """Subclass it in a test module; give `make` and, where integers will not do, `value`."""

    seeds: Sequence[int] = range(ROUNDS)

    def make(self) -> Aggregator[Any, Any, Any]:
        """The aggregator under test."""
        raise NotImplementedError

    def value(self, rng: np.random.Generator) -> Any:
        """One record's value."""
        return int(rng.integers(-5, 6))

    def time(self, rng: np.random.Generator) -> Millis:
        """One record's time; times collide and may lie before 1970."""
        return int(rng.integers(-400_000, 400_000))

    def _states(self, rng: np.random.Generator, n: int) -> list[Any]:
        aggregator = self.make()
        return [
            reduce(
                aggregator.merge,
                [aggregator.lift(self.value(rng), self.time(rng)) for _ in range(int(rng.integers(0, 5)))],
                aggregator.zero(),
            )
            for _ in range(n)
        ]

    def test_zero_is_the_unit(self) -> None:
        aggregator = self.make()
        for seed in self.seeds:
            (state,) = self._states(np.random.default_rng(seed), 1)
            assert aggregator.merge(state, aggregator.zero()) == state
            assert aggregator.merge(aggregator.zero(), state) == state

    def test_merge_commutes(self) -> None:
        aggregator = self.make()
        for seed in self.seeds:
            left, right = self._states(np.random.default_rng(seed), 2)
            assert aggregator.merge(left, right) == aggregator.merge(right, left)

    def test_merge_is_associative(self) -> None:
        aggregator = self.make()
        for seed in self.seeds:
            a, b, c = self._states(np.random.default_rng(seed), 3)
            assert aggregator.merge(aggregator.merge(a, b), c) == aggregator.merge(a, aggregator.merge(b, c))

    def test_any_grouping_finishes_alike(self) -> None:
        aggregator = self.make()
        for seed in self.seeds:
            rng = np.random.default_rng(seed)
            lifted = [aggregator.lift(self.value(rng), self.time(rng)) for _ in range(20)]
            in_order = reduce(aggregator.merge, lifted, aggregator.zero())
            pool = [lifted[i] for i in rng.permutation(len(lifted))]
            while len(pool) > 1:
                pool.append(aggregator.merge(pool.pop(int(rng.integers(len(pool)))), pool.pop()))
            assert aggregator.finish(pool[0]) == aggregator.finish(in_order)

    def test_arguments_stay_as_they_were(self) -> None:
        aggregator = self.make()
        for seed in self.seeds:
            left, right = self._states(np.random.default_rng(seed), 2)
            before = copy.deepcopy((left, right))
            aggregator.finish(aggregator.merge(left, right))
            assert (left, right) == before

    def test_zero_is_fresh(self) -> None:
        aggregator = self.make()
        assert aggregator.zero() == self.make().zero()
        assert aggregator.finish(aggregator.zero()) == aggregator.finish(self.make().zero())
