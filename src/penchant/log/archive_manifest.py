"""What an archive holds: numbered manifests, of which only the newest counts, and each of which one writer makes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penchant.core.clock import Millis
from penchant.core.errors import LogUnavailable
from penchant.core.log import START
from penchant.log.archive_files import Files

VERSION = 1
FOLDER = "manifest"
_KEPT = 20
"""Manifests that stay; a writer that was asleep for longer finds that its number is long gone."""

Span = tuple[int, int]
"""Positions `(after, upto]` of one partition: all that the log had there."""


class ArchiveFile(msgspec.Struct, frozen=True):
    """A Parquet file: rows of one day of arrival by partition and position; the spans that it covers by partition."""

    name: str
    day: str
    rows: int
    bytes: int
    spans: dict[str, list[Span]]


class Manifest(msgspec.Struct, frozen=True):
    """The truth: all files, and by partition the last position archived and the latest arrival.

    Rows of no file named here do not exist, whatever lies in the folder.
    """

    number: int = 0
    files: list[ArchiveFile] = []
    positions: dict[str, int] = {}
    clocks: dict[str, Millis] = {}
    version: int = VERSION

    def covering(self, partition: str, after: int) -> tuple[ArchiveFile, int] | None:
        """The file that has what comes after a position, and up to where."""
        for file in self.files:
            for start, upto in file.spans.get(partition, ()):
                if start <= after < upto:
                    return file, upto
        return None

    def position(self, partition: str) -> int:
        """The last position archived."""
        return self.positions.get(partition, START)


def load(files: Files) -> Manifest:
    """The newest manifest; an empty one for a new archive. Raises `LogUnavailable`."""
    while True:
        names = files.names(FOLDER)
        if not names:
            return Manifest()
        try:
            found = msgspec.json.decode(files.read(names[-1]), type=Manifest)
        except FileNotFoundError:
            continue  # so many came in the meantime that this one is gone already
        if found.version > VERSION:
            raise LogUnavailable(f"the archive is of version {found.version}: a newer Penchant wrote it")
        return found


def save(files: Files, manifest: Manifest) -> bool:
    """Make a manifest the newest; False when its number is taken, and then it never was."""
    name = _name(manifest.number)
    if not files.create(name, msgspec.json.encode(manifest)):
        return False
    if files.names(FOLDER)[-1] != name:
        # Either another followed already, and holds this one, or the number was free as the old ones are removed.
        newest = load(files)
        if newest.number - manifest.number >= _KEPT // 2:
            files.remove(name)
            return False
    return True


def clean(files: Files, manifest: Manifest, failpoint: Callable[[str], None]) -> None:
    """Remove old manifests and the files that no manifest will ever name.

    A file's name begins with the number of the manifest that it was written for: one whose number has come and that is
    not named is left over by a crash, by a writer that lost, or by a rewrite.
    """
    for name in files.names(FOLDER)[:-_KEPT]:
        files.remove(name)
    named = {file.name for file in manifest.files}
    for name in [*files.names("data"), *files.names("tmp")]:
        if name not in named and written_for(name) <= manifest.number:
            failpoint("before_remove")
            files.remove(name)


def written_for(name: str) -> int:
    """The number of the manifest that a data file was written for.

    >>> written_for("data/day=2026-01-31/0000000042-6b86b273.parquet")
    42
    """
    return int(name.rpartition("/")[2].partition("-")[0])


def _name(number: int) -> str:
    return f"{FOLDER}/{number:010d}.json"
