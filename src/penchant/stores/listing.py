"""Which keys a partition has, found while it goes on."""

from __future__ import annotations

from typing import NamedTuple

from penchant.core.state import Key


class Listing(NamedTuple):
    """Keys of a partition, found one after the other; one that is written meanwhile may be missing."""

    changed: set[Key]
    """Those last written past the position that was asked for."""
    present: set[Key]
    """All that have a value."""
