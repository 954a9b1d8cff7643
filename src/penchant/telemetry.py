"""Logs and metrics of the engine itself."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

logger = logging.getLogger("penchant")

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder in which processes of one service count together; read at import."""

REGISTRY = CollectorRegistry(auto_describe=False)
"""What this process counts; `/metrics` gives it in Prometheus' text format."""

_UNSET = 1e9
"""Seconds; longer than any machine is up."""


class Age(Gauge):
    """Seconds since something, which grow by themselves from what was last set.

    So the age of what a hanging thread should renew rises instead of standing still. Whoever owns it sets it at least
    every few seconds, to 0 when there is nothing that could be old. Not given at all until it is first set.
    """

    def set(self, value: float) -> None:
        """So many seconds old now."""
        super().set(time.monotonic() - value - _UNSET)  # below 0, so that over processes the least is the oldest

    def collect(self) -> Iterable[Metric]:
        """The age at this moment."""
        return [_aged(metric) for metric in super().collect()]


OUTBOX_PENDING = Gauge(
    "penchant_outbox_pending_events",
    "Events accepted and not yet in the log.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
OUTBOX_AGE = Age(
    "penchant_outbox_age_seconds", "Age of the oldest of them.", registry=REGISTRY, multiprocess_mode="livemin"
)
RELAYED = Counter("penchant_relayed_events", "Events that the log has confirmed.", registry=REGISTRY)
STREAM_LAG = Gauge(
    "penchant_stream_lag_messages",
    "Messages not folded yet.",
    ["side"],
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
FENCE_AGE = Age(
    "penchant_fence_age_seconds",
    "Age of the oldest message not folded yet.",
    ["side"],
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
FOLDED = Counter("penchant_folded_messages", "Messages folded into the state.", ["side"], registry=REGISTRY)
REPEATED = Counter("penchant_repeated_messages", "Messages known already, passed over.", ["side"], registry=REGISTRY)
COMMIT_SIZE = Histogram(
    "penchant_commit_messages",
    "Messages of one commit.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "penchant_commit_seconds",
    "Time from messages in hand to state committed.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    registry=REGISTRY,
)
CONFLICTS = Counter("penchant_fence_conflicts", "Commits refused as another had moved the fence.", registry=REGISTRY)
REBUILDS = Counter("penchant_rebuilds", "Partitions folded anew or restored.", ["reason"], registry=REGISTRY)
REBALANCES = Counter("penchant_rebalances", "Changes of the partitions of this worker.", registry=REGISTRY)
RETRIES = Counter(
    "penchant_dependency_retries", "Failed calls that were tried again.", ["dependency"], registry=REGISTRY
)
BREAKER_OPEN = Gauge(
    "penchant_breaker_open",
    "1 while a dependency is not asked.",
    ["dependency"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
BREAKER_TRIPS = Counter("penchant_breaker_trips", "Times a breaker opened.", ["dependency"], registry=REGISTRY)
PICTURE_AGE = Age(
    "penchant_picture_age_seconds",
    "Age of the item columns that answer requests.",
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
VECTOR_RECALL = Gauge(
    "penchant_vector_recall",
    "Share of the truly nearest that searches of the index find, over a sample of requests.",
    ["source"],
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
VECTOR_ITEMS = Gauge(
    "penchant_vector_items", "Items in the index.", ["source"], registry=REGISTRY, multiprocess_mode="livemax"
)
VECTOR_BYTES = Gauge(
    "penchant_vector_bytes", "Memory of the index.", ["source"], registry=REGISTRY, multiprocess_mode="livesum"
)
VECTOR_SECONDS = Gauge(
    "penchant_vector_change_seconds",
    "Time of the last change of the index.",
    ["source"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
ARCHIVE_LAG = Gauge(
    "penchant_archive_lag_messages", "Messages not archived yet.", registry=REGISTRY, multiprocess_mode="livemax"
)
COPY_AGE = Age(
    "penchant_copy_age_seconds",
    "Since the durable copy was last flushed.",
    registry=REGISTRY,
    multiprocess_mode="livemin",
)

_AGES = frozenset(family.name for age in (OUTBOX_AGE, FENCE_AGE, PICTURE_AGE, COPY_AGE) for family in age.describe())


def exposition(counted: CollectorRegistry | None = None, told: Iterable[Metric] = ()) -> bytes:
    """Prometheus text of what this service counts: `REGISTRY`, what else is `counted`, and what is just `told`.

    Processes that share a folder (`SHARED`) each answer for all of them.
    """
    folder = os.environ.get(SHARED)
    if folder:
        families = _of_all_processes(Path(folder))
    else:
        families = chain(REGISTRY.collect(), counted.collect() if counted else ())
    return generate_latest(_Families(chain(families, told)))


class _Families(Collector):
    """Families as they come, without the times at which counters began, which nobody asks for."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def _of_all_processes(folder: Path) -> Iterator[Metric]:
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not _alive(pid):
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    for family in multiprocess.MultiProcessCollector(None, str(folder)).collect():  # type: ignore[no-untyped-call]
        yield _aged(family) if family.name in _AGES else family


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _aged(family: Metric) -> Metric:
    now = time.monotonic() - _UNSET
    family.samples = [
        Sample(sample.name, sample.labels, max(0.0, now - sample.value)) for sample in family.samples if sample.value
    ]
    return family
