from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from penchant.ranking.gbdt import FIXED, RANK_HEAD, GbdtScorer
from penchant.ranking.trees import Forest
from penchant.settings import Training
from penchant.training.examples import Examples, read_examples
from penchant.training.gbdt import Objective, predict_heads, predict_value, train_ranker
from penchant.training.publish import gate
from training.world import HOUR, NAMES, SCHEMA, ListLog, clicking_log

FEW = Training(trees=60, leaves=7, learning_rate=0.1)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return read_examples(clicking_log(600), SCHEMA, names=NAMES, attribution_ms=24 * HOUR)


def test_a_head_for_each_action_that_can_be_learnt(examples: Examples) -> None:
    told: list[tuple[str, int, int]] = []
    ranker = train_ranker(examples, FEW, SCHEMA, progress=lambda *step: told.append(step))
    assert set(ranker.heads) == {"click", "like"}
    assert "0 rows with it" in ranker.skipped["hide"]
    assert "view" not in ranker.skipped
    assert {head for head, _, _ in told} == {"click", "like"}
    assert max(done for _, done, _ in told) <= FEW.trees
    assert next(iter(ranker.metrics["click"]["gain"])) == "taste"
    booster = lightgbm.Booster(model_str=ranker.heads["click"])
    assert booster.feature_name() == [*NAMES, "position"]
    chances = predict_heads(ranker, examples, served=False)["click"]
    assert chances.sum() == pytest.approx(examples.labels["click"].sum(), rel=0.15)
    served = predict_heads(ranker, examples)["click"]
    assert served[examples.ranks == 8].mean() > chances[examples.ranks == 8].mean()
    expected = served + 3 * predict_heads(ranker, examples)["like"]
    np.testing.assert_allclose(predict_value(ranker, examples), expected)


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
def test_equal_rows_equal_models(examples: Examples, objective: Objective) -> None:
    one, again, threaded, other = (
        train_ranker(examples, FEW, SCHEMA, objective=objective, threads=threads, seed=seed)
        for threads, seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert one.heads == again.heads
    assert predict_value(one, examples).tobytes() == predict_value(threaded, examples).tobytes()
    assert one.heads != other.heads


def test_one_head_may_order_the_slate(examples: Examples) -> None:
    ranker = train_ranker(examples, FEW, SCHEMA, objective="lambdarank", position=False)
    assert set(ranker.heads) == {RANK_HEAD}
    assert lightgbm.Booster(model_str=ranker.heads[RANK_HEAD]).feature_name() == list(NAMES)
    assert np.corrcoef(predict_value(ranker, examples), examples.X[:, 0])[0, 1] > 0.8


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
def test_too_little_is_skipped_with_the_reason(objective: Objective) -> None:
    for log in (ListLog([]), clicking_log(2)):
        found = read_examples(log, SCHEMA, names=NAMES, attribution_ms=HOUR)
        ranker = train_ranker(found, FEW, SCHEMA, objective=objective)
        assert not ranker.heads
        assert ranker.skipped
        verdict = gate(ranker, None, found)
        assert verdict.published
        assert "nothing to compare" in verdict.reason


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
def test_serving_gives_the_values_that_the_gate_judged(examples: Examples, objective: Objective) -> None:
    ranker = train_ranker(examples, FEW, SCHEMA, objective=objective)
    GbdtScorer.from_texts(ranker.heads, ranker.weights, NAMES)
    columns = np.ascontiguousarray(examples.X.T)
    expected = predict_heads(ranker, examples)
    for head, text in ranker.heads.items():
        raw = Forest.from_text(text, FIXED).score(columns)
        np.testing.assert_allclose(raw if head == RANK_HEAD else 1 / (1 + np.exp(-raw)), expected[head], rtol=1e-6)
