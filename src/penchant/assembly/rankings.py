"""Recorded rankings ranked again: a ranker trained on some users' orders what was shown to the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penchant.assembly.parts import Parts
from penchant.assembly.simulating import Progress, WithSimulated, simulate
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.core.clock import EventClock
from penchant.core.errors import PenchantError
from penchant.core.events import Impression
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, START
from penchant.evaluation.bootstrap import Difference, paired_bootstrap
from penchant.evaluation.metrics import ndcg, rank
from penchant.log.memory import MemoryLog
from penchant.settings import Settings, duration
from penchant.training.examples import Examples, read_examples
from penchant.training.gbdt import Objective, predict_value, train_ranker, worth

EVERY = 20
"""Records after which the picture of the items is renewed; a user's state is always that just before the ranking."""

K = 10
_CHANCE = 20
"""Random orders that the baseline is the mean of."""


class TooFew(PenchantError):
    """The log has too few rankings or users to judge by; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """NDCG@10 of one order over the test users' rankings, with intervals (95 %, bootstrap over users)."""

    name: str
    ndcg: float
    interval: tuple[float, float]
    behind: tuple[float, float] | None
    """Interval of the ranker's NDCG minus this one's; None for the ranker itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankingReport:
    """What a ranker trained on the rankings of `train_users` made of those of `test_users`, beside the baselines.

    Judged are the `judged` rankings of test users that something followed: without an outcome NDCG is not defined.
    """

    seed: int
    folds: int
    objective: Objective
    train_users: int
    """Of the first fold, as are `train_rankings`."""
    test_users: int
    train_rankings: int
    test_rankings: int
    judged: int
    by_fold: tuple[float, ...]
    """The ranker's NDCG in each fold."""
    orders: tuple[Judged, ...]
    """The ranker first."""

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        told = {name: getattr(self, name) for name in _TOLD}
        return {**told, "orders": [msgspec.to_builtins(one) for one in self.orders]}


_TOLD = (
    *("seed", "folds", "objective", "train_users", "test_users"),
    *("train_rankings", "test_rankings", "judged", "by_fold"),
)


def read_rankings(parts: Parts, *, surface: str = "home", progress: Progress | None = None) -> Examples:
    """Every recorded ranking with the features of just before it, oldest first.

    Rankings from elsewhere are replayed through the surface's pipeline, in the order of the log; what the engine itself
    served comes with the features as served. No model that was trained on the log takes part: it would know the labels.
    """
    compiled = SurfaceCompiler(parts.definition, parts.artifacts).build({}, None, "")
    external = _external(parts)
    recorded = simulate(parts, compiled, surface, external, after=START, every=EVERY, progress=progress)
    settings, schema = parts.definition.settings, parts.definition.schema
    return read_examples(
        WithSimulated(parts.log, recorded),
        schema,
        names=compiled.column_names,
        attribution_ms=duration(settings.training.attribution, "training.attribution"),
        columns=compiled.columns,
    )


def after_launch(parts: Parts, share: float, seed: int) -> Parts:
    """The deployment as if the users that `seed` draws had come after all the others: a log in memory, others first.

    So nothing of the held-out users was known when the ranker was trained: neither labels nor counts of items.
    """
    settings, definition = parts.definition.settings, parts.definition
    users = np.unique([hash_id(user) for user in _users_of_rankings(parts)])
    held_out = set(users[drawn_users(users, share, seed)].tolist())
    clock = EventClock()
    log = MemoryLog(schema=definition.schema, clock=clock, lateness_ms=duration(settings.log.lateness, "log.lateness"))
    for late in (False, True):
        after = START
        while records := parts.log.read(after, 5_000):
            after = records[-1].position
            log.append(
                [
                    msgspec.structs.replace(record.event, ts=record.ts)
                    for record in records
                    if (hash_id(getattr(record.event, "user_id", "")) in held_out) == late
                ]
            )
    return replace(parts, log=log, clock=clock)


def judge(
    examples: Examples,
    parts: Parts,
    *,
    share: float = 0.2,
    seed: int = 7,
    folds: int = 1,
    objective: Objective = "binary",
    threads: int = 1,
    progress: Progress | None = None,
) -> RankingReport:
    """Train on the rankings of a drawn 1 - `share` of the users, rank those of the others; raises `TooFew`.

    With more `folds` the same is done as often with other test users, no user twice, and all rankings judged together:
    how lucky one split is matters less.
    """
    settings, schema = parts.definition.settings, parts.definition.schema
    weights = {name: action.weight for name, action in schema.actions.items() if action.weight != 0}
    rounds: list[dict[str, NDArray[np.float64]]] = []
    judged_users, trained, tested = [], [], []
    for fold in range(folds):
        testing = drawn_users(examples.users, share, seed, fold)
        fit, test = examples.where(~testing), examples.where(testing)
        gains = np.maximum(worth(test, weights), 0.0)
        judged = test.where(np.add.reduceat(gains, test.groups[:-1]) > 0)
        if not judged.requests:
            raise TooFew("no ranking of the test users was followed by an action of positive weight; import more")
        ranker = train_ranker(
            fit, settings.training, schema, objective=objective, threads=threads, seed=seed, progress=progress
        )
        if not ranker.heads:
            raise TooFew(f"nothing could be trained: {'; '.join(ranker.skipped.values())}")
        gains = np.maximum(worth(judged, weights), 0.0)
        scores = {"ranker": predict_value(ranker, judged), **_baselines(judged, settings)}
        measured = {name: ndcg(rank(score, gains, judged.groups), K) for name, score in scores.items()}
        rounds.append({**measured, "random": _chance(gains, judged.groups, seed)})
        judged_users.append(judged.users)
        trained.append(fit)
        tested.append(test)
    users = np.concatenate(judged_users)
    pooled = {name: np.concatenate([one[name] for one in rounds]) for name in rounds[0]}
    return RankingReport(
        seed=seed,
        folds=folds,
        objective=objective,
        train_users=len(np.unique(trained[0].users)),
        test_users=sum(len(np.unique(test.users)) for test in tested),
        train_rankings=trained[0].requests,
        test_rankings=sum(test.requests for test in tested),
        judged=len(users),
        by_fold=tuple(float(one["ranker"].mean()) for one in rounds),
        orders=tuple(_judged(name, pooled, users, seed) for name in pooled),
    )


def drawn_users(users: NDArray[np.int64], share: float, seed: int, fold: int = 0) -> NDArray[np.bool_]:
    """Which requests are of the `share` of users (at least one, never all) that `seed` draws; bool[requests].

    Other folds of one seed draw other users; raises `TooFew` when none are left for one.
    """
    known = np.unique(users)
    count = min(max(round(share * len(known)), 1), len(known) - 1)
    drawn = np.random.default_rng(seed).permutation(known)[fold * count : (fold + 1) * count]
    if len(known) < 2 or not len(drawn):
        raise TooFew(f"the log has rankings of {len(known)} users: too few for {fold + 1} folds of {share:.0%}")
    return np.isin(users, drawn)


def _users_of_rankings(parts: Parts) -> set[str]:
    """Who was shown the rankings that are judged."""
    after, found = START, set()
    while records := parts.log.read(after, 5_000):
        after = records[-1].position
        found |= {record.event.user_id for record in records if isinstance(record.event, Impression)}
    return found - {""}


def _external(parts: Parts) -> set[int]:
    """Positions of the rankings that others made."""
    found: set[int] = set()
    after = START
    while records := parts.log.read(after, 5_000):
        after = records[-1].position
        for record in records:
            event = record.event
            if isinstance(event, Impression) and event.served is None and event.user_id and record.verdict == ACCEPTED:
                found.add(record.position)
    return found


def _baselines(examples: Examples, settings: Settings) -> Mapping[str, NDArray[np.floating]]:
    """The order that people saw, and each declared rate per impression of the item alone."""
    rates = [
        f"item.{name}"
        for name, feature in settings.features.items()
        if feature.entity == "item" and feature.agg == "rate" and feature.per in ("impression", ["impression"])
    ]
    return {
        "as shown": -examples.ranks.astype(np.float64),
        **{name: examples.X[:, examples.names.index(name)] for name in rates},
    }


def _chance(gains: NDArray[np.float64], groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    found = [ndcg(rank(rng.random(len(gains)), gains, groups), K) for _ in range(_CHANCE)]
    average: NDArray[np.float64] = np.mean(found, axis=0)
    return average


def _judged(name: str, measured: Mapping[str, NDArray[np.float64]], users: NDArray[np.int64], seed: int) -> Judged:
    own, best = measured[name], measured["ranker"]
    alone = paired_bootstrap(own, np.zeros(len(own)), seed=seed, clusters=users)
    ahead: Difference | None = None
    if name != "ranker":
        ahead = paired_bootstrap(best, own, seed=seed, clusters=users)
    return Judged(
        name=name,
        ndcg=alone.mean,
        interval=(alone.low, alone.high),
        behind=None if ahead is None else (ahead.low, ahead.high),
    )
