"""Free ports on loopback, and a short question to a Redis over a plain socket."""

from __future__ import annotations

import random
import socket
from pathlib import Path

HOST = "127.0.0.1"

_FIRST = 10_240
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 200


def free_port(*, also: int = 0) -> int:
    """A port that nothing listens on at 127.0.0.1, nor on the port `also` above it.

    It is below the ports that the system gives to outgoing connections: while a killed server is away, a client that
    reconnects could otherwise be given the server's port, and one that is given the very port that it calls connects to
    itself.
    """
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        port = chance.randrange(_FIRST, _last() - also)
        if is_free(port) and (not also or is_free(port + also)):
            return port
    raise OSError(f"found no free port between {_FIRST} and {_last()}")


def is_free(port: int) -> bool:
    """Whether the port can be bound at 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _last() -> int:
    try:
        low = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        low = 32_768
    return low if low > _FIRST + 11_000 else 49_000


def ask(port: int, *words: str, timeout: float = 5.0) -> str:
    """The answer of the Redis or Valkey at this port to one command whose answer is a word, a number or a text.

    Raises `OSError` when nobody answers in `timeout` seconds, `RuntimeError` with the server's words when it refuses.
    """
    request = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
    with socket.create_connection((HOST, port), timeout=timeout) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"*%d\r\n%s" % (len(words), request))
        head = answers.readline()
        if not head.endswith(b"\r\n"):
            raise ConnectionError("the server hung up")
        kind, told = head[:1], head[1:-2].decode()
        if kind == b"-":
            raise RuntimeError(told)
        if kind != b"$":
            return told
        return answers.read(max(0, int(told))).decode()
