"""Playlists as a file: JSON lines, or Parquet with the same columns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb
import msgspec

FORMATS = (".parquet", ".jsonl")

_COLUMNS = """{
user_id: 'VARCHAR', request_id: 'VARCHAR', surface: 'VARCHAR', position: 'VARCHAR', made_at: 'VARCHAR',
artifact: 'VARCHAR', experiment: 'MAP(VARCHAR, VARCHAR)',
items: 'STRUCT(item_id VARCHAR, rank INTEGER, score DOUBLE, propensity DOUBLE, discovery BOOLEAN, sources VARCHAR[],
reason STRUCT(kind VARCHAR, item_id VARCHAR, "text" VARCHAR))[]',
degraded: 'VARCHAR[]'}"""


class Written(msgspec.Struct, kw_only=True):
    """What a file holds."""

    playlists: int = 0
    empty: int = 0
    items: int = 0
    discoveries: int = 0
    degraded: int = 0
    """Playlists that a source or a scorer was missing for."""


class _Item(msgspec.Struct):
    discovery: bool


class _Playlist(msgspec.Struct):
    items: list[_Item]
    degraded: list[str]


_decoder = msgspec.json.Decoder(_Playlist)


def write(playlists: Iterable[bytes], path: Path) -> Written:
    """Write playlists, in their order; the ending of `path` says how, and a file of its name with ".lines" may stay."""
    written = Written()
    lines = path if path.suffix == ".jsonl" else path.with_name(f"{path.name}.lines")
    with lines.open("wb") as file:
        for document in playlists:
            file.write(document + b"\n")
            told = _decoder.decode(document)
            written.playlists += 1
            written.empty += not told.items
            written.items += len(told.items)
            written.discoveries += sum(item.discovery for item in told.items)
            written.degraded += bool(told.degraded)
    if lines is not path:
        with duckdb.connect() as db:
            db.execute(
                f"COPY (SELECT * FROM read_json($lines, format = 'newline_delimited', columns = {_COLUMNS})) "
                f"TO '{str(path).replace(chr(39), chr(39) * 2)}' (FORMAT parquet, COMPRESSION zstd)",
                {"lines": str(lines)},
            )
    return written
