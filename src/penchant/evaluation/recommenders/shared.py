"""A model that several rows of a report stand on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log, Recommender


@dataclass(slots=True, eq=False)
class Shared:
    """A model that is fitted to a log once, though it be asked for alone and in blends, one after the other.

    Not for models that go on learning (`Learner`): each would learn what the other was told.
    """

    model: Recommender
    name: str = field(init=False)
    spared_s: float = 0.0
    """Seconds that its fits would have taken beyond what they did."""
    _log: Log | None = None
    _took_s: float = 0.0

    def __post_init__(self) -> None:
        self.name = self.model.name

    def fit(self, log: Log) -> None:
        if self._log is not None and _same(self._log, log):
            self.spared_s += self._took_s
            return
        self._log = None
        begun = time.perf_counter()
        self.model.fit(log)
        self._log, self._took_s = log, time.perf_counter() - begun

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        return self.model.scores(cases)


def _same(one: Log, other: Log) -> bool:
    if (one.n_users, one.n_items, len(one), one.times is None) != (
        other.n_users,
        other.n_items,
        len(other),
        other.times is None,
    ):
        return False
    times = one.times is None or other.times is None or np.array_equal(one.times, other.times)
    return times and np.array_equal(one.users, other.users) and np.array_equal(one.items, other.items)
