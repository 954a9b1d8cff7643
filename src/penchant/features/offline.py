"""The same plan over exported records in DuckDB: point-in-time features for any (entity, position, time).

SQL does what the fold and the kernels do online, from the definition and without tiles of state: it returns integers,
and the one finaliser makes the float32. Nothing of the online path is shared but the plan and the finaliser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb
import numpy as np

from penchant.core.log import Record
from penchant.core.schema import Schema
from penchant.features.history import Extract, Ints, extract
from penchant.features.plan import Plan
from penchant.features.recompute import PointInTime, Recomputed, load
from penchant.features.spec import Side

__all__ = ["OfflineFeatures", "Recomputed"]


class OfflineFeatures:
    """Records, or an extract of a log, loaded into DuckDB; ask for as many points as you like.

    Features of ["user", item attribute] and the like see the attributes as of each record's position.
    """

    def __init__(self, plan: Plan, schema: Schema, records: Iterable[Record] | Extract) -> None:
        self._engine = _DuckDb()
        load(self._engine, records if isinstance(records, Extract) else extract(records, schema, plan))
        self._features = PointInTime(plan, self._engine)

    def close(self) -> None:
        self._engine.close()

    def evaluate(
        self, side: Side, entities: Sequence[str], positions: Sequence[int] | Ints, now: Sequence[int] | Ints
    ) -> Recomputed:
        """Features of `entities[i]` as visible at `positions[i]`, at the time `now[i]` (ms)."""
        return self._features.evaluate(side, entities, positions, now)


class _DuckDb:
    """DuckDB in memory as an `Engine`."""

    def __init__(self) -> None:
        self._db = duckdb.connect()

    def close(self) -> None:
        self._db.close()

    def divide(self, left: str, right: int) -> str:
        return f"({left} // {right})"

    def table(self, name: str, columns: Mapping[str, Ints]) -> None:
        self._db.register("numpy_columns", dict(columns))
        self._db.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM numpy_columns")
        self._db.unregister("numpy_columns")

    def view(self, name: str, query: str) -> None:
        self._db.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")

    def keep(self, name: str, query: str) -> None:
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def rows(self, query: str) -> Mapping[str, Ints]:
        found = self._db.execute(query).fetchnumpy()
        return {name: np.asarray(column, np.int64) for name, column in found.items()}
