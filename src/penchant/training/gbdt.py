"""Rankers as gradient boosted trees: one head per action, or one that orders the slate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penchant.core.schema import Schema
from penchant.ranking.gbdt import FIXED, RANK_HEAD
from penchant.settings import Training
from penchant.training.examples import Examples

Objective = Literal["binary", "lambdarank"]
Progress = Callable[[str, int, int], None]
"""Called with the head, the trees done, and how many there will be at most."""

Tell = Callable[[int, int], None]

POSITION = "position"

_MIN_EITHER = 20
_STOP_SHARE = 0.1
_PATIENCE = 30


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What all heads share: rows to fit on and to stop by, names of the columns, how many trees, parameters."""

    fit: Examples
    stop: Examples
    names: tuple[str, ...]
    trees: int
    params: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ranker:
    """Heads as LightGBM model texts. With `position` the last column is the rank shown, held still when serving.

    `names` are the columns, that one not among them. `skipped` says why an action has no head.
    """

    objective: Objective
    heads: Mapping[str, str]
    names: tuple[str, ...]
    columns: str
    position: bool
    weights: Mapping[str, float]
    skipped: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def train_ranker(
    examples: Examples,
    settings: Training,
    schema: Schema,
    *,
    objective: Objective = "binary",
    position: bool = True,
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Ranker:
    """Fit heads on training rows; the newest tenth of the requests says when to stop.

    `binary` gives each action of non-zero weight P(action) of its own; `lambdarank` gives one head that orders by
    the summed weights of what followed (negative sums count as nothing). An action with too few rows of either kind
    is skipped with the reason. Equal rows, settings and seed give equal texts, however many threads.
    """
    weights = {name: action.weight for name, action in schema.actions.items() if action.weight != 0}
    cut = examples.requests - round(examples.requests * _STOP_SHARE)
    fit, stop = examples.slice(0, cut), examples.slice(cut, examples.requests)
    plan = _Plan(
        fit,
        stop,
        (*examples.names, POSITION) if position else examples.names,
        settings.trees,
        _params(settings, objective, len(fit), threads, seed),
    )
    targets: dict[str, NDArray[np.int8]] = {name: examples.labels[name] for name in weights}
    if objective == "lambdarank":
        targets = {RANK_HEAD: _grades(worth(examples, weights))}
    heads: dict[str, str] = {}
    skipped: dict[str, str] = {}
    metrics: dict[str, Any] = {"rows": len(examples), "requests": examples.requests}
    matrix = _matrix(examples, position)
    for head, label in targets.items():
        few = _too_few(label[: len(fit)], label[len(fit) :])
        if few is not None:
            skipped[head] = few
            continue
        heads[head], told = _fit_head(matrix, label, plan, partial(progress or _silent, head))
        metrics[head] = {**told, "positives": int((label > 0).sum())}
    return Ranker(
        objective=objective,
        heads=heads,
        names=examples.names,
        columns=examples.columns,
        position=position,
        weights=weights,
        skipped=skipped,
        metrics=metrics,
    )


def predict_heads(ranker: Ranker, examples: Examples, *, served: bool = True) -> dict[str, NDArray[np.float64]]:
    """What each head says of rows: a probability, or the raw score of the rank head.

    `served` holds the column `position` as serving does (`ranking.gbdt.FIXED`), else it is the rank that was shown.
    """
    import lightgbm  # a server never trains: it need not wait for this at its start

    matrix = _matrix(examples, ranker.position)
    if ranker.position and served:
        matrix[:, -1] = FIXED[POSITION]
    answers = {}
    for name, text in ranker.heads.items():
        booster = lightgbm.Booster(model_str=text)
        answers[name] = np.asarray(booster.predict(matrix, num_threads=1), np.float64)
    return answers


def predict_value(ranker: Ranker, examples: Examples) -> NDArray[np.float64]:
    """The value that selection would go by: the heads under the weights of the actions, or the rank head."""
    answers = predict_heads(ranker, examples)
    if ranker.objective == "lambdarank":
        return answers[RANK_HEAD]
    value = np.zeros(len(examples))
    for name, answer in answers.items():
        value += ranker.weights[name] * answer
    return value


def worth(examples: Examples, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Per row the summed weights of the actions that followed."""
    total = np.zeros(len(examples))
    for name, weight in weights.items():
        total += weight * examples.labels[name]
    return total


def _silent(head: str, done: int, total: int) -> None:
    del head, done, total


def _grades(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Worths as small integers in their order, nothing or worse as 0: what lambdarank takes."""
    levels = np.unique(values[values > 0])
    grades: NDArray[np.int8] = np.where(values > 0, np.searchsorted(levels, values) + 1, 0).clip(0, 30).astype(np.int8)
    return grades


def _too_few(fit: NDArray[np.int8], stop: NDArray[np.int8]) -> str | None:
    yes, no = int((fit > 0).sum()), int((fit == 0).sum())
    if min(yes, no) < _MIN_EITHER:
        return f"{yes} rows with it and {no} without; at least {_MIN_EITHER} of either are needed"
    if not (stop > 0).any():
        return "none among the newest requests, so that nothing says when to stop"
    return None


def _matrix(examples: Examples, position: bool) -> NDArray[np.float32]:
    if not position:
        return examples.X
    # Rows that were drawn from the candidates of a replayed request stood in no order that anybody saw.
    drawn = np.repeat(examples.simulated, np.diff(examples.groups)) & np.isfinite(examples.propensities)
    ranks = np.where(drawn, FIXED[POSITION], examples.ranks).astype(np.float32)
    return np.column_stack([examples.X, ranks])


def _fit_head(
    matrix: NDArray[np.float32], label: NDArray[np.int8], plan: _Plan, tell: Tell
) -> tuple[str, dict[str, Any]]:
    """One booster; also its number of trees, what the newest rows said of it, and the gain of its columns."""
    import lightgbm

    sets: list[Any] = []
    for part, rows in ((plan.fit, slice(0, len(plan.fit))), (plan.stop, slice(len(plan.fit), None))):
        sets.append(
            lightgbm.Dataset(
                matrix[rows],
                label[rows],
                weight=part.weights,
                group=np.diff(part.groups) if plan.params["objective"] == "lambdarank" else None,
                reference=sets[0] if sets else None,
                feature_name=list(plan.names),
            )
        )
    booster = lightgbm.train(
        plan.params,
        sets[0],
        num_boost_round=plan.trees,
        valid_sets=[sets[1]],
        valid_names=["stop"],
        callbacks=[
            lightgbm.early_stopping(_PATIENCE, verbose=False),
            lambda env: tell(env.iteration + 1, env.end_iteration),
        ],
    )
    trees = booster.best_iteration or booster.current_iteration()
    gains = booster.feature_importance("gain", iteration=trees).tolist()
    top = sorted(zip(gains, plan.names, strict=True), reverse=True)[:20]
    return booster.model_to_string(num_iteration=trees), {
        "trees": trees,
        "stop": {name: float(value) for name, value in booster.best_score["stop"].items()},
        "gain": {name: gain for gain, name in top if gain > 0},
    }


def _params(settings: Training, objective: Objective, rows: int, threads: int, seed: int) -> dict[str, Any]:
    return {
        "objective": objective,
        "metric": "ndcg" if objective == "lambdarank" else "binary_logloss",
        "eval_at": [10],
        "lambdarank_truncation_level": 20,
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": max(5, min(100, rows // 200)),
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbose": -1,
    }
