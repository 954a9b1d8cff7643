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
from penchant.features.history import Ints, extract
from penchant.features.plan import Plan
from penchant.features.recompute import PointInTime, Recomputed
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


class SparkFeatures:
    """Records loaded into Spark; ask for as many points as you like, rather many at once than one by one.

    Equal, integer by integer, to `OfflineFeatures`. `source` is records in order of position.
    """

    def __init__(self, plan: Plan, schema: Schema, spark: SparkSession, source: Iterable[Record]) -> None:
        self._engine = _Spark(spark)
        data = extract(source, schema, plan)
        self._engine.table("touch_user", data.touches)
        self._engine.view("touch_item", "touch_user")
        self._engine.table("erased", data.erased)
        self._engine.table("keys_user", data.item_keys)
        self._engine.table("keys_item", data.user_keys)
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
    """A Spark session of its own, with its own names, as an `Engine`."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark: Any = spark.newSession()
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

    def view(self, name: str, table: str) -> None:
        self._spark.table(table).createOrReplaceTempView(name)

    def keep(self, name: str, query: str) -> None:
        if name in self._kept:
            self._kept.pop(name).unpersist()
        self._kept[name] = self._spark.sql(query).cache()
        self._kept[name].createOrReplaceTempView(name)

    def rows(self, query: str) -> Mapping[str, Ints]:
        found = self._spark.sql(query).toArrow()
        return {name: found.column(name).to_numpy().astype(np.int64) for name in found.column_names}
