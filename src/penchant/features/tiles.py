"""Tiles: time cut into hops, the windows made of whole tiles, and decay as a table of integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis

SECOND = 1_000
DAY = 86_400 * SECOND
HOPS: tuple[Millis, ...] = (60 * SECOND, 300 * SECOND, 3_600 * SECOND, 21_600 * SECOND, DAY)
"""The widths that tiles may have."""

SLACK: Millis = 600 * SECOND
"""State is kept this much longer than windows need, for readers whose clock is behind the log's."""

ONE = 1 << 20
"""The weight of a record that has not decayed."""

HALF_LIVES = 20
"""After so many half-lives the weight rounds to one in a million, and the record is let go."""


def window_hop(window: Millis) -> Millis:
    """The largest hop that is at most a twelfth of the window; raises `ValueError` below twelve minutes.

    >>> window_hop(7 * DAY) // 3_600_000
    6
    """
    fitting = [hop for hop in HOPS if hop * 12 <= window]
    if not fitting:
        raise ValueError("a window is at least 12m")
    return fitting[-1]


def decay_hop(half_life: Millis) -> Millis:
    """The largest hop that is at most a 24th of the half-life; raises `ValueError` below 24 minutes."""
    fitting = [hop for hop in HOPS if hop * 24 <= half_life]
    if not fitting:
        raise ValueError("a half-life is at least 24m")
    return fitting[-1]


def decay_weights(half_life: Millis, hop: Millis) -> NDArray[np.int64]:
    """`w[k] = rint(2^20 * 2^(-k * hop / half_life))` for k = 0 .. ceil(20 half-lives / hop), int64.

    Computed once when a plan is compiled and kept in it, so that nothing exponentiates at run time.
    """
    last = -(-HALF_LIVES * half_life // hop)
    return np.array([round(ONE * 2.0 ** (-k * hop / half_life)) for k in range(last + 1)], np.int64)


def retained_tiles(tiles: int, hop: Millis) -> int:
    """How many tiles behind the newest one are kept so that `tiles` are always there: the next power of two.

    Rounding up lets a window grow a little without a rebuild. The slack is part of it.
    """
    return 1 << (tiles + -(-SLACK // hop) - 1).bit_length()


def tail_tile(now: Millis, window: Millis, hop: Millis) -> int:
    """The oldest tile that a window sees: a record is inside when `ts // hop >= (now - window) // hop`.

    Both divisions round down, below zero as well.
    """
    return (now - window) // hop
