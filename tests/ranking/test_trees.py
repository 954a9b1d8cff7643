from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.errors import ArtifactError, ContractError
from penchant.ranking.model_text import parse_model
from penchant.ranking.trees import Forest
from penchant.testing.strategies import generators
from ranking.forests import random_matrix, random_text

NAMES = tuple(f"item.f{n}" for n in range(6))


def theirs(text, matrix):
    booster = lightgbm.Booster(model_str=text)
    return booster.predict(np.ascontiguousarray(matrix.T), raw_score=True, num_threads=1)


def same_bits(ours, booster):
    return ours.tobytes() == np.asarray(booster, np.float64).tobytes()


@settings(max_examples=120, deadline=None)
@given(generators(), st.sampled_from([2, 8, 31, 32, 33, 64]), st.integers(1, 300))
def test_made_models_score_to_the_bit(rng, most, n):
    text = random_text(rng, names=NAMES, trees=int(rng.integers(1, 8)), most=most)
    matrix = random_matrix(rng, len(NAMES), n)
    assert same_bits(Forest.from_text(text).score(matrix), theirs(text, matrix))


@pytest.mark.parametrize("leaves", [2, 15, 32, 33, 64])
@pytest.mark.parametrize("objective", ["binary", "regression", "lambdarank"])
def test_trained_models_score_to_the_bit(leaves, objective):
    rng = np.random.default_rng(leaves)
    X = random_matrix(rng, len(NAMES), 3_000).T
    X[:, 1] = 4.0
    X[:, 2] = np.round(X[:, 2])
    X[:, 3] = np.where(np.isfinite(X[:, 3]), X[:, 3], 0)
    y = (np.nan_to_num(X[:, 0].astype(np.float64), posinf=1, neginf=-1) + X[:, 3] > 0.3).astype(int)
    data = lightgbm.Dataset(X, y, feature_name=list(NAMES), group=[30] * 100 if objective == "lambdarank" else None)
    params = {"objective": objective, "num_leaves": leaves, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 3}
    booster = lightgbm.train(params, data, 12)
    fresh = random_matrix(rng, len(NAMES), 1_000)
    forest = Forest.from_text(booster.model_to_string())
    assert forest.names == NAMES
    assert same_bits(forest.score(fresh), booster.predict(fresh.T, raw_score=True, num_threads=1))
    assert same_bits(forest.score(fresh), theirs(booster.model_to_string(), fresh))


def test_a_model_that_learned_nothing_is_a_constant():
    data = lightgbm.Dataset(np.ones((50, 2), np.float32), np.arange(50) % 5 == 0)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 3)
    forest = Forest.from_text(booster.model_to_string())
    matrix = random_matrix(np.random.default_rng(0), 2, 7)
    assert same_bits(forest.score(matrix), booster.predict(matrix.T, raw_score=True))


@settings(max_examples=40, deadline=None)
@given(generators(), st.sampled_from([1.0, 0.0, -1e-36, np.nan, np.inf, 3.5]))
def test_a_fixed_column_is_as_if_it_were_there(rng, value):
    text = random_text(rng, names=(*NAMES[:3], "position", *NAMES[3:]), trees=6, most=40)
    matrix = random_matrix(rng, len(NAMES), 150)
    forest = Forest.from_text(text, {"position": value, "absent": 1.0})
    assert forest.names == NAMES
    whole = np.insert(matrix, 3, np.float32(value), axis=0)
    assert same_bits(forest.score(matrix), theirs(text, whole))


def test_any_layout_of_the_matrix_gives_the_same():
    rng = np.random.default_rng(4)
    forest = Forest.from_text(random_text(rng, names=NAMES, trees=9))
    matrix = random_matrix(rng, len(NAMES), 333)
    expected = forest.score(matrix)
    padded = np.full((len(NAMES), 400), np.nan, np.float32)
    padded[:, 10:343] = matrix
    for same in (padded[:, 10:343], np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2]):
        assert same_bits(forest.score(same), expected)
    for split in range(0, 333, 50):
        assert same_bits(forest.score(matrix[:, split:]), expected[split:])
    assert len(forest.score(matrix[:, :0])) == 0


def test_another_shape_is_a_broken_contract():
    forest = Forest.from_text(random_text(np.random.default_rng(0), names=NAMES))
    for wrong in (np.zeros((5, 3), np.float32), np.zeros((6, 3)), np.zeros(6, np.float32)):
        with pytest.raises(ContractError):
            forest.score(wrong)


@pytest.mark.parametrize(
    ("find", "replace", "says"),
    [
        ("num_class=1", "num_class=3", "several outputs"),
        ("objective=binary sigmoid:1", "objective=poisson", "not supported"),
        ("num_cat=0", "num_cat=1", "categorical"),
        ("is_linear=0", "is_linear=1", "linear"),
        ("label_index=0", "average_output", "random forest"),
        ("end of trees", "", "damaged"),
        ("Tree=1", "Tree=2", "damaged"),
        ("feature_names=item.f0 ", "feature_names=", "damaged"),
        ("feature_names=item.f0 item.f1", "feature_names=item.f0 item.f0", "same name"),
        ("sigmoid:1", "sigmoid:nan", "damaged"),
    ],
)
def test_what_cannot_be_exact_is_refused(find, replace, says):
    text = random_text(np.random.default_rng(2), names=NAMES)
    assert find in text
    with pytest.raises(ArtifactError, match=says):
        Forest.from_text(text.replace(find, replace, 1))


def test_zero_as_missing_and_large_trees_are_refused():
    rng = np.random.default_rng(7)
    with pytest.raises(ArtifactError, match="zero_as_missing"):
        Forest.from_text(random_text(rng, names=NAMES, missing=(1,), trees=8))
    with pytest.raises(ArtifactError, match="num_leaves"):
        Forest.from_text(random_text(rng, names=NAMES, most=200, trees=8))


@settings(max_examples=300, deadline=None)
@given(generators(), st.data())
def test_damaged_text_never_does_more_than_refuse(rng, data):
    text = random_text(rng, names=NAMES, trees=2, most=6)
    kind = data.draw(st.sampled_from(["cut", "drop", "byte", "line", "number"]))
    at = data.draw(st.integers(0, len(text) - 1))
    lines = text.split("\n")
    row = data.draw(st.integers(0, len(lines) - 1))
    if kind == "cut":
        text = text[:at]
    elif kind == "drop":
        text = text[:at] + text[at + data.draw(st.integers(1, 20)) :]
    elif kind == "byte":
        text = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    elif kind == "line":
        text = "\n".join(lines[:row] + lines[row + 1 :])
    else:
        key, _, value = lines[row].partition("=")
        words = value.split(" ")
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(
            st.sampled_from(["-1", "0", "1", "7", "99999999999999999999", "nan", "inf", "", "x", "1e999", "-64"])
        )
        lines[row] = key + "=" + " ".join(words)
        text = "\n".join(lines)
    try:
        forest = Forest.from_text(text)
    except ArtifactError:
        return
    out = forest.score(random_matrix(rng, len(forest.names), 20))
    assert np.isfinite(out).all()


@given(st.text(max_size=200))
def test_any_text_is_a_model_or_refused(text):
    with pytest.raises(ArtifactError):
        parse_model(text)
