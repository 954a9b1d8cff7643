"""The one hash: 63 bits of xxh3, so that signed order equals unsigned order in every engine."""

from __future__ import annotations

import xxhash


def hash_id(text: str) -> int:
    """`xxh3_64(utf-8) >> 1`.

    >>> hash_id("i1") == hash_id("i1") and 0 <= hash_id("i1") < 2**63
    True
    """
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1


def hash_utf8(text: bytes) -> int:
    """`hash_id` of a text that is UTF-8 already.

    >>> hash_utf8("ä".encode()) == hash_id("ä")
    True
    """
    return xxhash.xxh3_64_intdigest(text) >> 1


def fingerprint(*parts: str) -> str:
    """A short name for content, as 32 hexadecimal digits: equal parts, equal name."""
    return xxhash.xxh3_128_hexdigest("\x1f".join(parts).encode())
