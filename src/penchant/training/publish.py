"""The gate: a candidate serves only where it is not worse than what serves now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.bootstrap import paired_bootstrap
from penchant.evaluation.metrics import mean, ndcg, rank
from penchant.training.examples import Examples
from penchant.training.gbdt import Ranker, predict_heads, predict_value, worth

CUT = 10
_MIN_REQUESTS = 20
_MIN_COVERAGE = 0.7
_CALIBRATED = (0.5, 2.0)
_LEAST_SEEN = 0.05
_EXAMINED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The verdict on a candidate. `baseline` says what it was compared with: the live model or the served order.

    `interval` is of the difference in NDCG@10 over `n` requests with something worth ranking. `guardrails` holds the
    measured figures that must stay in bounds.
    """

    published: bool
    reason: str
    candidate_ndcg: float
    live_ndcg: float
    interval: tuple[float, float]
    n: int
    baseline: str = "served order"
    forced: bool = False
    guardrails: dict[str, float] = field(default_factory=dict)


def gate(
    candidate: Ranker | None,
    live: Ranker | None,
    held_out: Examples,
    *,
    seed: int = 0,
    force: bool = False,
) -> Gate:
    """Judge a candidate on held-out requests: the items that were shown, ranked by the value of either model.

    Gains are the weights of the actions that followed (below zero: none) over the chance that the rank was looked at
    (`examination`), or else the order that was served would win by having been served. Without a live model of the
    same columns the order in which the slates were served stands in for it. The candidate is refused when the
    interval of the difference (paired bootstrap over users) lies below zero, or a guardrail is broken; `force`
    overrides all but values that are not finite.
    """
    if candidate is None or not candidate.heads:
        if live is not None and live.heads:
            return _verdict(False, "no ranker was trained (too few outcomes), and the live artifact has one", force)
        return _verdict(True, "no ranker was trained: nothing to compare", force)
    value = predict_value(candidate, held_out)
    comparable = live is not None and live.heads and live.columns == candidate.columns
    against = predict_value(live, held_out) if live is not None and comparable else -held_out.ranks.astype(np.float64)
    seen = examination(candidate, held_out)
    gains = np.maximum(worth(held_out, candidate.weights), 0.0) / seen[held_out.ranks - 1] if len(held_out) else value
    ours = ndcg(rank(value, gains, held_out.groups), CUT)
    theirs = ndcg(rank(against, gains, held_out.groups), CUT)
    difference = paired_bootstrap(ours, theirs, seed=seed, clusters=held_out.users)
    rails = {
        "not_finite": float((~np.isfinite(value)).mean()) if len(value) else 0.0,
        **_coverage(value, against, held_out),
        **_calibration(candidate, held_out),
    }
    passed, reason = _judge(difference.high, difference.mean, difference.n, rails)
    return _verdict(
        passed,
        reason,
        force and rails["not_finite"] == 0,
        candidate_ndcg=mean(ours),
        live_ndcg=mean(theirs),
        interval=(difference.low, difference.high),
        n=difference.n,
        baseline="live model" if comparable else "served order",
        guardrails=rails,
    )


def examination(ranker: Ranker, examples: Examples) -> NDArray[np.float64]:
    """How likely a rank was looked at, relative to the first, as the ranker learned it; float64[ranks], at least 0.05.

    The column `position` of the head with the most outcomes is moved from rank to rank (the position-based model of
    Joachims, Swaminathan and Schnabel, WSDM 2017); 1 everywhere for a ranker without that column or probabilities.
    """
    ranks = int(examples.ranks.max(initial=1))
    if not ranker.position or ranker.objective != "binary" or not len(examples):
        return np.ones(ranks)
    head = max(ranker.heads, key=lambda name: int(examples.labels[name].sum()))
    rows = examples.slice(max(0, examples.requests - _EXAMINED), examples.requests)
    rates = np.empty(ranks)
    for rank_shown in range(ranks):
        moved = replace(
            rows, ranks=np.full(len(rows), rank_shown + 1, np.int32), simulated=np.zeros_like(rows.simulated)
        )
        rates[rank_shown] = predict_heads(ranker, moved, served=False)[head].mean()
    seen: NDArray[np.float64] = np.clip(np.minimum.accumulate(rates) / rates[0], _LEAST_SEEN, 1.0)
    return seen


def _judge(high: float, delta: float, n: int, rails: dict[str, float]) -> tuple[bool, str]:
    if rails["not_finite"] > 0:
        return False, f"{rails['not_finite']:.1%} of its values are not finite"
    if n < _MIN_REQUESTS:
        return False, f"only {n} held-out requests had an outcome; at least {_MIN_REQUESTS} are needed to judge"
    if high < 0:
        return False, f"worse: NDCG@{CUT} differs by {delta:+.4f}, and by less than zero for sure"
    if rails.get("coverage", 1.0) < _MIN_COVERAGE:
        return False, f"its first {CUT} cover {rails['coverage']:.0%} of the items that the other's do"
    for name, ratio in rails.items():
        if name.startswith("calibration_") and not _CALIBRATED[0] <= ratio <= _CALIBRATED[1]:
            return False, f"{name.removeprefix('calibration_')} is predicted {ratio:.2f} times as often as it happens"
    return True, f"not worse: NDCG@{CUT} differs by {delta:+.4f}"


def _verdict(
    passed: bool,
    reason: str,
    force: bool,
    *,
    candidate_ndcg: float = float("nan"),
    live_ndcg: float = float("nan"),
    interval: tuple[float, float] = (float("nan"), float("nan")),
    n: int = 0,
    baseline: str = "nothing",
    guardrails: dict[str, float] | None = None,
) -> Gate:
    return Gate(
        published=passed or force,
        reason=reason if passed or not force else f"forced although {reason}",
        candidate_ndcg=candidate_ndcg,
        live_ndcg=live_ndcg,
        interval=interval,
        n=n,
        baseline=baseline,
        forced=force and not passed,
        guardrails=guardrails or {},
    )


def _coverage(ours: NDArray[np.float64], theirs: NDArray[np.float64], examples: Examples) -> dict[str, float]:
    """How many different items stand among the first of each slate, over how many do by the other's values.

    Candidates drawn for replayed requests say nothing of it: there any order but chance covers less.
    """
    real = np.repeat(~examples.simulated, np.diff(examples.groups))
    if not real.any():
        return {}
    owner = np.repeat(np.arange(examples.requests), np.diff(examples.groups))
    place = np.arange(len(owner)) - np.repeat(examples.groups[:-1], np.diff(examples.groups))
    covered = []
    for values in (ours, theirs):
        order = np.lexsort((-np.where(np.isfinite(values), values, -np.inf), owner))
        covered.append(len(np.unique(examples.items[order[(place < CUT) & real]])))
    return {"coverage": covered[0] / max(covered[1], 1)}


def _calibration(candidate: Ranker, examples: Examples) -> dict[str, float]:
    """Predicted over observed rate of the head of the highest weight, at the ranks that were shown."""
    if candidate.objective != "binary":
        return {}
    head = max(candidate.heads, key=lambda name: candidate.weights[name])
    if examples.labels[head].sum() < _MIN_REQUESTS:
        return {}
    predicted = predict_heads(candidate, examples, served=False)[head]
    return {
        f"calibration_{head}": float(predicted @ examples.weights) / float(examples.labels[head] @ examples.weights)
    }
