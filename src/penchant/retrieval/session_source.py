"""What came up in the recent sessions that are most like what a person does now."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Retrieved
from penchant.core.compile import kernel
from penchant.core.hashing import hash_id
from penchant.core.items import Items, SessionTable
from penchant.core.query import Query
from penchant.retrieval.kept import Kept
from penchant.retrieval.session_fold import session_of
from penchant.retrieval.session_knn import NearestSessions
from penchant.retrieval.session_walk import Columns, credited, scored
from penchant.retrieval.topk import NOTHING, top_listed

LENGTH = 50
"""Of a session the newest visits that count."""

LIKE_SESSIONS = NearestSessions(
    recent=500,
    nearest=100,
    decay="exponential",
    pace=2.0,
    normalise=0.25,
    reach=4.0,
    backward=0.8,
    idf=0.5,
    onward=0.5,
)
"""As chosen for `session-knn`, but that the history does not propose itself."""


@dataclass(frozen=True, slots=True, eq=False)
class SessionSample:
    """The sample of the picture, and when that was made."""

    columns: Columns | None
    time: int


Asked = tuple[NDArray[np.float32], NDArray[np.int32]]
"""The score of every row, and the rows that have one."""


@dataclass(frozen=True, slots=True)
class SessionNeighbours:
    """`NearestSessions` over the sample of sessions that the picture has, from the newest items of the live history.

    With a seed it alone is the history. The person's own sessions are nobody's neighbours, as far as they began within
    the history. Ages are those at the time of the picture. Without a sample nothing is proposed.
    """

    name: str
    model: NearestSessions = LIKE_SESSIONS
    _kept: Kept[tuple[Asked | None]] = field(default_factory=Kept, repr=False, compare=False)

    def prepare(self, items: Items) -> SessionSample:
        return SessionSample(None if items.sessions is None else _columns(items.sessions), items.time)

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        asked = self._asked(query)
        if asked is None or limit <= 0:
            return NOTHING
        scores, listed = asked
        return Retrieved(*top_listed(listed, scores, query.eligible, limit, 0.0, query.seed_row))

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        asked = self._asked(query)
        if asked is None:
            return np.full(len(rows), np.nan, np.float32)
        scores = asked[0][rows]
        scores[scores == 0] = np.nan
        return scores

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history that gave most to its score, -1 for none."""
        table, past = self._past(query)
        if table.columns is None or len(past) == 0:
            return np.full(len(rows), -1, np.int32)
        found = credited(
            table.columns, past, self.model.weights(), table.time, _own(query), self.model.numbers(LENGTH), rows
        )
        return np.where(found >= 0, past[found], -1).astype(np.int32)

    def _asked(self, query: Query) -> Asked | None:
        table = query.items.tables[self.name]
        return self._kept.of(query, table, lambda: (self._made(query),))[0]

    def _made(self, query: Query) -> Asked | None:
        table, past = self._past(query)
        if table.columns is None or len(past) == 0:
            return None
        weights, numbers = self.model.weights(), self.model.numbers(LENGTH)
        return scored(table.columns, past, weights, table.time, _own(query), numbers)

    def _past(self, query: Query) -> tuple[SessionSample, NDArray[np.int32]]:
        table = query.items.tables[self.name]
        assert isinstance(table, SessionSample)
        rows = query.history if query.seed_row < 0 else np.array([query.seed_row], np.int32)
        return table, rows[: self.model.depth].astype(np.int32)


def _columns(table: SessionTable) -> Columns:
    visits = table.visits
    return Columns(
        visits.offsets, visits.keys, visits.values, table.keys, table.offsets, table.rows, table.times, table.index
    )


def _own(query: Query) -> NDArray[np.int64]:
    """The person's own sessions: each was begun by a visit, and is named by its time."""
    if not query.user_id or len(query.user.history) == 0:
        return np.empty(0, np.int64)
    # A copy is an array of one kind, whatever view the history is: another kind would be compiled for in a request.
    return _names(hash_id(query.user_id), np.array(query.user.history.ts))


@kernel
def _names(person: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sessions that began at these times, which are in order: each once."""
    names = np.empty(len(times), np.int64)
    size = 0
    for at in range(len(times)):
        if at == 0 or times[at] != times[at - 1]:
            names[size] = session_of(person, times[at])
            size += 1
    return names[:size]
