"""What every place of an archive keeps: subclass `FilesContract` in a test module and give a `files` fixture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest


class ArchiveFiles(Protocol):
    """Files by name."""

    def names(self, folder: str) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def create(self, name: str, data: bytes) -> bool: ...

    def put(self, name: str, path: Path) -> None: ...

    def remove(self, name: str) -> None: ...

    def scratch(self) -> Path: ...


class FilesContract:
    """Files appear whole, are created once, and are gone when removed."""

    def test_a_file_is_created_once(self, files: ArchiveFiles) -> None:
        assert files.names("manifest") == []
        assert files.create("manifest/0000000001.json", b"one")
        assert not files.create("manifest/0000000001.json", b"two")
        assert files.read("manifest/0000000001.json") == b"one"
        assert files.names("manifest") == ["manifest/0000000001.json"]

    def test_of_many_one_creates(self, files: ArchiveFiles) -> None:
        with ThreadPoolExecutor(8) as threads:
            for round_ in range(10):
                name = f"manifest/{round_:010d}.json"
                created = list(threads.map(lambda n, name=name: files.create(name, b"%d" % n), range(8)))
                assert sum(created) == 1
                assert files.read(name) == b"%d" % created.index(True)

    def test_a_file_is_put_and_removed(self, files: ArchiveFiles) -> None:
        for number in (2, 1):
            path = files.scratch() / f"{number:010d}-x.parquet"
            path.write_bytes(b"data")
            files.put(f"data/day=2026-01-0{number}/{number:010d}-x.parquet", path)
            assert not path.exists()
        names = ["data/day=2026-01-01/0000000001-x.parquet", "data/day=2026-01-02/0000000002-x.parquet"]
        assert files.names("data") == names
        assert files.read(names[1]) == b"data"
        files.remove(names[1])
        files.remove(names[1])
        assert files.names("data") == names[:1]
        with pytest.raises(FileNotFoundError):
            files.read(names[1])
