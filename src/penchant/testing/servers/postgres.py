"""A PostgreSQL with a data folder of its own, also where the tests run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from penchant.testing.servers.found import ADDS, has_library, postgres_folders
from penchant.testing.servers.ports import HOST
from penchant.testing.servers.process import Process


class Postgres(Process):
    """A server over TCP only, user `penchant` without a password; `settings` go to its command line.

    It syncs every commit to disk, as in earnest. PostgreSQL refuses to run as root: then it runs as `postgres`, or
    as `nobody`.
    """

    name = "postgres"

    def __init__(
        self, folder: Path | str | None = None, *, port: int | None = None, settings: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder, port=port)
        self._settings = {"wal_level": "logical", "shared_buffers": "64MB", "max_connections": "200"} | (settings or {})

    @classmethod
    def missing(cls, folder: Path | None = None) -> str | None:
        """Why none can run here (with its data in `folder`), in one sentence."""
        if not has_library("psycopg"):
            return "The PostgreSQL client is not installed: `pip install 'penchant[postgres]'` adds it"
        if reason := cls.programs_missing():
            return reason
        if folder is not None and not _reaches(folder.resolve()):
            return f"PostgreSQL does not run as root, and no other account can reach {folder}: choose another folder"
        return None

    @classmethod
    def programs_missing(cls) -> str | None:
        """Why there is no server program that can run here, in one sentence."""
        if not postgres_folders():
            return f"PostgreSQL is not installed: {ADDS}, or `apt-get install postgresql` as root"
        if _programs() is None:
            return "PostgreSQL does not run as root, and no other account can run the one that is installed here"
        return None

    @property
    def url(self) -> str:
        """The database that the server came with: `postgresql://penchant@HOST:PORT/postgres`."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql://penchant@{self.address}/{database}"

    def create_database(self, database: str) -> str:
        """Make an empty database and return its URL."""
        from psycopg import connect
        from psycopg.sql import SQL, Identifier

        with connect(self.url, autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
        return self.database_url(database)

    def drop_database(self, database: str) -> None:
        """Remove a database, whoever is still connected to it."""
        from psycopg import connect
        from psycopg.sql import SQL, Identifier

        with connect(self.url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))

    def prepare(self) -> None:
        data = self.folder / "data"
        if (data / "PG_VERSION").exists():
            return
        if reason := self.missing(self.folder.parent):
            raise RuntimeError(reason)
        account = _account()
        user, group, groups = _as(account)
        self.folder.chmod(0o755)
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        if account:
            os.chown(data, account.pw_uid, account.pw_gid)
        told = subprocess.run(
            [
                str(self._program("initdb")),
                *("-D", str(data), "-U", "penchant", "-A", "trust"),
                *("-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=user,
            group=group,
            extra_groups=groups,
        )
        if told.returncode:
            (data / "PG_VERSION").unlink(missing_ok=True)
            raise RuntimeError(f"initdb failed:\n{told.stdout[-1000:]}{told.stderr[-1000:]}")

    def command(self) -> list[str]:
        settings = {"listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": "", **self._settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._program("postgres")), "-D", str(self.folder / "data"), *options]

    def ready(self) -> bool:
        from psycopg import OperationalError, connect

        try:
            with connect(self.url, connect_timeout=3, autocommit=True) as connection:
                connection.execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _program(self, name: str) -> Path:
        """A program of the release that made the data folder, or else of the preferred one."""
        version = self.folder / "data" / "PG_VERSION"
        wanted = version.read_text().strip() if version.exists() else None
        programs = _programs(wanted)
        if programs is None:
            raise RuntimeError(f"the data in {self.folder} is of PostgreSQL {wanted}, which is not installed here")
        return programs / name

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # ends sessions instead of waiting for them

    def _popen(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        user, group, groups = _as(_account())
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            user=user,
            group=group,
            extra_groups=groups,
        )


def _account() -> pwd.struct_passwd | None:
    """Who runs the server when root asks for it; None when the one who asks does."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _as(account: pwd.struct_passwd | None) -> tuple[int | None, int | None, list[int] | None]:
    """User, group and further groups for `subprocess`; None leaves them as they are."""
    return (account.pw_uid, account.pw_gid, []) if account else (None, None, None)


def _programs(version: str | None = None) -> Path | None:
    """The first folder of programs that the account can run, of one release if that is asked."""
    for folder in postgres_folders():
        if _reaches(folder) and version in (None, _release(folder)):
            return folder
    return None


def _release(folder: Path) -> str:
    told = subprocess.run([str(folder / "postgres"), "-V"], capture_output=True, text=True, check=False).stdout
    return told.split()[2].split(".")[0] if len(told.split()) > 2 else ""


def _reaches(folder: Path) -> bool:
    """Whether the account that will run the server can enter every folder on the way."""
    if _account() is None:
        return os.geteuid() != 0
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents) if parent.exists())
