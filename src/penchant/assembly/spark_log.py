"""The archive of a deployment for `SparkFeatures`: executors read partitions and turn them into columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penchant.assembly.cluster.parts import ClusterParts, is_distributed
from penchant.assembly.parts import Definition
from penchant.core.log import START, Record
from penchant.core.partitions import Partition, Sent
from penchant.features.history import Extract, extract
from penchant.features.spark import FRAME
from penchant.log.archive import Archive
from penchant.settings import Settings
from penchant.stream.extracting import PartitionExtract

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_AT_ONCE = 5_000
_ROWS = 50_000
_WIDTH = max(map(len, FRAME.values()))
_SCHEMA = ", ".join(["table string", *(f"c{index} bigint" for index in range(_WIDTH))])

_Rows = Iterator[tuple[str, tuple[int, ...]]]


def archived(spark: SparkSession, folder: Path, settings: Settings) -> DataFrame:
    """The frame of rows of the log's archive, in a session of its own; raises `LogUnavailable`.

    Executors must reach the archive where the settings say it is. A log in one file is one partition, read by one
    executor. In a cluster, positions of items' requests are `stream.extracting.visible` of the fences.
    """
    archive = _archive(folder, settings)
    try:
        partitions = sorted(archive.manifest().positions)
    finally:
        archive.close()
    session: Any = spark.newSession()
    names = session.createDataFrame([(name,) for name in partitions], "partition string")
    told = msgspec.json.encode(settings)
    return names.repartition(max(1, len(partitions)), "partition").mapInArrow(_reading(str(folder), told), _SCHEMA)


def _reading(folder: str, settings: bytes) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The function that executors run over names of partitions."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow

        told = msgspec.json.decode(settings, type=Settings)
        for batch in batches:
            for name in batch.column("partition").to_pylist():
                rows = _rows(Path(folder), told, Partition.parse(name))
                while chunk := list(islice(rows, _ROWS)):
                    columns = {
                        f"c{at}": [row[at] if at < len(row) else None for _, row in chunk] for at in range(_WIDTH)
                    }
                    types = [("table", pyarrow.string()), *((name, pyarrow.int64()) for name in columns)]
                    told_rows = {"table": [table for table, _ in chunk], **columns}
                    yield pyarrow.record_batch(told_rows, pyarrow.schema(types))

    return run


def _rows(folder: Path, settings: Settings, partition: Partition) -> _Rows:
    archive = _archive(folder, settings)
    try:
        if is_distributed(settings):
            parts = ClusterParts.of(folder, settings)
            definition = parts.definition
            extracted = PartitionExtract(parts.sides(), definition.schema, definition.plan, partition)
            yield from extracted.read(archive.read).rows()
        else:
            definition = Definition.of(settings)
            yield from _tables(extract(_records(archive, partition), definition.schema, definition.plan))
    finally:
        archive.close()


def _records(archive: Archive, partition: Partition) -> Iterator[Record]:
    after = START
    while rows := archive.rows(partition, after, _AT_ONCE):
        for row in rows:
            message = row.message
            if isinstance(message.body, Sent):
                yield Record(message.position, row.ingested_at, row.ts, row.verdict, row.q, message.body.event)
        after = rows[-1].message.position


def _tables(data: Extract) -> _Rows:
    tables = {
        "touch_user": data.touches,
        "touch_item": data.touches,
        "erased": data.erased,
        "keys_user": data.item_keys,
        "keys_item": data.user_keys,
    }
    for name, columns in tables.items():
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            yield name, row


def _archive(folder: Path, settings: Settings) -> Archive:
    url = settings.archive.url
    return Archive(url if "://" in url else folder / url)
