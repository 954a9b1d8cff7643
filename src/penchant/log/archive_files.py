"""Where an archive's files are: a local folder, or anything that fsspec reaches."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from penchant.core.errors import LogUnavailable, SettingsError
from penchant.core.extras import library
from penchant.settings import without_password


class Files(Protocol):
    """Files by name (`folder/name`), each written once and whole. Raises `LogUnavailable`, or `FileNotFoundError`."""

    def names(self, folder: str) -> list[str]:
        """The names below a folder, in order; none when there is no such folder."""

    def read(self, name: str) -> bytes: ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a new file, durably and at once; False, and nothing happened, when there is one of that name."""

    def put(self, name: str, path: Path) -> None:
        """Move a local file here, durably and at once."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The file as one that DuckDB opens."""

    def scratch(self) -> Path:
        """A local folder for files that are to be `put`, on the same disk where that helps."""


def open_files(url: str | Path) -> Files:
    """The files at a folder or an fsspec URL; a `file://` URL is a folder."""
    text = str(url)
    if text.startswith("file://"):
        return LocalFiles(Path(text.removeprefix("file://")))
    return RemoteFiles(text) if "://" in text else LocalFiles(Path(url))


class LocalFiles:
    """`Files` in a folder: a rename makes a file appear whole, a link makes it appear once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, folder: str) -> list[str]:
        root = self._folder / folder
        return sorted(path.relative_to(self._folder).as_posix() for path in root.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def create(self, name: str, data: bytes) -> bool:
        path = self._folder / name
        scratch = self.scratch() / f"{Path(name).stem}-{os.urandom(6).hex()}"
        try:
            scratch.write_bytes(data)
            _sync(scratch)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(scratch, path)
            _sync(path.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise LogUnavailable(f"the archive {self._folder} cannot be written: {error}") from error
        finally:
            with suppress(OSError):
                scratch.unlink()
        return True

    def put(self, name: str, path: Path) -> None:
        target = self._folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(path)
            path.rename(target)
            _sync(target.parent)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise LogUnavailable(f"the archive {self._folder} cannot be written: {error}") from error

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self._folder / name
        if not path.exists():
            raise FileNotFoundError(name)
        yield path

    def scratch(self) -> Path:
        folder = self._folder / "tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogUnavailable(f"the archive {self._folder} cannot be written: {error}") from error
        return folder


class RemoteFiles:
    """`Files` under an fsspec URL; what was read last is kept in a local folder.

    The store must refuse to create what is there already (fsspec's `mode="create"`: S3, Google, Azure and memory do)
    when several write; one that cannot is good for a single writer only.
    """

    def __init__(self, url: str) -> None:
        self._shown = without_password(url)
        core = library("fsspec.core", extra="archive", of=f"an archive at {self._shown}")
        try:
            self._system, self._root = core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SettingsError(f"[archive] url: {self._shown} cannot be opened: {error}") from error
        self._kept = Path(tempfile.mkdtemp(prefix="penchant-archive-"))
        weakref.finalize(self, shutil.rmtree, self._kept, ignore_errors=True)

    def names(self, folder: str) -> list[str]:
        root = self._root.rstrip("/") + "/"
        self._ask("invalidate_cache")
        found: list[str] = self._ask("find", root + folder)
        return sorted(("/" + name if root[0] == "/" != name[0] else name).removeprefix(root) for name in found)

    def read(self, name: str) -> bytes:
        data: bytes = self._ask("cat_file", self._at(name))
        return data

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._ask("pipe_file", self._at(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, name: str, path: Path) -> None:
        self._ask("pipe_file", self._at(name), path.read_bytes())
        path.unlink()

    def remove(self, name: str) -> None:
        self._copy(name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._ask("rm_file", self._at(name))

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self._copy(name)
        if not path.exists():
            # Old ones make room; a file's name stands for its content.
            for old in sorted(self._kept.glob("*.parquet"), key=lambda kept: kept.stat().st_atime)[:-8]:
                old.unlink(missing_ok=True)
            data = self.read(name)
            part = self.scratch() / f"{os.urandom(4).hex()}.part"
            part.write_bytes(data)
            part.rename(path)
        yield path

    def scratch(self) -> Path:
        return self._kept

    def _copy(self, name: str) -> Path:
        return self._kept / name.replace("/", "_")

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _ask(self, what: str, *arguments: object, **options: object) -> Any:
        try:
            return getattr(self._system, what)(*arguments, **options)
        except (FileNotFoundError, FileExistsError):
            raise
        except (OSError, TimeoutError) as error:
            raise LogUnavailable(f"the archive {self._shown} does not answer: {error}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
