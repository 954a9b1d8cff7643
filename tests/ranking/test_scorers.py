from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.candidates import Candidates
from penchant.core.errors import ArtifactError, ContractError
from penchant.ranking.blend import BlendScorer, OrderScorer
from penchant.ranking.gbdt import GbdtScorer
from penchant.ranking.trees import Forest
from penchant.testing.contracts.stage import ScorerContract
from penchant.testing.oracles.ranking import fuse
from penchant.testing.strategies import make_items, make_query
from ranking.forests import random_text

NAMES = ("a", "b", "c")


def texts(names=NAMES, objective="binary sigmoid:1", heads=("click", "hide")):
    return {
        head: random_text(np.random.default_rng(seed), names=(*names, "position"), trees=5, objective=objective)
        for seed, head in enumerate(heads)
    }


class TestGbdtScorer(ScorerContract):
    def make(self):
        return GbdtScorer.from_texts(texts(), {"click": 1.0, "view": 0.1, "hide": -5.0}, NAMES)

    def world(self, rng):
        query, candidates = super().world(rng)
        features = rng.standard_normal((len(NAMES), len(candidates))).astype(np.float32)
        return query, Candidates(candidates.rows, candidates.sources, {}, features)


class TestRankHead(TestGbdtScorer):
    def make(self):
        return GbdtScorer.from_texts(texts(objective="lambdarank", heads=("rank",)), {"click": 1.0}, NAMES)


class TestBlendScorer(ScorerContract):
    def make(self):
        return BlendScorer(["s0", "s1", "s2"], {"s1": 2.0})


class TestOrderScorer(ScorerContract):
    def make(self):
        return OrderScorer()

    def world(self, rng):
        query, candidates = super().world(rng)
        place = np.arange(1, len(candidates) + 1, dtype=np.float32)
        return query, candidates.with_columns({"place": place}, provides=frozenset({"place"}))


def test_the_value_is_the_weighted_sum_of_probabilities():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((3, 40)).astype(np.float32)
    candidates = Candidates(np.arange(40, dtype=np.int32), np.zeros(40, np.uint32), {}, features)
    weights = {"click": 1.0, "hide": -5.0, "view": 0.1}
    scorer = GbdtScorer.from_texts(texts(), weights, NAMES)
    assert scorer.provides == {"p_click", "p_hide", "value"}
    columns = scorer.score(make_query(make_items(40)), candidates)
    for head, text in texts().items():
        raw = Forest.from_text(text, {"position": 1.0}).score(features)
        expected = [np.float32(1 / (1 + math.exp(-score))) for score in raw.tolist()]
        assert np.allclose(columns[f"p_{head}"], expected, rtol=1e-6)
    value = columns["p_click"].astype(np.float64) + -5.0 * columns["p_hide"].astype(np.float64)
    assert np.array_equal(columns["value"], value.astype(np.float32))


def test_a_ranker_that_does_not_fit_is_refused_at_the_start():
    with pytest.raises(ArtifactError, match="other columns"):
        GbdtScorer.from_texts(texts(), {}, ("a", "b"))
    with pytest.raises(ArtifactError, match="order"):
        GbdtScorer.from_texts(texts(), {}, ("b", "a", "c"))
    with pytest.raises(ArtifactError, match="no heads"):
        GbdtScorer.from_texts({}, {}, NAMES)
    with pytest.raises(ArtifactError, match="no probability"):
        GbdtScorer.from_texts(texts(objective="regression"), {}, NAMES)
    with pytest.raises(ArtifactError, match="alone"):
        GbdtScorer.from_texts(texts(heads=("rank", "click")), {}, NAMES)


def test_without_features_the_ranker_is_used_wrongly():
    candidates = Candidates(np.arange(3, dtype=np.int32), np.zeros(3, np.uint32))
    with pytest.raises(ContractError):
        GbdtScorer.from_texts(texts(), {}, NAMES).score(make_query(make_items(3)), candidates)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.none() | st.integers(1, 500)] * 3), max_size=20), st.floats(0.1, 5))
def test_fusion_equals_the_plain_one(ranks, weight):
    columns = {
        f"rank.s{source}": np.array([math.nan if row[source] is None else row[source] for row in ranks], np.float32)
        for source in range(3)
    }
    candidates = Candidates(np.arange(len(ranks), dtype=np.int32), np.zeros(len(ranks), np.uint32), columns)
    scorer = BlendScorer(["s0", "s1", "s2"], {"s1": weight})
    value = scorer.score(make_query(make_items(1)), candidates)["value"]
    expected = [fuse(row, [1.0, weight, 1.0]) for row in ranks]
    assert np.allclose(value, expected, rtol=1e-6)
    assert ((value >= 0) & (value <= np.float32(1.0000001))).all()
