"""The lines of a file in order of time, with as little in memory as the file's own order allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from penchant.cli.importers.source import read_lines


def filled(times: Iterable[int | None]) -> list[int]:
    """What has no time of its own happens with what stands before it.

    >>> filled([None, 5, None, 3])
    [0, 5, 5, 3]
    """
    last = 0
    return [last := last if ts is None else ts for ts in times]


def ordered_lines(source: Path, times: Sequence[int | None]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines by time, ties as in the file; `times` holds one entry a line. Sorted files are streamed."""
    known = filled(times)
    if all(left <= right for left, right in pairwise(known)):
        yield from read_lines(source)
        return
    lines = list(read_lines(source))
    for index in sorted(range(len(lines)), key=known.__getitem__):
        yield lines[index]
