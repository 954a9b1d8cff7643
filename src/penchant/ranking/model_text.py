"""LightGBM's text model as plain trees; whatever cannot be scored exactly is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from penchant.core.errors import ArtifactError

MAX_LEAVES = 64
"""A leaf is a bit of a machine word."""

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT = 1, 2, 2
_MISSING_NONE, _MISSING_ZERO = 0, 1
_OBJECTIVES = {"binary": True, "cross_entropy": True, "regression": False, "lambdarank": False, "rank_xendcg": False}
"""Objectives whose raw score is the sum of the leaves, and whether it is a log-odds."""


class Split(NamedTuple):
    """An inner node: rows with `x[feature] <= threshold` go left; children are nodes, or leaves as `~leaf`.

    `nan_right` says where a missing value goes.
    """

    feature: int
    threshold: float
    nan_right: bool
    left: int
    right: int


class Tree(NamedTuple):
    """Inner nodes (the first is the root; none in a tree of one leaf) and the values of the leaves."""

    splits: Sequence[Split]
    leaves: Sequence[float]


class Model(NamedTuple):
    """A parsed model. `sigmoid` is the slope of the log-odds, 0 where the raw score is not one."""

    features: tuple[str, ...]
    objective: str
    sigmoid: float
    trees: Sequence[Tree]


def parse_model(text: str) -> Model:
    """The trees of a model file; raises `ArtifactError` for damage and for what is not supported.

    Supported: one output, numerical splits, missing values absent or NaN, at most `MAX_LEAVES` leaves a tree.
    The format is that of LightGBM's `Tree::ToString` (v3, v4).
    """
    try:
        return _parse(text)
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise ArtifactError(f"the tree model is damaged ({type(error).__name__}: {error}); train again") from error


def _parse(text: str) -> Model:
    head, *blocks = _blocks(text)
    if head.get("num_class") != "1" or head.get("num_tree_per_iteration") != "1":
        raise ArtifactError("the tree model has several outputs; train one model for each action")
    if "average_output" in head:
        raise ArtifactError("the tree model averages its trees (random forest); train with boosting = gbdt")
    objective, *options = head["objective"].split(" ")
    if objective not in _OBJECTIVES:
        raise ArtifactError(f"objective {objective!r} is not supported; there are: {', '.join(_OBJECTIVES)}")
    sigmoid = float(_OBJECTIVES[objective])
    for option in options:
        key, _, value = option.partition(":")
        if key == "sigmoid" and objective == "binary":
            sigmoid = float(value)
    features = tuple(head["feature_names"].split(" "))
    if len(features) != int(head["max_feature_idx"]) + 1:
        raise ValueError("the names do not match the number of features")
    if not math.isfinite(sigmoid):
        raise ValueError("sigmoid is not a number")
    if len(blocks) != len(head["tree_sizes"].split()):
        raise ValueError(f"{len(blocks)} trees, announced were {len(head['tree_sizes'].split())}")
    return Model(features, objective, sigmoid, [_tree(block, len(features)) for block in blocks])


def _blocks(text: str) -> Iterator[Mapping[str, str]]:
    """The header, then each tree, as their `key=value` lines."""
    block: dict[str, str] = {}
    trees = 0
    for raw in text.splitlines():
        line = raw.strip()
        key, _, value = line.partition("=")
        if line == "end of trees":
            yield block
            return
        if key == "Tree":
            if value != str(trees):
                raise ValueError(f"tree {trees} is missing")
            yield block
            block = {}
            trees += 1
        elif key in block:
            raise ValueError(f"{key} occurs twice")
        elif line:
            block[key] = value
    raise ValueError("the end is missing")


def _tree(block: Mapping[str, str], features: int) -> Tree:
    count = int(block["num_leaves"])
    if not 1 <= count <= MAX_LEAVES:
        raise ArtifactError(f"a tree has {count} leaves; train with num_leaves <= {MAX_LEAVES}")
    if int(block["num_cat"]) or int(block.get("is_linear", "0")):
        raise ArtifactError("categorical splits and linear trees are not supported; train with numerical columns")
    leaves = _floats(block["leaf_value"], count)
    if not all(map(math.isfinite, leaves)):
        raise ValueError("a leaf is not a number")
    inner = count - 1
    columns = [_ints(block[key], inner) for key in ("split_feature", "decision_type", "left_child", "right_child")]
    thresholds = _floats(block["threshold"], inner)
    splits = [
        _split(feature, threshold, kind, left, right)
        for feature, threshold, kind, left, right in zip(columns[0], thresholds, *columns[1:], strict=True)
    ]
    if any(not 0 <= split.feature < features or math.isnan(split.threshold) for split in splits):
        raise ValueError("a split is out of range")
    _check_shape(splits, count)
    return Tree(splits, leaves)


def _split(feature: int, threshold: float, kind: int, left: int, right: int) -> Split:
    missing = kind >> _MISSING_SHIFT
    if kind & _CATEGORICAL:
        raise ArtifactError("categorical splits are not supported; train with numerical columns")
    if missing == _MISSING_ZERO:
        raise ArtifactError("zero as missing is not supported; train with zero_as_missing = false")
    if not 0 <= missing <= 2:
        raise ValueError("unknown decision type")
    # A model that saw no missing value in training takes NaN for 0.
    nan_right = threshold < 0.0 if missing == _MISSING_NONE else not kind & _DEFAULT_LEFT
    return Split(feature, threshold, nan_right, left, right)


def _check_shape(splits: Sequence[Split], leaves: int) -> None:
    """Every node but the root and every leaf hangs on exactly one node, and all on the root."""
    seen: set[int] = set()
    waiting = [0 if splits else ~0]
    while waiting:
        node = waiting.pop()
        if node in seen or not ~leaves < node < len(splits):
            raise ValueError("the nodes are no tree")
        seen.add(node)
        if node >= 0:
            waiting += splits[node].left, splits[node].right
    if len(seen) != len(splits) + leaves:
        raise ValueError("some nodes hang on nothing")


def _floats(text: str, count: int) -> list[float]:
    values = [float(part) for part in text.split()]
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers where {count} belong")
    return values


def _ints(text: str, count: int) -> list[int]:
    values = [int(part) for part in text.split()]
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers where {count} belong")
    return values
