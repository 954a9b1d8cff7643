"""The stages of the request path: plain functions of `(query, candidates)`, pure and deterministic."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Columns, Mask, Retrieved, Slate
from penchant.core.items import Items
from penchant.core.query import Query


@runtime_checkable
class Source(Protocol):
    """Proposes items. It reads `query.items.tables[self.name]`, never another picture's table."""

    @property
    def name(self) -> str: ...

    def prepare(self, items: Items) -> object:
        """What `retrieve` needs of the picture, made off the request path: a pure function of `items`."""

    def retrieve(self, query: Query, limit: int) -> Retrieved:
        """Up to `limit` eligible rows, each once, best first (ties: lower row first), with finite scores."""


@runtime_checkable
class RowScorer(Protocol):
    """A source that can also score rows it did not propose; a column of the feature matrix."""

    @property
    def name(self) -> str: ...

    def score_rows(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """The source's score of each row, NaN where it has none; equal to what `retrieve` gives for the same row."""


@runtime_checkable
class Contributing(Protocol):
    """A source that can say which item of the history weighed most in its score of a row."""

    def contributor(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` the row of the history with the largest positive term (ties: the newest), -1 for none."""


class Filter(Protocol):
    """Says which candidates may be shown. It must not fail open: what it cannot judge it drops."""

    @property
    def name(self) -> str: ...

    def keep(self, query: Query, candidates: Candidates) -> Mask: ...


class Assembler(Protocol):
    """Makes the feature matrix."""

    names: tuple[str, ...]
    fingerprint: str

    def assemble(self, query: Query, candidates: Candidates) -> NDArray[np.float32]:
        """float32[len(names), len(candidates)]; NaN is missing."""


class Scorer(Protocol):
    """Adds columns; `value` is the one that selection goes by."""

    provides: frozenset[str]

    def score(self, query: Query, candidates: Candidates) -> Columns: ...


class Selector(Protocol):
    """Chooses and orders at most `query.size` candidates by their column `value`."""

    def select(self, query: Query, candidates: Candidates) -> Slate: ...
