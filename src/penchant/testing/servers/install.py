"""Puts what the lanes of the tests need on this machine, as far as it may, and says the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from penchant.testing.servers.found import cache_folder, java_missing, redis_program
from penchant.testing.servers.kafka import Kafka, jars_missing
from penchant.testing.servers.lanes import LANES
from penchant.testing.servers.postgres import Postgres

Tell = Callable[[str], object]


def debian_packages(lanes: Sequence[str]) -> list[str]:
    """Debian packages that these lanes miss here; programs that come with Python packages are not among them."""
    wanted = []
    if {"kafka", "spark"} & set(lanes) and java_missing():
        wanted.append("default-jre-headless")
    if "kafka" in lanes and jars_missing() and shutil.which("mvn") is None:
        wanted.append("maven")
    if "redis" in lanes and redis_program() is None:
        wanted.append("redis-server")
    if "pg" in lanes and Postgres.programs_missing():
        wanted.append("postgresql")
    return wanted


def install(lanes: Sequence[str] = tuple(LANES), tell: Tell = print) -> list[str]:
    """Install what is missing for these lanes and return what still is: sentences, each with what to do.

    As root on Debian, packages come by apt; Kafka's jars come by Maven into the cache folder. Nothing is fetched twice.
    """
    packages = debian_packages(lanes)
    left = []
    if packages and not _apt(packages, tell):
        left.append(f"as root: apt-get install {' '.join(packages)}")
    java_missing.cache_clear()
    if "kafka" in lanes:
        try:
            Kafka.install(tell)
        except RuntimeError as error:
            left.append(f"lane kafka: {error}")
    for lane in lanes:
        reason = LANES[lane]()
        if reason and not (lane == "kafka" and left):
            left.append(f"lane {lane}: {reason}")
    return left


def install_promtool(tell: Tell = print) -> list[str]:
    """Unpack Debian's Prometheus into the cache folder, which takes no root and starts nothing."""
    folder = cache_folder() / "prometheus"
    if shutil.which("promtool") or (folder / "usr" / "bin" / "promtool").exists():
        return []
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return ["promtool is not on the path: install Prometheus from https://prometheus.io/download"]
    tell("fetching promtool (95 MB unpacked)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        Path(work).chmod(0o755)  # apt fetches as an account of its own
        fetched = subprocess.run(
            ["apt-get", "download", "-q", "prometheus"], cwd=work, capture_output=True, text=True, check=False
        )
        found = sorted(Path(work).glob("*.deb"))
        if not found:
            return [f"promtool could not be fetched: {fetched.stderr.strip()[-300:]}"]
        unpacked = Path(work) / "prometheus"
        subprocess.run(["dpkg", "-x", str(found[0]), str(unpacked)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return []


def go_missing() -> list[str]:
    """Whether there is no Go, with which the reader of compose files is built: a sentence, or nothing."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/go/bin")
    return [] if found else ["Go 1.24 or newer is not installed: see https://go.dev/doc/install"]


def _apt(packages: list[str], tell: Tell) -> bool:
    """Whether apt has installed the packages."""
    if os.geteuid() or not shutil.which("apt-get"):
        return False
    tell(f"apt-get install {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages]
    for attempt in (command, ["apt-get", "-q", "update"], command):
        told = subprocess.run(attempt, env=environment, capture_output=True, text=True, check=False)
        if attempt is command and told.returncode == 0:
            return True
    tell(told.stderr[-500:])
    return False
