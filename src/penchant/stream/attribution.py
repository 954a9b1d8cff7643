"""Which impression an interaction answers: one rule for training, read-outs and reports, over whole columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_REQUEST = -1
"""An interaction that names no request."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShownColumns:
    """Items that were shown, one row each: int64 hashes of ids, event time (ms), position of the impression.

    `served` marks impressions of the engine itself, which a request id means before any other.
    """

    users: Ints
    items: Ints
    requests: Ints
    ts: Ints
    positions: Ints
    served: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ActedColumns:
    """Interactions, one row each; `requests` is the hash of the request that they name or `NO_REQUEST`."""

    users: Ints
    items: Ints
    requests: Ints
    ts: Ints


def attribute(shown: ShownColumns, acted: ActedColumns, window_ms: int) -> Ints:
    """Per interaction the row of `shown` that it answers, -1 for none; int64[len(acted.ts)].

    An interaction that names a request answers that request or nothing, up to `window_ms` after it was shown. Any
    other answers the newest impression of the item to the user that is not older than `window_ms` and not later
    than the interaction (equal times, higher position: the newest). The order of the rows does not matter.
    """
    named = acted.requests != NO_REQUEST
    answer = np.full(len(acted.ts), -1, np.int64)
    answer[named] = _by_request(shown, acted, np.flatnonzero(named), window_ms)
    answer[~named] = _by_time(shown, acted, np.flatnonzero(~named), window_ms)
    return answer


def _by_request(shown: ShownColumns, acted: ActedColumns, which: Ints, window_ms: int) -> Ints:
    rows = np.flatnonzero(shown.requests != NO_REQUEST)
    pairs, asked = _dense(
        (shown.users[rows], shown.items[rows], shown.requests[rows]),
        (acted.users[which], acted.items[which], acted.requests[which]),
    )
    # Last wins below: the engine's own impression, then the newest.
    order = np.lexsort((shown.positions[rows], shown.served[rows], pairs))
    last = np.full(int(max(pairs.max(initial=-1), asked.max(initial=-1))) + 1, -1, np.int64)
    last[pairs[order]] = rows[order]
    found = last[asked]
    late = acted.ts[which] > shown.ts[found] + window_ms if len(shown.ts) else np.zeros(len(which), np.bool_)
    return np.where((found < 0) | late, -1, found)


def _by_time(shown: ShownColumns, acted: ActedColumns, which: Ints, window_ms: int) -> Ints:
    pairs, asked = _dense((shown.users, shown.items), (acted.users[which], acted.items[which]))
    count = len(pairs)
    keys = np.concatenate([pairs, asked])
    ts = np.concatenate([shown.ts, acted.ts[which]])
    is_acted = np.arange(len(keys)) >= count
    positions = np.concatenate([shown.positions, np.zeros(len(which), np.int64)])
    order = np.lexsort((positions, is_acted, ts, keys))
    # Where in the sorted run the newest impression so far stands; carried forward over the interactions.
    latest = np.maximum.accumulate(np.where(is_acted[order], -1, np.arange(len(order))))
    found = order[np.maximum(latest, 0)]
    good = (latest >= 0) & (keys[found] == keys[order]) & (ts[order] - ts[found] <= window_ms)
    answer = np.full(len(which), -1, np.int64)
    hits = is_acted[order] & good
    answer[order[hits] - count] = found[hits]
    return answer


def _dense(left: tuple[Ints, ...], right: tuple[Ints, ...]) -> tuple[Ints, Ints]:
    """Equal tuples get equal small integers, across both sides."""
    count = len(left[0])
    codes = np.zeros(count + len(right[0]), np.int64)
    for one, other in zip(left, right, strict=True):
        _, inverse = np.unique(np.concatenate([one, other]), return_inverse=True)
        # Both factors are at most the number of rows, so that the product stays far below 2**63.
        _, codes = np.unique(codes * (int(inverse.max(initial=0)) + 1) + inverse, return_inverse=True)
    return codes[:count].astype(np.int64), codes[count:].astype(np.int64)
