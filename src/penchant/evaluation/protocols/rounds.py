"""What a protocol hands to the judge: rounds, each a log to fit on and cases whose answers are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Cases with their answers, kept as spans of one array of items: prefixes of a session cost no memory."""

    users: NDArray[np.int32]
    """int32[cases], as in `Cases`."""
    groups: NDArray[np.int64]
    """int64[cases]: whose case it is; the bootstrap draws whole groups."""
    items: NDArray[np.int32]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    """Case `c` has the history `items[starts[c]:stops[c]]`, oldest first."""
    answers: NDArray[np.int32]
    first: NDArray[np.int64]
    """int64[cases + 1]: what is right for case `c` is `answers[first[c]:first[c + 1]]`, each once."""

    def __len__(self) -> int:
        return len(self.users)

    def cases(self, begin: int, end: int) -> Cases:
        """The cases `begin` to `end` with their histories written out."""
        items, offsets = spans(self.items, self.starts[begin:end], self.stops[begin:end])
        return Cases(self.users[begin:end], items, offsets)

    def targets(self, begin: int, end: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What is right for the cases `begin` to `end`, and the offsets of each."""
        offsets = self.first[begin : end + 1]
        return self.answers[offsets[0] : offsets[-1]], offsets - offsets[0]

    def take(self, rows: NDArray[np.int64]) -> Asked:
        """Only these cases, in this order."""
        answers, first = spans(self.answers, self.first[rows], self.first[rows + 1])
        return Asked(
            self.users[rows], self.groups[rows], self.items, self.starts[rows], self.stops[rows], answers, first
        )

    def rows_of(self, most: int | None, *seed: int) -> NDArray[np.int64]:
        """The rows of all cases of at most `most` groups, drawn with the seed; None: of all groups."""
        known = np.unique(self.groups)
        if most is None or len(known) <= most:
            return np.arange(len(self))
        return np.flatnonzero(np.isin(self.groups, np.random.default_rng(seed).choice(known, most, replace=False)))


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Kinds of cases."""

    names: tuple[str, ...]
    of: NDArray[np.int64]
    """int64[cases]: the kind of each, from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One fit and the cases that follow it."""

    name: str
    train: Log
    asked: Asked
    live: Log | None = None
    """What happens while the cases are asked; a learner is told of it as it happens."""
    at: NDArray[np.int64] | None = None
    """int64[cases], rising: the row of `live` that answers the case."""
    candidates: NDArray[np.bool_] | None = None
    """bool[n_items]: what is ranked; None: every item."""
    strata: Strata | None = None
    """Each measure is reported for each kind of case apart; None: for all together."""
    tuning: Asked | None = None
    """Other cases of the same `train`, for models that choose something by them: the protocol's validation part."""


@dataclass(frozen=True, slots=True)
class Told:
    """Rounds to come: how many there are, and the rounds one at a time."""

    count: int
    rounds: Iterator[Round]
    traits: sparse.csr_matrix | None = None
    """`Dataset.traits` of the items as the rounds number them."""


def spans(
    items: NDArray[np.int32], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The spans `items[starts[c]:stops[c]]` one after the other, and the offsets of each.

    >>> spans(np.array([5, 6, 7], np.int32), np.array([0, 1]), np.array([2, 3]))[0].tolist()
    [5, 6, 6, 7]
    """
    offsets = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int64)
    return items[np.repeat(starts - offsets[:-1], stops - starts) + np.arange(offsets[-1])], offsets


def by_user(log: Log) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the log user after user, each user's in order, and int64[n_users + 1] where they begin."""
    order = np.argsort(log.users, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(log.users, minlength=log.n_users))])
    return order, offsets.astype(np.int64)
