"""Who liked what and when: what collaborative models are fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from penchant.core.events import Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LogReader
from penchant.core.schema import Schema
from penchant.training.columns import Growing, before

CHUNK = 5_000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Interactions:
    """What users did of positive weight; ids ascending, as `hash_id`."""

    matrix: sparse.csr_matrix
    """float32[users, items]: 1 where the user did something to the item."""
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    rows: NDArray[np.int32]
    """int32[n], an index of `users` for each interaction, oldest first by `(ts, position)`."""
    columns: NDArray[np.int32]
    """int32[n], an index of `items`."""
    ts: NDArray[np.int64]
    """int64[n] in milliseconds, not falling."""


def interactions_csr(
    log: LogReader, schema: Schema, *, max_items: int | None = None, end: int | None = None
) -> Interactions:
    """The accepted positive interactions of a log up to position `end`; erased users are absent.

    `max_items` keeps the items with the most users (ties: smaller hash first).
    """
    positive = {name for name, action in schema.actions.items() if action.weight > 0}
    users, items, positions, times = (Growing(np.int64) for _ in range(4))
    erased: dict[int, int] = {}
    after = 0
    while records := log.read(after, CHUNK):
        after = records[-1].position
        for record in records:
            event = record.event
            if end is not None and record.position > end:
                break
            if isinstance(event, UserErased):
                erased[hash_id(event.user_id)] = record.position
            elif (
                isinstance(event, Interaction)
                and record.verdict == ACCEPTED
                and event.action in positive
                and event.user_id
            ):
                users.append(hash_id(event.user_id))
                items.append(hash_id(event.item_id))
                positions.append(record.position)
                times.append(record.ts)
        if end is not None and after >= end:
            break
    keep = ~before(erased, users.view(), positions.view())
    return _interactions(users.view()[keep], items.view()[keep], times.view()[keep], max_items)


def _interactions(
    users: NDArray[np.int64], items: NDArray[np.int64], ts: NDArray[np.int64], max_items: int | None
) -> Interactions:
    known_users, rows = np.unique(users, return_inverse=True)
    known_items, columns = np.unique(items, return_inverse=True)
    shape = (len(known_users), len(known_items))
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    order = np.argsort(ts, kind="stable")  # the log is in order of positions
    if max_items is not None and len(known_items) > max_items:
        counts = np.bincount(matrix.indices, minlength=len(known_items))
        best = np.sort(np.lexsort((np.arange(len(counts)), -counts))[:max_items])
        matrix, known_items = matrix[:, best], known_items[best]
        place = np.full(len(counts), -1)
        place[best] = np.arange(len(best))
        columns = place[columns]
        order = order[columns[order] >= 0]
    return Interactions(
        matrix=matrix,
        users=known_users,
        items=known_items,
        rows=rows[order].astype(np.int32),
        columns=columns[order].astype(np.int32),
        ts=ts[order],
    )
