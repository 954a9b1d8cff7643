"""Looking through the keys of a Redis server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def scanned(ask: Callable[..., Any], pattern: bytes) -> Iterator[list[bytes]]:
    """The keys of one server that match a pattern, some at a time; a key may come twice."""
    cursor = b"0"
    while True:
        cursor, keys = ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000)
        yield keys
        if cursor == b"0":
            return
