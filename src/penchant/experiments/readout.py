"""What came of an experiment: the rate of slates that were answered, by arm, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.events import Impression, Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, EventLog
from penchant.experiments.assignment import CONTROL
from penchant.experiments.intervals import Interval, newcombe, wilson
from penchant.stream.attribution import NO_REQUEST, ActedColumns, ShownColumns, attribute

CHUNK = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReadout:
    """One arm. `rate` is the share of its slates with at least one of the actions; `lift` its difference to control.

    Both intervals are widened by the design effect, because slates of one user resemble each other.
    """

    arm: str
    users: int
    slates: int
    answered: int
    rate: Interval
    lift: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """An experiment's arms by name, compared with `control`."""

    experiment: str
    control: str
    arms: Mapping[str, ArmReadout] = field(default_factory=dict)


def read_out(
    log: EventLog,
    experiment: str,
    actions: frozenset[str],
    *,
    attribution_ms: int,
    control: str = CONTROL,
    since: int = 0,
    confidence: float = 0.95,
) -> Readout:
    """Read the slates of an experiment after position `since` and what followed each within the attribution window.

    Simulated slates, late events and people who were erased do not count.
    """
    slates = _Slates(experiment, actions)
    while records := log.read(since, CHUNK):
        since = records[-1].position
        for record in records:
            event = record.event
            if isinstance(event, UserErased):
                slates.erased[hash_id(event.user_id)] = record.position
            elif record.verdict == ACCEPTED and isinstance(event, Impression):
                slates.show(event, record.ts, record.position)
            elif record.verdict == ACCEPTED and isinstance(event, Interaction):
                slates.act(event, record.ts)
    arms = slates.arms(attribution_ms)
    base = arms.get(control)
    return Readout(
        experiment=experiment,
        control=control,
        arms={
            arm: _arm(arm, counted, None if arm == control else base, confidence)
            for arm, counted in sorted(arms.items())
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    users: int
    slates: int
    answered: int
    effect: float
    """Design effect: how many times wider the variance is than if slates were independent, at least 1."""


def _arm(arm: str, counted: _Counted, base: _Counted | None, confidence: float) -> ArmReadout:
    hits, n = counted.answered / counted.effect, counted.slates / counted.effect
    lift = None
    if base is not None:
        lift = newcombe(hits, n, base.answered / base.effect, base.slates / base.effect, confidence)
    return ArmReadout(
        arm=arm,
        users=counted.users,
        slates=counted.slates,
        answered=counted.answered,
        rate=wilson(hits, n, confidence),
        lift=lift,
    )


class _Slates:
    def __init__(self, experiment: str, actions: frozenset[str]) -> None:
        self._experiment = experiment
        self._actions = actions
        self.erased: dict[int, int] = {}
        self._arms: list[str] = []
        self._slates: list[tuple[int, int, int, int, int]] = []
        self._shown: list[tuple[int, int]] = []
        self._acted: list[tuple[int, int, int, int]] = []

    def show(self, event: Impression, ts: int, position: int) -> None:
        served = event.served
        arm = "" if served is None or served.simulated else served.experiment.get(self._experiment, "")
        request = NO_REQUEST if event.request_id is None else hash_id(event.request_id)
        number = len(self._slates)
        self._arms.append(arm)
        self._slates.append((hash_id(event.user_id), request, ts, position, served is not None))
        self._shown += [(hash_id(item.item_id), number) for item in event.items]

    def act(self, event: Interaction, ts: int) -> None:
        if event.action in self._actions:
            request = NO_REQUEST if event.request_id is None else hash_id(event.request_id)
            self._acted.append((hash_id(event.user_id), hash_id(event.item_id), request, ts))

    def arms(self, attribution_ms: int) -> dict[str, _Counted]:
        users, requests, ts, positions, served = np.array(self._slates, np.int64).reshape(-1, 5).T
        items, owner = np.array(self._shown, np.int64).reshape(-1, 2).T
        acted = np.array(self._acted, np.int64).reshape(-1, 4).T
        shown = ShownColumns(
            users=users[owner],
            items=items,
            requests=requests[owner],
            ts=ts[owner],
            positions=positions[owner],
            served=served[owner] != 0,
        )
        answers = attribute(
            shown, ActedColumns(users=acted[0], items=acted[1], requests=acted[2], ts=acted[3]), attribution_ms
        )
        answered = np.zeros(len(users), np.bool_)
        answered[owner[answers[answers >= 0]]] = True
        kept = np.array([positions[i] > self.erased.get(int(users[i]), -1) for i in range(len(users))], np.bool_)
        names = np.array(self._arms, np.str_)
        return {
            arm: _count(users[chosen], answered[chosen])
            for arm in sorted(set(self._arms) - {""})
            if (chosen := (names == arm) & kept).any()
        }


def _count(users: NDArray[np.int64], answered: NDArray[np.bool_]) -> _Counted:
    _, owner = np.unique(users, return_inverse=True)
    sizes, hits = np.bincount(owner).astype(np.float64), np.bincount(owner, answered)
    n, total = len(users), float(answered.sum())
    rate = total / n
    effect = 1.0
    if 0 < rate < 1 and len(sizes) > 1:
        # Variance of a ratio over clusters (linearised), over that of as many independent slates.
        clustered = len(sizes) / (len(sizes) - 1) * float(((hits - rate * sizes) ** 2).sum()) / n**2
        effect = max(1.0, clustered / (rate * (1 - rate) / n))
    return _Counted(users=len(sizes), slates=n, answered=int(total), effect=effect)
