"""The same plan in Spark SQL: point-in-time features where the log is too long for one machine.

The statements are those that DuckDB runs, the integers they give go through the same finaliser.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penchant.core.errors import SettingsError
from penchant.core.log import Record
from penchant.core.schema import Schema
from penchant.features.history import ERASED, KEYED, TOUCH, Extract, Ints, extract
from penchant.features.plan import Plan
from penchant.features.recompute import PointInTime, Recomputed, load
from penchant.features.spec import Side

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MISSING = "Spark needs PySpark and Java 17 or newer: pip install penchant[spark], and JAVA_HOME or java on the PATH"

_ANYWHERE = {
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
_LOCAL = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "4",
    "spark.driver.memory": "2g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Sessions here are short: a compiler that starts fast wins over one that ends fast.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}


def session(master: str = "local[2]", **options: str) -> SparkSession:
    """A Spark session at a master, on loopback alone where it is local; raises `SettingsError` without PySpark or Java.

    Where a cluster wants more said, make the session as it wants and pass that to what takes one.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise SettingsError(MISSING) from None
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise SettingsError(MISSING)
    local = master.startswith("local")
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # else Spark looks for an outer address
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(master).appName("penchant")
    for name, value in {**_ANYWHERE, **(_LOCAL if local else {}), **options}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


FRAME = {"touch_user": TOUCH, "touch_item": TOUCH, "erased": ERASED, "keys_user": KEYED, "keys_item": KEYED}
"""Tables of a frame of rows: its columns are `table` (string), and `c0` to `c8` (bigint), the table's in order."""


class SparkFeatures:
    """A log in Spark; ask for as many points as you like, rather many at once than one by one.

    Equal, integer by integer, to `OfflineFeatures`. `source` is records in order of position, an extract of a log, or,
    where that is too much for one process, a frame of the extract's rows (see `FRAME`), whose session is then used.
    """

    def __init__(
        self, plan: Plan, schema: Schema, spark: SparkSession, source: Iterable[Record] | Extract | DataFrame
    ) -> None:
        rows: Any = source if hasattr(source, "sparkSession") else None
        # Views are of a session: those of a frame can only stand in the frame's own.
        self._engine = _Spark(spark.newSession() if rows is None else rows.sparkSession)
        if rows is not None:
            self._engine.adopt(rows)
        else:
            load(self._engine, source if isinstance(source, Extract) else extract(source, schema, plan))
        self._features = PointInTime(plan, self._engine)

    def close(self) -> None:
        """Forget what Spark keeps for it; the session stays."""
        self._engine.close()

    def evaluate(
        self, side: Side, entities: Sequence[str], positions: Sequence[int] | Ints, now: Sequence[int] | Ints
    ) -> Recomputed:
        """Features of `entities[i]` as visible at `positions[i]`, at the time `now[i]` (ms)."""
        return self._features.evaluate(side, entities, positions, now)


class _Spark:
    """A Spark session as an `Engine`."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark: Any = spark
        self._spark.conf.set("spark.sql.ansi.enabled", "true")  # an overflow raises, as it does in DuckDB
        self._kept: dict[str, DataFrame] = {}

    def close(self) -> None:
        for frame in self._kept.values():
            frame.unpersist()
        self._kept.clear()

    def divide(self, left: str, right: int) -> str:
        return f"({left} div {right})"

    def table(self, name: str, columns: Mapping[str, Ints]) -> None:
        import pyarrow

        table = pyarrow.table({name: np.asarray(column, np.int64) for name, column in columns.items()})
        self._spark.createDataFrame(table).createOrReplaceTempView(name)

    def view(self, name: str, query: str) -> None:
        self._spark.sql(query).createOrReplaceTempView(name)

    def adopt(self, rows: Any) -> None:
        """Take the tables from a frame of rows; it is worked out once."""
        self._kept["rows"] = rows.cache()
        for name, columns in FRAME.items():
            chosen = [f"c{index} AS {column}" for index, column in enumerate(columns)]
            rows.where(f"table = '{name}'").selectExpr(*chosen).createOrReplaceTempView(name)

    def keep(self, name: str, query: str) -> None:
        if name in self._kept:
            self._kept.pop(name).unpersist()
        self._kept[name] = self._spark.sql(query).cache()
        self._kept[name].createOrReplaceTempView(name)

    def rows(self, query: str) -> Mapping[str, Ints]:
        found = self._spark.sql(query).toArrow()
        return {name: found.column(name).to_numpy().astype(np.int64) for name in found.column_names}
