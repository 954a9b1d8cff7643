"""What offline protocols and models say to each other: a log to learn from, histories that ask, scores that answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Interactions in order of time, all of them positive."""

    users: NDArray[np.int32]
    """int32[n]; for session data: the session."""
    items: NDArray[np.int32]
    """int32[n]."""
    n_users: int
    n_items: int
    times: NDArray[np.int64] | None = None
    """int64[n] in ms, not falling; None: only the order is known."""

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Log:
        """The log of these rows, over the same users and items; the rows must be given in order."""
        times = None if self.times is None else self.times[rows]
        return Log(self.users[rows], self.items[rows], self.n_users, self.n_items, times)

    def matrix(self) -> sparse.csr_matrix:
        """Who has what, once: float32 ones, scipy CSR [n_users, n_items]."""
        return _ones(self.users, self.items, (self.n_users, self.n_items))


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """What is asked: one ranking per case, from the history of the case alone."""

    users: NDArray[np.int32]
    """int32[cases]; -1: not in the training log."""
    items: NDArray[np.int32]
    """Histories one after the other, oldest first."""
    offsets: NDArray[np.int64]
    """int64[cases + 1]: case `c` has `items[offsets[c]:offsets[c + 1]]`."""

    def __len__(self) -> int:
        return len(self.users)

    def owners(self) -> NDArray[np.int64]:
        """The case of each entry of `items`."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))

    def matrix(self, n_items: int) -> sparse.csr_matrix:
        """Which items each history has, once: float32 ones, scipy CSR [cases, n_items]."""
        return _ones(self.owners(), self.items, (len(self.users), n_items))


@runtime_checkable
class Recommender(Protocol):
    """A model that can be judged offline."""

    name: str

    def fit(self, log: Log) -> None:
        """Learn from the log alone; what an earlier `fit` learned is forgotten."""

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        """float32[cases, n_items], higher is better; -inf: not proposed. The caller may write into it."""


@runtime_checkable
class Learner(Recommender, Protocol):
    """A model that goes on learning from events after `fit`."""

    def learn(self, log: Log) -> None:
        """Further events of live traffic, after `fit` and in order: what comes next counts them."""


@runtime_checkable
class Tunable(Recommender, Protocol):
    """A model that chooses something by cases whose answers are known."""

    def tune(self, log: Log, cases: Cases, answers: NDArray[np.int32], first: NDArray[np.int64]) -> None:
        """Instead of `fit`: learn from the log, and choose by cases of which the log knows nothing.

        What is right for case `c` is `answers[first[c]:first[c + 1]]`.
        """


@runtime_checkable
class Sparing(Recommender, Protocol):
    """A model that need not be fitted anew to a log that it, or a part of it, was fitted to for somebody else."""

    @property
    def spared_s(self) -> float:
        """Seconds of fitting that were saved so far."""


def _ones(rows: NDArray[Any], columns: NDArray[Any], shape: tuple[int, int]) -> sparse.csr_matrix:
    from scipy import sparse

    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
