"""Which writes a store keeps in order of position, so that what changed is found without a scan."""

from __future__ import annotations

from penchant.core.errors import ContractError

TRACKED = b"cinv"
"""Kinds of keys on the item side: pictures of the catalogue are renewed from what changed since the last one.

A tracked key that was dropped counts as changed, and stays on record for that; a key on the user's side is dropped
without a trace.
"""


def is_tracked(key: bytes) -> bool:
    """Whether changes of this key (or of keys with this prefix) are kept in order."""
    return key[:1] in TRACKED and key != b""


def check_advance(expected: int, position: int) -> None:
    """A commit must move the fence on."""
    if position <= expected:
        raise ContractError(f"a commit must advance the position, not go from {expected} to {position}")
