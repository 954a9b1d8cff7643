"""Playlists made by Spark: a frozen copy of the world in a folder, opened once by each executor."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penchant.assembly.parts import Definition
from penchant.assembly.playlists import Order, Person, Progress, World, maker, some
from penchant.core.log import START
from penchant.core.state import catalog_key, item_key, neighbours_key, visits_key
from penchant.serving.playlists import PlaylistMaker
from penchant.settings import Settings
from penchant.training.artifacts import ArtifactStore

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_ITEM_KEYS = (catalog_key(""), item_key(""), neighbours_key(""), visits_key(""))
_AT_ONCE = 2_000
_SLICES = 4
"""Parts of the people for each core: whoever has much history costs more."""


class _World(msgspec.Struct, frozen=True, kw_only=True):
    """The frozen world but for its items and people."""

    settings: Settings
    artifacts: str
    artifact: str
    position: int
    now: int
    order: Order


def freeze(world: World, folder: Path, order: Order, users: Sequence[str] | None, tell: Progress) -> int:
    """Write the world and the people into `folder`, which executors must be able to read; returns how many people."""
    frozen = _World(
        settings=world.settings,
        artifacts=str(world.artifacts.folder.resolve()),
        artifact=world.artifact,
        position=world.items.position,
        now=world.now,
        order=order,
    )
    (folder / "world.json").write_bytes(msgspec.json.encode(frozen))
    with (folder / "items.bin").open("wb") as file:
        for prefix in _ITEM_KEYS:
            file.writelines(map(_framed, world.items.scan(prefix)))
    people = world.people(users)
    try:
        return _write_people(people, folder / "people.parquet", tell)
    finally:
        people.close()


def spark_playlists(spark: SparkSession, folder: Path, people: int, tell: Progress) -> Generator[bytes, None, None]:
    """The playlists of a frozen world, byte for byte those of `playlists` at that moment, in the same order."""
    cores = spark.sparkContext.defaultParallelism
    rows: Any = spark.read.parquet(str(folder / "people.parquet")).repartition(_SLICES * cores, "user_id")
    made = rows.mapInArrow(_making(str(folder)), "user_id string, playlist binary").orderBy("user_id")
    for done, row in enumerate(made.select("playlist").toLocalIterator(prefetchPartitions=True), start=1):
        yield bytes(row.playlist)
        if done % 100 == 0:
            tell("making", done, people)
    tell("making", people, people)


def _making(folder: str) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The function that executors run over batches of people."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow

        make = _opened(folder).make
        for batch in batches:
            made = [msgspec.json.encode(make(**person)) for person in batch.to_pylist()]
            yield pyarrow.record_batch(
                {"user_id": batch.column("user_id"), "playlist": pyarrow.array(made, pyarrow.binary())}
            )

    return run


@lru_cache(maxsize=1)
def _opened(folder: str) -> PlaylistMaker:
    """The maker of a frozen world; kept, as a worker makes many parts of one batch."""
    path = Path(folder)
    frozen = msgspec.json.decode((path / "world.json").read_bytes(), type=_World)
    store = Definition.of(frozen.settings).memory_store()
    data = (path / "items.bin").read_bytes()
    if frozen.position > START:
        store.commit(START, frozen.position, dict(_entries(data)))
    snapshot = store.snapshot()
    try:
        artifacts = ArtifactStore(Path(frozen.artifacts))
        # The people come as rows.
        world = World(
            frozen.settings, artifacts, frozen.artifact, frozen.now, snapshot, lambda _: some(snapshot, ()), known=0
        )
        return maker(world, frozen.order)
    finally:
        snapshot.close()


def _write_people(people: Iterator[Person], path: Path, tell: Progress) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [
            ("user_id", pyarrow.string()),
            ("position", pyarrow.int64()),
            ("blob", pyarrow.binary()),
            ("profile", pyarrow.binary()),
        ]
    )
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(people, _AT_ONCE)):
            columns = zip(*chunk, strict=True)
            writer.write_batch(pyarrow.record_batch(dict(zip(Person._fields, columns, strict=True)), schema))
            count += len(chunk)
            tell("freezing", count, count)
    return count


def _framed(entry: tuple[bytes, bytes]) -> bytes:
    data = b"".join(entry)
    return len(entry[0]).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        key = int.from_bytes(data[at : at + 4], "little")
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at + 8 : at + 8 + key], data[at + 8 + key : end]
        at = end
