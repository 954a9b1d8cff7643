"""Recorded history as events: one module a format, all with the same `open(source, options)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from penchant.cli.importers import jsonl, metarank, movielens, table
from penchant.cli.importers.detect import FORMATS, detect
from penchant.cli.importers.source import Import, InvalidSource, Options, Rejection, Rejections, parse_mapping

__all__ = [
    "FORMATS",
    "Import",
    "InvalidSource",
    "Options",
    "Rejection",
    "Rejections",
    "detect",
    "open",
    "parse_mapping",
]

_OPENERS: Mapping[str, Callable[[Path, Options], Import]] = {
    "movielens": movielens.open,
    "metarank": metarank.open,
    "jsonl": jsonl.open,
    "csv": table.open,
    "parquet": table.open,
}


def open(source: Path, options: Options, format: str | None = None) -> Import:
    """Open a source in the given format, or in the one that `detect` finds; raises `InvalidSource`."""
    name = format or detect(source)
    if name not in _OPENERS:
        raise InvalidSource(f"{name!r} is no format; there are: {', '.join(FORMATS)}")
    return _OPENERS[name](source, options)
