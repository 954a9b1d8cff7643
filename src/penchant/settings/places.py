"""Where things are kept and what a server may take."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from penchant.settings.table import Table


class Project(Table, frozen=True):
    """`[project]`: the name shown in pages and metrics."""

    name: str = "penchant"


class ClockSettings(Table, frozen=True):
    """`[clock]`: `system`, or `events` to let recorded history set the time."""

    source: Literal["system", "events"] = "system"


class Log(Table, frozen=True):
    """`[log]`: where events are kept; those older than `lateness` when they arrive are kept but not counted.

    The rest is for a log in Kafka (`kafka://HOST:PORT,HOST:PORT/TOPIC`): the numbers of partitions hold for life.
    """

    url: str = "sqlite:"
    lateness: str = "48h"
    partitions: Annotated[int, msgspec.Meta(ge=1, le=999)] = 256
    """Of the topic keyed by user."""
    item_partitions: Annotated[int, msgspec.Meta(ge=1, le=999)] = 16
    """Of the topic keyed by item, `TOPIC.items`."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    """Copies of each partition, for topics that Penchant creates."""
    retention: str = "7d"
    """How long the brokers keep messages, for topics that Penchant creates; the archive keeps them for good."""
    group_protocol: Literal["auto", "consumer", "classic"] = "auto"
    """How workers share partitions: `consumer` needs Kafka 4, Redpanda has `classic`; `auto` tries."""


class OutboxSettings(Table, frozen=True):
    """`[outbox]`: where events wait for a log that is on other machines: `sqlite:` in the folder, or `postgresql://`."""

    url: str = "sqlite:"
    max_events: Annotated[int, msgspec.Meta(ge=1_000)] = 5_000_000
    """Beyond, events are refused with 503 until the relay has caught up."""


class State(Table, frozen=True):
    """`[state]`: where the fold of the log is kept: `sqlite:` in the folder, `memory:`, or `redis://HOST:PORT/0`."""

    url: str = "sqlite:"
    timeout: str = "50ms"
    """What a request waits for Redis at most."""
    ttl: str | None = None
    """Forget a person's state so long after their last event; must be longer than any window. Default: keep."""


class Copy(Table, frozen=True):
    """`[copy]`: a durable copy of the state in PostgreSQL (`postgresql://…`), to restore a lost Redis from."""

    url: str | None = None
    every: str = "5m"


class Archive(Table, frozen=True):
    """`[archive]`: the log as Parquet, in a folder or under an fsspec URL (`s3://…`)."""

    url: str = "archive"
    every: str = "1m"
    """How often a log in Kafka is archived."""


class Server(Table, frozen=True):
    """`[server]`: where it listens and how much one request may carry."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1_024)] = 1_048_576
    max_events: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    refresh: str = "250ms"
    """How often the item columns are renewed; a request with `after` renews them at once."""
