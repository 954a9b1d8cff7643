"""What fills the archive from a log, and what reads both as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penchant.core.clock import Clock, Millis
from penchant.core.errors import Forgotten
from penchant.core.log import START, LogReader
from penchant.core.partitions import Message, Partition, PartitionReader
from penchant.core.schema import Schema
from penchant.log.archive import Archive, day_of
from penchant.log.archive_rows import Row, row_of, row_of_record
from penchant.telemetry import ARCHIVE_LAG, logger

_AT_ONCE = 2_000
EMBEDDED = Partition("users", 0)
"""The partition that a log in one file is, in an archive."""


class Archiver:
    """Archives what a log in partitions has; its cursor is the manifest, so that any number of them may run."""

    def __init__(
        self,
        reader: PartitionReader,
        archive: Archive,
        partitions: Sequence[Partition],
        clock: Clock,
        *,
        schema: Schema,
        lateness_ms: Millis,
        batch: int = 50_000,
    ) -> None:
        self._reader = reader
        self._archive = archive
        self._partitions = list(partitions)
        self._clock = clock
        self._schema = schema
        self._lateness = lateness_ms
        self._batch = batch
        self._lost: set[Partition] = set()

    def step(self) -> int:
        """Archive up to a batch of what is new, as one manifest; returns how many messages are left to archive.

        Raises `LogUnavailable` when log or archive do not answer. A partition whose log lost what is archived is left
        as it is, and named in the log of this process: what its positions stand for is no longer one thing.
        """
        manifest = self._archive.manifest()
        ends = self._reader.ends(self._partitions)
        rows: list[Row] = []
        after: dict[Partition, int] = {}
        left = 0
        for partition in self._partitions:
            position, end = manifest.position(str(partition)), ends.get(partition, START)
            if position >= end:
                if position > end:
                    self._tell_lost(partition, position, end)
                continue
            left += end - position
            if len(rows) < self._batch:
                found, begun = self._read(partition, position, end, self._batch - len(rows))
                if found:
                    left -= found[-1].position - position
                    after[partition] = begun
                    rows += self._rows(found, manifest.clocks.get(str(partition), 0))
        if rows and not self._archive.append(rows, after):
            left += len(rows)
        ARCHIVE_LAG.set(left)
        return left

    def tidy(self) -> None:
        """Merge small files, erase whom events asked to forget, and remove what is left over."""
        self._archive.erase_asked()
        self._archive.compact(day_of(self._clock.now()))

    def _rows(self, messages: Sequence[Message], clock: Millis) -> list[Row]:
        rows = []
        for message in messages:
            row = row_of(message, clock, self._schema, self._lateness)
            clock = row.ingested_at
            rows.append(row)
        return rows

    def _read(self, partition: Partition, after: int, end: int, limit: int) -> tuple[list[Message], int]:
        """Messages up to `end`, and the position that they begin after."""
        messages: list[Message] = []
        begun = after
        try:
            first = self._reader.read(partition, after, min(limit, _AT_ONCE))
        except Forgotten as error:
            if error.kept_after is None or error.kept_after >= end:
                raise
            logger.error("%s: the log forgot the messages after %d before they were archived", partition, after)
            begun = error.kept_after
            first = self._reader.read(partition, begun, min(limit, _AT_ONCE))
        while first:
            messages += (message for message in first if message.position <= end)
            if len(messages) >= limit or first[-1].position >= end:
                break
            first = self._reader.read(partition, first[-1].position, min(limit - len(messages), _AT_ONCE))
        return messages, begun

    def _tell_lost(self, partition: Partition, position: int, end: int) -> None:
        if partition not in self._lost:
            self._lost.add(partition)
            logger.error("%s: the log ends at %d, the archive has it up to %d: not archived", partition, end, position)


class ArchivedReader:
    """A `PartitionReader` that reads from an archive what the log forgot. Safe to call from several threads."""

    def __init__(self, archive: Archive, live: PartitionReader) -> None:
        self._archive = archive
        self._live = live

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Message]:
        """Up to `limit` messages with position > `after`, in order; raises `LogUnavailable` and `Forgotten`."""
        try:
            return self._live.read(partition, after, limit)
        except Forgotten:
            archived = self._archive.read(partition, after, limit)
            if not archived and limit > 0:
                raise
            return archived

    def end(self, partition: Partition) -> int:
        """The last position of the log."""
        return self._live.end(partition)

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The last positions of the log."""
        return self._live.ends(partitions)

    def close(self) -> None:
        """Let go of both."""
        self._live.close()
        self._archive.close()


def archive_records(log: LogReader, archive: Archive, *, batch: int = 50_000) -> int:
    """Archive what a log in one file has and the archive has not, as `EMBEDDED`; returns the records archived."""
    count = 0
    while True:
        after = archive.end(EMBEDDED)
        records = log.read(after, batch)
        if not records:
            return count
        if archive.append([row_of_record(record, EMBEDDED) for record in records], {EMBEDDED: after}):
            count += len(records)
