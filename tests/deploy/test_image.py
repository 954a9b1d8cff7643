"""The image: what hadolint says, what goes in, what locks it, how it tells its health."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.conftest import DEPLOY, run

ROOT = DEPLOY.parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.mark.deploy
def test_hadolint_finds_nothing(hadolint: str) -> None:
    assert run(hadolint, DEPLOY / "Dockerfile") == (0, "")


@pytest.mark.deploy
def test_hadolint_looks(hadolint: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN apt-get install curl\n")
    code, told = run(hadolint, tmp_path / "Dockerfile")
    assert code == 1
    assert "DL3006" in told


def test_the_image_runs_as_nobody_in_particular() -> None:
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert "USER 10001:10001" in final
    assert "HEALTHCHECK" in final
    assert "curl" not in final
    assert "pip uninstall" in final


def test_what_is_copied_exists_and_is_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert source in let_in, source


def test_the_lock_of_the_image_is_what_the_house_s_has_for_it() -> None:
    text = (DEPLOY / "requirements.lock").read_text()
    code, told = run(sys.executable, "-c", "import lock, sys; sys.stdout.write(lock.lock())", cwd=DEPLOY)
    assert (code, told) == (0, text), "run deploy/lock.py (make lock does)"
    pins = re.findall(r"^([\w-]+)==", text, re.M)
    assert {"confluent-kafka", "redis", "hiredis", "psycopg", "prometheus-client", "fsspec"} <= set(pins)
    assert "pytest" not in pins
    assert text.count("--hash=") >= len(pins)


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 503)
            self.end_headers()
            self.wfile.write(b"missing: redis")

        def log_message(self, *said: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def health(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEPLOY / "health.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={"http_proxy": "http://127.0.0.1:9"})


def test_health_is_told_by_the_exit_code() -> None:
    with answering(200) as port:
        assert health(port).returncode == 0
        waiting = health(port, "/readyz")
        assert waiting.returncode == 1
        assert "503 missing: redis" in waiting.stderr
    assert health(port).returncode == 1
