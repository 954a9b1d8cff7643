"""The application behind a real server and a real socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from penchant.client import Client, Refused, Retry, Unavailable
from penchant.core.events import Interaction, ItemUpdate
from penchant.serving import wire
from penchant.serving.auth import Keys
from penchant.serving.http import create_app
from penchant.settings import Settings
from serving.fake_engine import FakeEngine


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[tuple[str, int]]:
    app = create_app(FakeEngine(settings), settings, Keys.parse("secret:admin"))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def client(address: tuple[str, int]) -> Iterator[Client]:
    with Client(f"http://{address[0]}:{address[1]}", "secret") as client:
        yield client


def test_the_client_sends_and_is_recommended(client: Client):
    accepted = client.send([ItemUpdate(item_id="a/b", attributes={"title": "Heat"})])
    client.send([Interaction(user_id="u", item_id="a/b", action="click")])
    slate = client.recommend(wire.Request(user_id="u", fields=["title"], after=accepted.position))
    assert [item.item_id for item in slate.items] == ["a/b"]
    assert client.item("a/b").counters == {"click": 1}
    with pytest.raises(Refused, match="surface"):
        client.recommend(wire.Request(surface="nowhere"))


def test_nobody_there(address: tuple[str, int]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", retry=Retry(attempts=2, first=0.001)) as client, pytest.raises(Unavailable):
        client.status()


@pytest.mark.parametrize("length", ["Content-Length: 50000000", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_long_is_answered_before_it_has_come(address: tuple[str, int], length: str):
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    piece = b" " * 65_536
    if "chunked" in length:
        piece = b"10000\r\n" + piece + b"\r\n"
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head.encode())
        for _ in range(20):
            connection.sendall(piece)
        answer = connection.recv(4_096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/problem+json" in answer


def test_the_connection_outlives_a_refusal(address: tuple[str, int]):
    ask = b"GET /v1/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n"
    with socket.create_connection(address, timeout=10) as connection:
        for path, status in ((b"nothing", b"404"), (b"status", b"200")):
            connection.sendall(ask % path)
            assert connection.recv(8_192).startswith(b"HTTP/1.1 " + status)
