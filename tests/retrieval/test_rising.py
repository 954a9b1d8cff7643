"""What rises: more often lately than before, by more than chance would."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from hypothesis import given, settings

from penchant.core.items import Items
from penchant.core.stages import Source
from penchant.features.builtin import BEFORE, LATELY
from penchant.retrieval.rising import Rising
from penchant.testing.contracts.source import SourceContract
from penchant.testing.strategies import generators, make_items, make_query

HOUR = 3_600_000


def counted(rng: np.random.Generator, count: int) -> Items:
    lately = rng.integers(0, 5, count).astype(np.float32)
    lately[rng.random(count) < 0.1] = np.nan
    return make_items(count, features={LATELY: lately, BEFORE: lately + rng.integers(0, 90, count)})


class TestRising(SourceContract):
    def make(self, items: Items) -> Source:
        return Rising("rising", HOUR, 24 * HOUR)

    def items(self, rng: np.random.Generator, count: int) -> Items:
        return counted(rng, count)


class TestRisingWithoutCounts(SourceContract):
    def make(self, items: Items) -> Source:
        return Rising("rising", HOUR, 24 * HOUR)


def test_a_rise_counts_by_how_far_it_is_from_chance() -> None:
    source = Rising("rising", HOUR, 24 * HOUR)
    #          steady   one visit  a real rise  huge, a little more  falling
    lately = [1, 1, 20, 110, 0]
    before = [24, 1, 43, 110 + 2_300, 50]
    items = make_items(5, features={LATELY: lately, BEFORE: before}, sources=[source])
    found = source.retrieve(make_query(items), 10)
    assert found.rows.tolist() == [2, 1, 3]
    np.testing.assert_allclose(found.scores, [19 / math.sqrt(2), 1, 10 / math.sqrt(101)], rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(rng=generators())
def test_it_is_the_plain_formula(rng: np.random.Generator) -> None:
    source = Rising("rising", HOUR, 6 * HOUR)
    items = counted(rng, 20)
    items = dataclasses.replace(items, tables={"rising": source.prepare(items)})
    scored = []
    for row in range(20):
        short, long = float(items.column(LATELY)[row]), float(items.column(BEFORE)[row])
        expected = (long - short) / 5
        score = (short - expected) / math.sqrt(expected + 1)
        if score > 0:
            scored.append((-np.float32(score), row))
    assert source.retrieve(make_query(items), 20).rows.tolist() == [row for _, row in sorted(scored)]
