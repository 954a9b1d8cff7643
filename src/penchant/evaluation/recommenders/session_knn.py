"""Session-kNN as the engine keeps it, on an offline log whose users are sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.session_knn import NOBODY, NearestSessions
from penchant.retrieval.session_source import LIKE_SESSIONS
from penchant.retrieval.sessions import Sessions

CHOSEN = replace(LIKE_SESSIONS, own=0.7)
"""Chosen on the first period of Diginetica: its last three days, from the days before them."""


@dataclass(slots=True, eq=False)
class SessionKnn:
    """`retrieval.session_knn.NearestSessions` over the newest `events` visits; its own session is nobody's neighbour.

    `now` is the time of the newest visit. In a log without times the n-th visit has the time n, and `fade` counts
    visits. A visit to the item that the session is already at counts like any other. Items that no neighbour visited
    are not proposed.
    """

    name: str = "session-knn"
    model: NearestSessions = CHOSEN
    events: int = 1_000_000
    sessions: int = 250_000
    length: int = 50
    _sample: Sessions | None = field(default=None, repr=False)
    _taken: int = 0
    _now: int = 0
    _n_items: int = 0

    def fit(self, log: Log) -> None:
        self._sample = Sessions(self.sessions, self.events, self.length)
        self._taken = self._now = 0
        self._n_items = log.n_items
        self.learn(log)

    def learn(self, log: Log) -> None:
        assert self._sample is not None, "fit comes first"
        times = np.arange(self._taken, self._taken + len(log), dtype=np.int64) if log.times is None else log.times
        self._sample.extend(log.users.astype(np.int64), log.items, times)
        self._taken += len(log)
        if len(log):
            self._now = int(times[-1])

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        assert self._sample is not None, "fit comes first"
        found = np.full((len(cases), self._n_items), -np.inf, np.float32)
        own = np.where(cases.users >= 0, cases.users.astype(np.int64), NOBODY)
        self.model.fill(self._sample, cases.items, cases.offsets, self._now, own, found)
        return found
