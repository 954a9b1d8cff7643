"""The log as Parquet: files by day under numbered manifests, one truth whoever crashes or writes at the same time."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import xxhash

from penchant.core.clock import Millis
from penchant.core.errors import Forgotten, LogUnavailable
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.hashing import hash_id
from penchant.core.partitions import Message, Partition
from penchant.log.archive_files import open_files
from penchant.log.archive_manifest import ArchiveFile, Manifest, Span, clean, load, save
from penchant.log.archive_rows import Row, connect, erased, erasures, merge, select, write
from penchant.telemetry import logger

OPEN_FILES = 32
"""Of a day that is not over, so many files are merged into one."""
SMALL = 64 * 2**20
"""Larger files (bytes) are not merged any more."""
_READ_AGAIN = 5
_DAY_MS = 86_400_000

Until = Callable[[int], bool]
"""Whether a position of a person is to be erased."""


def day_of(at: Millis) -> str:
    """The UTC day of a time, as the archive's folders have it.

    >>> day_of(1_700_000_000_000)
    '2023-11-14'
    """
    return _day(at // _DAY_MS)


@lru_cache(maxsize=16)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY_MS / 1_000, UTC).strftime("%Y-%m-%d")


class Archive:
    """Messages of all partitions for good, in a folder or under an fsspec URL. Safe to call from several threads.

    A writer puts files first and then makes the next manifest, which only one can: whoever comes second has written
    nothing, reads the manifest that won and does its work anew. Nothing is asked of the store but that a file appears
    whole and is created once. Opening one does not touch the store.
    """

    def __init__(self, url: str | Path, *, failpoint: Failpoint = no_failpoint) -> None:
        self._files = open_files(url)
        self._failpoint = failpoint
        self._db = connect()
        self._lock = threading.RLock()
        self._known = Manifest()

    def manifest(self) -> Manifest:
        """What the archive holds now; raises `LogUnavailable`."""
        found = load(self._files)
        with self._lock:
            if found.number >= self._known.number:
                self._known = found
            return self._known

    def append(self, rows: Sequence[Row], after: Mapping[Partition, int]) -> bool:
        """Archive what partitions had after a position, rows in order within each; False when another was quicker.

        `after`: by partition with rows. Where that is past what is archived, what lies between is missing for good, and
        reading it says so.
        """
        with self._lock:
            manifest = self.manifest()
            if any(position < manifest.position(str(partition)) for partition, position in after.items()):
                return False
            clocks, positions = dict(manifest.clocks), dict(manifest.positions)
            positions |= {str(partition): position for partition, position in after.items()}
            days: dict[str, list[Row]] = defaultdict(list)
            spans: dict[str, dict[str, list[Span]]] = defaultdict(dict)
            for row in rows:
                partition, day, position = str(row.message.partition), day_of(row.ingested_at), row.message.position
                days[day].append(row)
                begun = spans[day].get(partition)
                spans[day][partition] = [(begun[0][0] if begun else positions[partition], position)]
                positions[partition], clocks[partition] = position, row.ingested_at
            try:
                files = [self._write(manifest, day, spans[day], days[day]) for day in sorted(days)]
            except FileNotFoundError:
                return False  # cleaned away by the writer that was quicker
            return self._save(manifest, [*manifest.files, *files], positions, clocks)

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Message]:
        """Up to `limit` messages with position > `after`, in order; raises `Forgotten` where the archive has a hole."""
        return [row.message for row in self.rows(partition, after, limit)]

    def rows(self, partition: Partition, after: int, limit: int) -> Sequence[Row]:
        """As `read`, with what was decided when they were archived."""
        name = str(partition)
        with self._lock:
            manifest = self._known if after < self._known.position(name) else self.manifest()
            for _ in range(_READ_AGAIN):
                try:
                    return self._rows(manifest, name, after, limit)
                except FileNotFoundError:
                    # Merged or written anew since: the newest manifest has the files.
                    manifest = self.manifest()
        raise LogUnavailable("the files of the archive change faster than they can be read")

    def end(self, partition: Partition) -> int:
        """The last position archived, `START` when nothing was."""
        return self.manifest().position(str(partition))

    def compact(self, today: str) -> bool:
        """Merge the small files of days before `today`, and of `today` when there are many; whether that changed any.

        Also removes what no manifest names any more.
        """
        with self._lock:
            manifest = self.manifest()
            days: dict[str, list[ArchiveFile]] = defaultdict(list)
            for file in manifest.files:
                if file.bytes < SMALL:
                    days[file.day].append(file)
            merged = False
            for day, files in sorted(days.items()):
                if len(files) >= (2 if day < today else OPEN_FILES):
                    with suppress(FileNotFoundError):  # another writer was quicker; the next time will do
                        merged |= self._merge(files)
            self.clean()
            return merged

    def erase(self, people: Mapping[str, int | None]) -> int:
        """Take people out of the rows at or before a position of theirs (None: all); returns the rows changed.

        Positions and what counts for items stay. The files that name them are removed.
        """
        wanted = {hash_id(user_id): _until(upto) for user_id, upto in people.items() if user_id}
        changed, done = 0, not wanted
        with self._lock:
            while not done:
                with suppress(FileNotFoundError):  # another writer was quicker: begin again
                    manifest = self.manifest()
                    files, changed = self._erased(manifest, wanted)
                    done = not changed or self._save(manifest, files, manifest.positions, manifest.clocks)
            self.clean()
        return changed

    def erase_asked(self) -> int:
        """Take out everybody of whom the archive has a `UserErased` that still names them, up to it."""
        people: dict[str, int | None] = {}
        with self._lock:
            for file in self.manifest().files:
                with self._files.local(file.name) as source:
                    for _, position, user_id in erasures(self._db, source):
                        people[user_id] = max(position, people.get(user_id) or 0)
        return self.erase(people) if people else 0

    def clean(self) -> None:
        """Remove old manifests, and files that crashes and rewrites left behind."""
        clean(self._files, self.manifest(), self._failpoint)

    def close(self) -> None:
        """Let go of DuckDB."""
        with self._lock:
            self._db.close()

    def _rows(self, manifest: Manifest, partition: str, after: int, limit: int) -> list[Row]:
        rows: list[Row] = []
        end = manifest.position(partition)
        while after < end and len(rows) < limit:
            found = manifest.covering(partition, after)
            if found is None:
                if rows:
                    break
                raise Forgotten(f"{partition}: the archive does not have what comes after position {after}")
            file, upto = found
            with self._files.local(file.name) as source:
                rows += select(self._db, source, partition, (after, upto), limit - len(rows))
            after = upto
        return rows

    def _erased(self, manifest: Manifest, wanted: Mapping[int, Until]) -> tuple[list[ArchiveFile], int]:
        files, changed = [], 0
        for file in manifest.files:
            path = self._scratch(manifest)
            with self._files.local(file.name) as source:
                rows = erased(self._db, source, wanted, path)
            changed += rows
            files.append(self._put(manifest, file.day, file.spans, file.rows, path) if rows else file)
        return files, changed

    def _merge(self, files: Sequence[ArchiveFile]) -> bool:
        manifest = self.manifest()
        gone = {file.name for file in files}
        if not gone <= {file.name for file in manifest.files}:
            return False
        path = self._scratch(manifest)
        spans: dict[str, list[Span]] = defaultdict(list)
        with ExitStack() as stack:
            merge(self._db, [stack.enter_context(self._files.local(file.name)) for file in files], path)
        for file in files:
            for partition, some in file.spans.items():
                spans[partition] += some
        joined = {partition: _joined(some) for partition, some in spans.items()}
        new = self._put(manifest, files[0].day, joined, sum(file.rows for file in files), path)
        kept = [file for file in manifest.files if file.name not in gone]
        return self._save(manifest, [*kept, new], manifest.positions, manifest.clocks)

    def _write(self, manifest: Manifest, day: str, spans: dict[str, list[Span]], rows: Sequence[Row]) -> ArchiveFile:
        path = self._scratch(manifest)
        write(self._db, rows, path)
        return self._put(manifest, day, spans, len(rows), path)

    def _put(self, manifest: Manifest, day: str, spans: dict[str, list[Span]], rows: int, path: Path) -> ArchiveFile:
        data = path.read_bytes()
        name = f"data/day={day}/{manifest.number + 1:010d}-{xxhash.xxh3_128_hexdigest(data)}.parquet"
        self._failpoint("before_file")
        self._files.put(name, path)
        self._failpoint("after_file")
        return ArchiveFile(name, day, rows, len(data), spans)

    def _save(
        self, manifest: Manifest, files: list[ArchiveFile], positions: dict[str, int], clocks: dict[str, Millis]
    ) -> bool:
        files.sort(key=lambda file: (file.day, file.name))
        following = Manifest(manifest.number + 1, files, positions, clocks)
        self._failpoint("before_manifest")
        if not save(self._files, following):
            logger.info("the archive: another writer was quicker, its manifest %d counts", following.number)
            return False
        self._failpoint("after_manifest")
        self._known = following
        return True

    def _scratch(self, manifest: Manifest) -> Path:
        # Named like a data file, so that what a crash leaves is cleaned like one.
        return self._files.scratch() / f"{manifest.number + 1:010d}-{os.urandom(6).hex()}.parquet"


def _until(upto: int | None) -> Until:
    return lambda position: upto is None or position <= upto


def _joined(spans: list[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    joined: list[Span] = []
    for after, upto in sorted(spans):
        if joined and joined[-1][1] == after:
            joined[-1] = joined[-1][0], upto
        else:
            joined.append((after, upto))
    return joined
