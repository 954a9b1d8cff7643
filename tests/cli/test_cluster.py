"""`penchant cluster up` looks after what it has started."""

from __future__ import annotations

import signal
import sys
import threading

from typer.testing import CliRunner

from penchant.cli import app
from penchant.cli.cluster import Services
from penchant.testing.servers.local import LocalServers


class Server:
    name, address = "redis", "127.0.0.1:1"

    def __init__(self, stop):
        self.stop, self.starts, self.alive = stop, 0, False

    def start(self):
        self.starts += 1
        if self.starts == 1:
            raise RuntimeError("not yet")
        self.alive = True
        self.stop.set()


def test_a_server_that_ended_is_started_until_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[Services.__module__], "_PAUSE_S", 0.01)
    stop = threading.Event()
    server = Server(stop)
    with Services(tmp_path, {}) as services:
        services.watch(stop, [server])
    assert server.starts == 2


def test_servers_that_cannot_start_are_told_in_one_line(tmp_path, monkeypatch):
    def start(self):
        raise RuntimeError("another command runs the servers in films")

    monkeypatch.setattr(LocalServers, "missing", lambda self: [])
    monkeypatch.setattr(LocalServers, "start", start)
    (tmp_path / "penchant.toml").write_text("[actions]\nclick = {}\n")
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    done = CliRunner().invoke(app, ["cluster", "up", "--local", "--dir", str(tmp_path)])
    for number, handler in before:
        signal.signal(number, handler)
    assert done.exit_code == 1
    assert "penchant: another command runs the servers in films" in done.stderr
