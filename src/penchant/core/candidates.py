"""Candidates as columns, and what becomes of them: slate, trace, outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ContractError

Mask = NDArray[np.bool_]
Columns = Mapping[str, NDArray[np.float32]]


class Retrieved(NamedTuple):
    """What a source proposes: rows, each once, best first, with the source's own scores."""

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Columns over item rows; only `take` drops or reorders.

    `sources` is a bit per source of the surface, in its order, set where that source proposed the row.
    `features` is the feature matrix, float32[columns, rows]; None before it is assembled.
    """

    rows: NDArray[np.int32]
    sources: NDArray[np.uint32]
    columns: Columns = field(default_factory=dict)
    features: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def with_columns(self, columns: Columns, *, provides: frozenset[str]) -> Candidates:
        """A copy with more columns; raises `ContractError` for a wrong name, length or dtype, or one already there."""
        if columns.keys() != provides:
            raise ContractError(f"promised columns {sorted(provides)}, gave {sorted(columns)}")
        for name, column in columns.items():
            if name in self.columns:
                raise ContractError(f"column {name!r} is already there")
            if column.shape != self.rows.shape or column.dtype != np.float32:
                raise ContractError(
                    f"column {name!r} must be float32{list(self.rows.shape)}, is {column.dtype}{list(column.shape)}"
                )
        return replace(self, columns={**self.columns, **columns})

    def take(self, index: NDArray[np.intp] | Mask) -> Candidates:
        """The candidates at `index` (integers or a mask), in that order."""
        return Candidates(
            self.rows[index],
            self.sources[index],
            {name: column[index] for name, column in self.columns.items()},
            None if self.features is None else self.features[:, index],
        )


class Reason(NamedTuple):
    """Why an item is shown. `kind`: because, similar, popular, popular_near, new, content, editorial, explore, ranked.

    `row` is the item that the reason names, -1 for none.
    """

    kind: str
    row: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Slate:
    """The chosen items in order of rank; parallel columns. `index` points into the scored candidates."""

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    propensities: NDArray[np.float32]
    sources: NDArray[np.uint32]
    reasons: Sequence[Reason]
    index: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One stage of one request: `kind` is source, merge, filter, features, score, select; times in milliseconds."""

    kind: str
    name: str
    ms: float
    rows_in: int
    rows_out: int
    error: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """All that was decided for a query. `degraded` names stages that failed and fallbacks that answered."""

    slate: Slate
    candidates: Candidates
    trace: Sequence[StageTrace]
    degraded: Sequence[str] = ()
    source_names: Sequence[str] = ()
    """By bit of `Candidates.sources`."""

    def with_degraded(self, names: Sequence[str]) -> Outcome:
        """A copy that names more of what went wrong."""
        return replace(self, degraded=[*self.degraded, *names])
