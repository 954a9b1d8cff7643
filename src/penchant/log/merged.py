"""The archive of a log in partitions as one log: all that counts, in one order, for those who train and judge."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ContractError, Forgotten
from penchant.core.events import Event
from penchant.core.log import START, Appended, Record
from penchant.core.partitions import Message, Partition
from penchant.log.archive import Archive
from penchant.log.sequence import served_request
from penchant.stream.records import PartitionRecords
from penchant.telemetry import logger

_AT_ONCE = 5_000
Tell = Callable[[str, int, int], None]


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record but for its place."""

    ts: int
    verdict: int
    q: int
    event: Event


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


class MergedLog:
    """An `EventLog` that is only read: records by arrival, then partition (items' first), then position there.

    They are numbered from 1, the same for the same archive; those of the newest moments may be numbered anew when a
    partition that was behind is archived further. Takes 40 bytes of memory a record; the rest is in a file without a
    name, gone when this is closed.
    """

    def __init__(self, archive: Archive, open: Callable[[Partition], PartitionRecords], folder: Path) -> None:
        self._archive = archive
        self._open = open
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open until `close`
        self._offsets: NDArray[np.int64] = np.zeros(1, np.int64)
        self._order = self._arrived = np.empty(0, np.int64)

    def gather(self, tell: Tell) -> MergedLog:
        """Read the archive as it is now; raises `LogUnavailable`."""
        manifest = self._archive.manifest()
        offsets, arrived = array("q", [0]), array("q")
        done, total = 0, sum(manifest.positions.values())
        # Written partition by partition, items' first: a stable sort by arrival is the order then.
        for name in sorted(manifest.positions):
            records = self._open(Partition.parse(name))
            for messages in self._messages(records.partition, manifest.position(name)):
                for record in records.take(messages):
                    kept = _encoder.encode(_Kept(record.ts, record.verdict, record.q, record.event))
                    self._file.write(kept)
                    offsets.append(offsets[-1] + len(kept))
                    arrived.append(record.ingested_at)
                tell("reading the archive", done + messages[-1].position, total)
            done += manifest.position(name)
        self._file.flush()
        self._offsets = np.array(offsets, np.int64)
        self._arrived = np.array(arrived, np.int64)
        self._order = np.argsort(self._arrived, kind="stable")
        return self

    def read(self, after: int, limit: int) -> Sequence[Record]:
        """Up to `limit` records with position > `after`, in order."""
        return [self._record(place, row) for place, row in enumerate(self._order[after : after + limit], after + 1)]

    def end(self) -> int:
        """How many records there are."""
        return len(self._order)

    def append(self, events: Sequence[Event]) -> Appended:
        """Refused: the archive follows the log."""
        raise ContractError(f"{len(events)} events for an archive")

    def wait(self, after: int, timeout: float) -> bool:
        """Whether there is a record past `after`: nothing comes by waiting."""
        del timeout
        return self.end() > after

    def impression(self, request_id: str) -> Record | None:
        """The engine's own impression that answered `request_id`; all records are looked through."""
        after = START
        while records := self.read(after, _AT_ONCE):
            after = records[-1].position
            for record in records:
                if served_request(record.event) == request_id:
                    return record
        return None

    def erase(self, user_id: str, upto: int | None = None) -> int:
        """Nothing is left to erase: the archive does it itself."""
        del user_id, upto
        return 0

    def erasures(self, upto: int) -> Sequence[tuple[int, str]]:
        """Nothing is left to erase."""
        del upto
        return []

    def close(self) -> None:
        """Give back the file and the archive."""
        self._file.close()
        self._archive.close()

    def _record(self, position: int, row: np.int64) -> Record:
        start, stop = self._offsets[row : row + 2].tolist()
        kept = _decoder.decode(os.pread(self._file.fileno(), stop - start, start))
        return Record(position, int(self._arrived[row]), kept.ts, kept.verdict, kept.q, kept.event)

    def _messages(self, partition: Partition, end: int) -> Iterator[Sequence[Message]]:
        """The messages of a partition up to `end`; what is missing for good is passed over, and said."""
        after = START
        while after < end:
            try:
                messages = self._archive.read(partition, after, _AT_ONCE)
            except Forgotten as error:
                name = str(partition)
                spans = (span for file in self._archive.manifest().files for span in file.spans.get(name, ()))
                begun = min((start for start, _ in spans if start > after), default=end)
                logger.warning("%s; going on after %d", error, begun)
                after = begun
                continue
            messages = [message for message in messages if message.position <= end]
            if not messages:
                return
            after = messages[-1].position
            yield messages
