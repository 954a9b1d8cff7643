"""Logs and metrics of the engine itself."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

logger = logging.getLogger("penchant")

REGISTRY = CollectorRegistry(auto_describe=False)
"""What this process counts; `/metrics` gives it in Prometheus' text format."""

OUTBOX_PENDING = Gauge("penchant_outbox_pending_events", "Events accepted and not yet in the log.", registry=REGISTRY)
OUTBOX_AGE = Gauge("penchant_outbox_age_seconds", "Age of the oldest of them.", registry=REGISTRY)
RELAYED = Counter("penchant_relayed_events", "Events that the log has confirmed.", registry=REGISTRY)
STREAM_LAG = Gauge("penchant_stream_lag_messages", "Messages not folded yet.", ["side"], registry=REGISTRY)
FENCE_AGE = Gauge("penchant_fence_age_seconds", "Age of the oldest message not folded yet.", ["side"], registry=REGISTRY)
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
RETRIES = Counter("penchant_dependency_retries", "Failed calls that were tried again.", ["dependency"], registry=REGISTRY)
BREAKER_OPEN = Gauge("penchant_breaker_open", "1 while a dependency is not asked.", ["dependency"], registry=REGISTRY)
BREAKER_TRIPS = Counter("penchant_breaker_trips", "Times a breaker opened.", ["dependency"], registry=REGISTRY)
PICTURE_AGE = Gauge("penchant_picture_age_seconds", "Age of the item columns that answer requests.", registry=REGISTRY)
ARCHIVE_LAG = Gauge("penchant_archive_lag_messages", "Messages not archived yet.", registry=REGISTRY)
COPY_AGE = Gauge("penchant_copy_age_seconds", "Since the durable copy was last flushed.", registry=REGISTRY)
