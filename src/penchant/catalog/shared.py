"""Pictures of the catalogue in a folder that many processes map: one writes them, the others answer from the newest.

The folder belongs where nothing outlives the machine's start, such as `/dev/shm`: what is in the arrays is not
checksummed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import xxhash

from penchant.catalog.pictures import Arrays, Assembly, Facts, facts_of, take_apart
from penchant.catalog.segments import Refused, map_segment, write_segment
from penchant.core.errors import PenchantError
from penchant.core.items import Items

NEWEST = "newest"
"""The file that names the columns of the newest picture; it is replaced as a whole."""
_SUFFIX = ".columns"
_KEPT = 2
"""Earlier pictures whose files stay, so that a reader seldom finds them gone between the naming and the mapping."""
_TRIES = 5


class _Segment(msgspec.Struct, frozen=True, array_like=True):
    group: str
    file: str


class _Page(msgspec.Struct, frozen=True, array_like=True):
    """What `newest` says, behind the xxh3_64 of it."""

    number: int
    facts: Facts
    segments: list[_Segment]
    extra: dict[str, Any]


_page = msgspec.msgpack.Decoder(_Page)
_DIGEST = 8


class Picture(NamedTuple):
    """A picture as it was shared: its number only grows; `extra` is what the writer said beside it."""

    number: int
    items: Items
    extra: Mapping[str, Any]


class PictureWriter:
    """Writes pictures into a folder; raises `PenchantError` while another process does. For one thread.

    Columns of the same objects as in the picture before are not written again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = os.open(folder / "writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            message = f"another process renews the pictures in {folder}; give this one another folder"
            raise PenchantError(message) from None
        try:
            last = _read_page(folder)
        except (OSError, Refused):
            last = _Page(0, Facts(0, 0, 0, ()), [], {})
        self.number = last.number
        """That of the newest picture, 0 before the first."""
        self._recent = [{one.file for one in last.segments}]
        self._groups: dict[str, tuple[tuple[object, ...], str]] = {}
        self._sweep()

    def write(self, items: Items, extra: Mapping[str, Any] | None = None) -> int:
        """Share a picture and what is said beside it (for msgpack); returns its number.

        Raises `OSError`, with the picture before still the newest, when the disk is full.
        """
        number = self.number + 1
        groups: dict[str, tuple[tuple[object, ...], str]] = {}
        try:
            for index, group in enumerate(take_apart(items)):
                known = self._groups.get(group.name)
                if known is None or not _same(known[0], group.made_of):
                    known = (group.made_of, f"{number}.{index}{_SUFFIX}")
                    write_segment(self._folder / known[1], group.arrays())
                groups[group.name] = known
            segments = [_Segment(name, file) for name, (_, file) in groups.items()]
            body = msgspec.msgpack.encode(_Page(number, facts_of(items), segments, dict(extra or {})))
            fresh = self._folder / f"{NEWEST}.new"
            fresh.write_bytes(xxhash.xxh3_64_digest(body) + body)
            fresh.replace(self._folder / NEWEST)
        except BaseException:
            self._sweep()
            raise
        self.number, self._groups = number, groups
        self._recent = [*self._recent[-_KEPT:], {one.file for one in segments}]
        self._sweep()
        return number

    def close(self) -> None:
        """Let another process write; the pictures stay."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _sweep(self) -> None:
        """Remove what no recent picture is made of; whoever has it mapped keeps it."""
        kept = set().union(*self._recent)
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


class SharedPictures:
    """The newest picture of a folder, mapped. For one thread at a time; pictures may be read by any, for ever."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int, int] | None = None
        self._present: Picture | None = None
        self._mapped: dict[str, Arrays] = {}
        self._assembly = Assembly()
        self.refused = ""
        """Why the newest picture was not taken, "" when it was."""

    def newest(self) -> Picture | None:
        """The newest picture that is sound, the very same object while there is no newer one.

        Costs one look at a file where nothing changed; otherwise what changed is mapped. A damaged picture is refused
        (`refused` says why) and the present one goes on. None when there is none at all.
        """
        for left in reversed(range(_TRIES)):
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    break
                page = _read_page(self._folder)
                self._present = Picture(page.number, self._map(page), page.extra)
            except FileNotFoundError as error:
                # The writer may have gone on by more pictures than it keeps: look again.
                self.refused = f"{error.filename} is not there"
                if left:
                    continue
                break
            except (Refused, OSError, KeyError, msgspec.MsgspecError) as error:
                self.refused = str(error)
                break
            self._stamp, self.refused = stamp, ""
            break
        return self._present

    def _look(self) -> tuple[int, int, int]:
        found = os.stat(self._folder / NEWEST)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _map(self, page: _Page) -> Items:
        mapped = {
            file: self._mapped[file] if file in self._mapped else map_segment(self._folder / file)
            for _, file in _pairs(page.segments)
        }
        items = self._assembly.items(page.facts, {group: mapped[file] for group, file in _pairs(page.segments)})
        self._mapped = mapped
        return items


def _pairs(segments: Sequence[_Segment]) -> list[tuple[str, str]]:
    return [(one.group, one.file) for one in segments]


def _same(left: tuple[object, ...], right: tuple[object, ...]) -> bool:
    return len(left) == len(right) and all(
        a is b or (isinstance(a, int) and isinstance(b, int) and a == b) for a, b in zip(left, right, strict=True)
    )


def _read_page(folder: Path) -> _Page:
    raw = (folder / NEWEST).read_bytes()
    body = raw[_DIGEST:]
    if xxhash.xxh3_64_digest(body) != raw[:_DIGEST]:
        raise Refused(f"{folder / NEWEST} is damaged")
    try:
        return _page.decode(body)
    except msgspec.MsgspecError as error:
        raise Refused(f"{folder / NEWEST} is of another version: {error}") from None
