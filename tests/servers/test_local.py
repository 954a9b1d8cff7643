"""The servers of a cluster on one machine: data and ports outlast the command, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from penchant.testing.servers import Postgres
from penchant.testing.servers.local import LocalServers

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.pg]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other accounts can enter: PostgreSQL does not run as root."""
    made = Path(tempfile.mkdtemp(prefix="penchant-local-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_data_and_ports_stay(folder: Path) -> None:
    told: list[str] = []
    assert LocalServers(folder).missing() == []
    with LocalServers(folder, progress=told.append) as servers:
        first = servers.environment()
        assert first["PENCHANT_LOG__URL"] == f"kafka://{servers.kafka.address}/penchant"
        assert first["PENCHANT_STATE__URL"] == f"redis://{servers.redis.address}/0"
        servers.redis.ask("SET", "a", "1")
        servers.kafka.create_topic("penchant", 2)
        with psycopg.connect(first["PENCHANT_OUTBOX__URL"]) as connection:
            connection.execute("CREATE TABLE t (a int)")
        with pytest.raises(RuntimeError, match="another command"):
            LocalServers(folder).start()
        running = servers.all()
    assert [line.split()[1] for line in told] == ["postgres", "redis", "kafka"]
    assert not any(server.alive for server in running)
    with LocalServers(folder) as servers:
        assert servers.environment() == first
        assert servers.redis.ask("GET", "a") == "1"
        with pytest.raises(RuntimeError, match="already exists"):
            servers.kafka.create_topic("penchant", 2)
        with psycopg.connect(first["PENCHANT_COPY__URL"]) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


_COMMAND = """
import signal, sys
from penchant.testing.servers.local import LocalServers
with LocalServers(sys.argv[1]) as servers:
    servers.redis.ask("SET", "a", "1")
    print(*(server.pid for server in servers.all()), flush=True)
    signal.pause()
"""


def test_servers_of_a_killed_command_are_taken_over(folder: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", _COMMAND, str(folder)], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    left = [int(word) for word in command.stdout.readline().split()]
    command.send_signal(signal.SIGKILL)
    command.wait()
    command.stdout.close()
    with LocalServers(folder) as servers:
        assert not set(left) & {server.pid for server in servers.all()}
        assert servers.redis.ask("GET", "a") == "1"
    for pid in left:
        assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_folder_that_postgres_cannot_reach_is_said_before() -> None:
    if os.geteuid():
        pytest.skip("only root runs PostgreSQL as somebody else")
    with tempfile.TemporaryDirectory() as closed:  # 0700
        reasons = LocalServers(Path(closed)).missing()
    assert len(reasons) == 1
    assert "choose another folder" in reasons[0]
    assert Postgres.missing() is None
