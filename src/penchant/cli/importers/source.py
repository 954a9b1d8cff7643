"""What an importer is given and what it gives, and the files it reads."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from penchant.core.errors import InvalidEvent, PenchantError
from penchant.core.events import Event
from penchant.core.schema import Attribute, Schema

_KEPT = 20


class InvalidSource(PenchantError):
    """The source cannot be read as the format says; the text names file, line and fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`schema` is what the deployment declares: what a source has beyond it is left out. `mapping` is `--map`."""

    schema: Schema | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One thing in the source that is no event: `place` says where."""

    place: str
    field: str
    reason: str
    message: str


@dataclass(slots=True)
class Rejections:
    """How many things were refused so far, and the first of them."""

    count: int = 0
    first: list[Rejection] = field(default_factory=list)

    def add(self, place: str, error: InvalidEvent) -> None:
        self.count += 1
        if len(self.first) < _KEPT:
            self.first.append(Rejection(place, error.field, error.reason, error.message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A source opened.

    `events` come in order of time (ties as in the source) with ids that are the same on every import, so that a second
    one gives duplicates only. What is no event is skipped and noted in `rejected`, which fills while `events` is read.
    `total` is how many events there are, rejected ones included, where that is known. `settings_toml_hint` is what
    `penchant.toml` must declare for all of the source to be taken in.
    """

    settings_toml_hint: str
    total: int | None
    events: Iterator[Event]
    rejected: Rejections = field(default_factory=Rejections)


def parse_mapping(text: str) -> dict[str, str]:
    """`--map` as names: `a=b,c=:d`; raises `InvalidSource`.

    >>> parse_mapping("user_id=uid, action=:like")
    {'user_id': 'uid', 'action': ':like'}
    """
    mapping: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = part.partition("=")
        if not equals or not name.strip():
            raise InvalidSource(f"--map: {part!r} is not NAME=COLUMN; write as in user_id=uid,action=:like")
        mapping[name.strip()] = column.strip()
    return mapping


def usable(kinds: Mapping[str, str], declared: Mapping[str, Attribute] | None) -> frozenset[str]:
    """The attributes of a source that the deployment declares with the same kind; all of them without a schema."""
    if declared is None:
        return frozenset(kinds)
    return frozenset(name for name, kind in kinds.items() if name in declared and declared[name].kind == kind)


def open_bytes(path: Path) -> BinaryIO:
    """The file, unpacked where its name ends in .gz; raises `InvalidSource` when there is none."""
    try:
        return cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise InvalidSource(f"{path}: {error.strerror or error}") from None


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    with open_bytes(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                stripped = line.strip()
                if stripped:
                    yield number, stripped
        except (EOFError, gzip.BadGzipFile) as error:
            raise InvalidSource(f"{path}: the compressed file is damaged: {error}") from None


class Files:
    """The files of a folder or of a zip archive, found by their bare names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            self._places = {entry.name: entry.name for entry in path.iterdir() if entry.is_file()}
        elif zipfile.is_zipfile(path):
            self._zip = zipfile.ZipFile(path)
            self._places = {name.rpartition("/")[2]: name for name in self._zip.namelist()}
        else:
            raise InvalidSource(f"{path} is neither a folder nor a zip archive")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()

    def text(self, name: str, encoding: str = "utf-8-sig") -> TextIO:
        """One file as text; raises `InvalidSource` when it is not there."""
        if name not in self._places:
            raise InvalidSource(f"{self.path} has no {name}")
        if self._zip is None:
            return (self.path / name).open(encoding=encoding, newline="")
        return io.TextIOWrapper(self._zip.open(self._places[name]), encoding=encoding, newline="")
