"""A protocol as a recipe: its name, its version, what it counts and how it splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation import metrics
from penchant.evaluation.datasets import Dataset
from penchant.evaluation.metrics import Ranked
from penchant.evaluation.protocols.rounds import Told

Part = Literal["test", "validation"]
Measure = Callable[[Ranked], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Options:
    """What can be asked of a protocol."""

    seed: int = 7
    users: int | None = None
    """Judge at most so many users (sessions, in each week), drawn with the seed; all are learned from."""
    part: Part = "test"
    live: bool = False
    """Learners are told of events as they happen; of protocols that go on in time."""


PLAIN = Options()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named protocol; a change of what it computes is a new version."""

    name: str
    version: int
    told: str
    k: int
    """How long a list the measures need; coverage and novelty are of `shown` of it."""
    shown: int
    measures: dict[str, Measure]
    rounds: Callable[[Dataset, Options], Told]
    filter_seen: bool
    full_mrr: bool = False
    """Also the reciprocal rank in the whole catalogue, as `MRR`; for one right item in each case."""


def recall_at(k: int) -> Measure:
    """Hits over all that is relevant."""
    return lambda ranked: metrics.recall(ranked, k)


def attainable_recall_at(k: int) -> Measure:
    """Hits over min(k, relevant)."""
    return lambda ranked: metrics.recall(ranked, k, over="attainable")


def ndcg_at(k: int) -> Measure:
    """Binary gains, discount 1/log2(rank + 1), over the best possible."""
    return lambda ranked: metrics.ndcg(ranked, k)


def hit_rate_at(k: int) -> Measure:
    """1 where something relevant is among the first `k`."""
    return lambda ranked: metrics.hit_rate(ranked, k)


def mrr_at(k: int) -> Measure:
    """One over the rank of the first relevant item, 0 beyond `k`."""
    return lambda ranked: metrics.mrr(ranked, k)
