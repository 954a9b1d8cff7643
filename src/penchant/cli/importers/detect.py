"""Which format a source is in, from its name and its first line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penchant.cli.importers.source import Files, InvalidSource, read_lines

FORMATS = ("movielens", "metarank", "jsonl", "csv", "parquet")

_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json"}


def detect(source: Path) -> str:
    """The name of the format; raises `InvalidSource` that says what to pass instead."""
    if not source.exists():
        raise InvalidSource(f"{source} does not exist")
    if source.is_dir() or source.suffix == ".zip":
        files = Files(source)
        try:
            if "ratings.csv" in files or "ratings.dat" in files:
                return "movielens"
        finally:
            files.close()
        raise InvalidSource(f"{source} has no ratings.csv or ratings.dat, so it is not MovieLens; name a file in it")
    suffixes = [suffix for suffix in source.suffixes if suffix != ".gz"]
    kind = _SUFFIXES.get(suffixes[-1].lower()) if suffixes else None
    if kind == "json":
        return _json_format(source)
    if kind is None:
        raise InvalidSource(f"cannot tell the format of {source} from its name; pass --format {'|'.join(FORMATS)}")
    return kind


def _json_format(source: Path) -> str:
    for _, line in read_lines(source):
        try:
            first = msgspec.json.decode(line)
        except msgspec.DecodeError:
            break
        return "metarank" if isinstance(first, dict) and "event" in first else "jsonl"
    return "jsonl"
