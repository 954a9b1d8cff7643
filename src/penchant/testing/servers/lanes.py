"""The lanes of a test suite: marks of tests that need something that is not on every machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from penchant.testing.servers.found import ADDS, has_library, java_missing
from penchant.testing.servers.kafka import Kafka
from penchant.testing.servers.postgres import Postgres
from penchant.testing.servers.redis import Redis


def spark_missing() -> str | None:
    """Why PySpark cannot run here, in one sentence; None when it can."""
    absent = [library for library in ("pyspark", "pyarrow", "pandas") if not has_library(library)]
    if absent:
        return f"{' and '.join(absent)} not installed: {ADDS}, or `pip install 'penchant[spark]'`"
    return java_missing()


LANES: dict[str, Callable[[], str | None]] = {
    "kafka": Kafka.missing,
    "redis": lambda: Redis.missing("redis"),
    "valkey": lambda: Redis.missing("valkey"),
    "pg": Postgres.missing,
    "spark": spark_missing,
}
"""Lane, which is the name of a pytest mark, to the function that says why it cannot run here; None when it can."""


@cache
def missing(lane: str) -> str | None:
    """Why a lane cannot run here, in one sentence; found out once."""
    return LANES[lane]()
