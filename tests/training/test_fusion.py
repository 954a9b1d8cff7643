"""Weights of rank fusion against a search by hand, and how they reach the slates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penchant.core.candidates import Candidates
from penchant.ranking.blend import BlendScorer
from penchant.testing.strategies import make_items, make_query
from penchant.training.fusion import FEWEST, LEAST, Evidence

NAN = math.nan


def candidates(**ranks: list[float]) -> Candidates:
    size = len(next(iter(ranks.values())))
    columns = {f"rank.{name}": np.array(given, np.float32) for name, given in ranks.items()}
    return Candidates(np.arange(size, dtype=np.int32), np.ones(size, np.uint32), columns)


def noisy(rng: np.random.Generator, size: int = 12) -> tuple[Candidates, int]:
    """One source that mostly has the taken row first, one that has it anywhere, one that never has it."""
    taken = int(rng.integers(size))
    wise = rng.permutation(size) + 1.0
    if rng.random() < 0.8:
        other = int(np.flatnonzero(wise == 1)[0])
        wise[other], wise[taken] = wise[taken], 1.0
    never = np.where(np.arange(size) == taken, NAN, rng.permutation(size) + 1.0)
    return candidates(wise=wise.tolist(), any=(rng.permutation(size) + 1.0).tolist(), never=never.tolist()), taken


def worth(requests: list[tuple[Candidates, int]], weights: dict[str, float]) -> float:
    """Mean NDCG@10 of the fusion, ties against it, by the scorer that serves."""
    total = 0.0
    for given, taken in requests:
        value = BlendScorer(list(weights), weights).score(make_query(make_items(1)), given)["value"]
        rank = int((value >= value[taken]).sum())
        total += 1 / math.log2(rank + 1) if rank <= 10 else 0.0
    return total / len(requests)


def test_the_source_that_knows_gets_the_weight() -> None:
    rng = np.random.default_rng(1)
    requests = [noisy(rng) for _ in range(200)]
    evidence = Evidence(["wise", "any", "never"])
    for given, taken in requests:
        evidence.add(given, taken)
    weights = evidence.weights()
    assert weights["wise"] > 2 * weights["any"]
    assert weights["never"] == LEAST  # its order stays, below all others
    equal = worth(requests, dict.fromkeys(weights, 1.0))
    assert worth(requests, weights) > equal + 0.1
    steps = np.arange(0, 3.01, 0.25)
    tried = [
        worth(requests, {"wise": 3 - one - two, "any": one, "never": two})
        for one in steps
        for two in steps
        if one + two <= 3
    ]
    assert worth(requests, weights) == pytest.approx(max(tried), abs=0.01)


def test_what_was_taken_must_be_among_the_candidates() -> None:
    rng = np.random.default_rng(2)
    evidence = Evidence(["wise", "any", "never"])
    for _ in range(FEWEST - 1):
        evidence.add(*noisy(rng))
    evidence.add(noisy(rng)[0], 99)
    assert len(evidence) == FEWEST - 1
    assert evidence.weights() == {}  # too few to tell anything
    evidence.add(*noisy(rng))
    assert evidence.weights()


def test_one_source_needs_no_weights() -> None:
    evidence = Evidence(["alone"])
    for _ in range(FEWEST):
        evidence.add(candidates(alone=[1.0, 2.0]), 0)
    assert evidence.weights() == {}
