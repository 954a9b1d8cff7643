"""From settings to the parts of a deployment on several machines; each is opened by the service that needs it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penchant.assembly.parts import Definition, clock_of, session_gap
from penchant.core.clock import Clock
from penchant.core.errors import SettingsError
from penchant.core.outbox import Outbox
from penchant.core.partitions import Assigned, Layout, Membership, PartitionReader, Revoked, Sender
from penchant.settings import Settings, duration, without_password
from penchant.stream.sides import Sides
from penchant.training.artifacts import ArtifactStore

if TYPE_CHECKING:
    from penchant.log.archive import Archive
    from penchant.log.kafka import KafkaAddress
    from penchant.stores.postgres import PostgresCopy
    from penchant.stores.redis import RedisState

STREAM_TIMEOUT_MS = 5_000
"""What the fold waits for Redis; a request waits [state] timeout."""


def is_distributed(settings: Settings) -> bool:
    """Whether log or state are on other machines; then both must be."""
    return settings.log.url.startswith("kafka:") or settings.state.url.startswith(("redis:", "rediss:"))


@dataclass(frozen=True, slots=True, eq=False)
class ClusterParts:
    """What the settings name, not yet opened. Opening asks no server, so that a service starts before its servers."""

    folder: Path
    definition: Definition
    clock: Clock
    layout: Layout
    artifacts: ArtifactStore

    @classmethod
    def of(cls, folder: Path, settings: Settings, *, clock: Clock | None = None) -> ClusterParts:
        """Check the settings; raises `SettingsError` naming the key."""
        if not settings.log.url.startswith("kafka:"):
            raise SettingsError(
                f"log.url: {without_password(settings.log.url)!r} does not go with a state in Redis; use kafka://…"
            )
        if not settings.state.url.startswith(("redis:", "rediss:")):
            raise SettingsError(
                f"state.url: {without_password(settings.state.url)!r} does not go with a log in Kafka; use redis://…"
            )
        _check_ttl(settings)
        layout = Layout(settings.log.partitions, settings.log.item_partitions)
        artifacts = ArtifactStore(folder / "artifacts")
        return cls(folder, Definition.of(settings), clock or clock_of(settings), layout, artifacts)

    def sides(self) -> Sides:
        """The fold; each call gives a new one, for one worker."""
        settings = self.settings
        return Sides(
            self.definition.schema,
            self.definition.plan,
            layout=self.layout,
            partners=settings.sources.partners,
            session=session_gap(settings),
            implicit=settings.catalog.implicit,
            lateness=duration(settings.log.lateness, "log.lateness"),
            follows_events=settings.clock.source == "events",
        )

    @property
    def fingerprint(self) -> str:
        """What the state is a fold by; that of another one lies beside it."""
        return self.sides().fingerprint

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.definition.settings

    @property
    def name(self) -> str:
        """Under which name keys, groups and tables of this deployment stand on shared servers."""
        return self.settings.project.name

    def address(self) -> KafkaAddress:
        """Brokers and topic."""
        from penchant.log.kafka import KafkaAddress

        return KafkaAddress.parse(self.settings.log.url)

    def ensure_topics(self) -> None:
        """Create what is missing of the topics; raises `LogUnavailable`, `SettingsError`."""
        from penchant.log.kafka import ensure_topics

        log = self.settings.log
        ensure_topics(
            self.address(),
            self.layout,
            replicas=log.replicas,
            retention=duration(log.retention, "log.retention"),
        )

    def outbox(self) -> Outbox:
        """Where this service's events wait."""
        url = self.settings.outbox.url
        lateness = duration(self.settings.log.lateness, "log.lateness")
        if url.startswith(("postgresql:", "postgres:")):
            from penchant.log.outbox_postgres import PostgresOutbox

            return PostgresOutbox(
                url,
                schema=self.definition.schema,
                layout=self.layout,
                clock=self.clock,
                lateness_ms=lateness,
                max_events=self.settings.outbox.max_events,
                rng=random.SystemRandom(),
            )
        if not url.startswith("sqlite:"):
            raise SettingsError(f"outbox.url: {without_password(url)!r} is not served; use sqlite: or postgresql://…")
        from penchant.log.outbox_sqlite import SqliteOutbox

        return SqliteOutbox(
            self._outbox_file(),
            schema=self.definition.schema,
            layout=self.layout,
            clock=self.clock,
            lateness_ms=lateness,
            max_events=self.settings.outbox.max_events,
        )

    def has_outbox(self) -> bool:
        """Whether opening the outbox makes no new file."""
        url = self.settings.outbox.url
        return not url.startswith("sqlite:") or self._outbox_file().exists()

    def _outbox_file(self) -> Path:
        return self.folder / (self.settings.outbox.url.partition(":")[2].removeprefix("//") or "outbox.sqlite")

    def sender(self) -> Sender:
        """Into the log."""
        from penchant.log.kafka_sender import KafkaSender

        return KafkaSender(self.address())

    def reader(self, *, deeds: bool = True) -> PartitionReader:
        """Any partition of the log, from anywhere; without `deeds` only what came from outboxes."""
        from penchant.log.kafka_reader import KafkaPartitionReader

        return KafkaPartitionReader(self.address(), deeds=deeds)

    def membership(self, assigned: Assigned, revoked: Revoked) -> Membership:
        """A place among the workers that fold."""
        from penchant.log.kafka_group import KafkaMembership

        return KafkaMembership(
            self.address(), self._group, assigned, revoked, protocol=self.settings.log.group_protocol
        )

    def is_folded(self) -> bool:
        """Whether any worker folds; raises `LogUnavailable`."""
        from penchant.log.kafka_members import has_members

        return has_members(self.address(), self._group)

    @property
    def _group(self) -> str:
        return f"{self.name}-{self.fingerprint[:8]}"

    def state(self, timeout_ms: int = STREAM_TIMEOUT_MS) -> RedisState:
        """The state, with a time-out for each call."""
        from penchant.stores.redis import RedisState

        settings = self.settings.state
        return RedisState(
            settings.url,
            name=self.name,
            fingerprint=self.fingerprint,
            layout=self.layout,
            timeout_ms=timeout_ms,
            ttl_ms=None if settings.ttl is None else duration(settings.ttl, "state.ttl"),
        )

    def copy(self) -> PostgresCopy | None:
        """The durable copy of the state, if there is to be one."""
        url = self.settings.copy.url
        if url is None:
            return None
        from penchant.stores.postgres import PostgresCopy

        return PostgresCopy(url, name=self.name, fingerprint=self.fingerprint, layout=self.layout)

    def archive(self) -> Archive:
        """The log as Parquet."""
        from penchant.log.archive import Archive

        url = self.settings.archive.url
        return Archive(url if "://" in url else self.folder / url)


def _check_ttl(settings: Settings) -> None:
    """What expires must have left every window: hop and lateness are less than a window and `lateness` beyond it."""
    if settings.state.ttl is None:
        return
    windows = {name: one.window for name, one in settings.features.items() if one.window}
    longest = max(
        ((duration(window, f"features.{name}.window"), name) for name, window in windows.items()), default=(0, "")
    )
    least = longest[0] * 13 // 12 + duration(settings.log.lateness, "log.lateness") + 86_400_000
    if duration(settings.state.ttl, "state.ttl") < least:
        told = f"features.{longest[1]} looks back {windows[longest[1]]}" if windows else "late events must still count"
        days = -(-least // 86_400_000)
        raise SettingsError(
            f"state.ttl: {settings.state.ttl!r} is too short, {told}; use {days}d or more, or leave it out"
        )
