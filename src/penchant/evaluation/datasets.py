"""Logs for offline protocols: what they hold besides interactions, and how they are cut to size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import PenchantError
from penchant.core.items import Items
from penchant.evaluation.offline import Log

if TYPE_CHECKING:
    from scipy import sparse


class Unsuited(PenchantError):
    """Data that a protocol cannot use: another file, or another protocol, is needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A log, with the parts that some protocols need beside it."""

    name: str
    log: Log
    test: Log | None = None
    """What a given split asks for, over the same users and items, each pair once."""
    bounds: NDArray[np.int64] | None = None
    """int64[periods + 1]: period `p` is the rows `bounds[p]` to `bounds[p + 1]` of the log."""
    ordered: bool = True
    """Whether the order of interactions means anything."""
    catalogue: Items | None = None
    """What is known of the items: row `i` is the item `i` of the log."""
    traits: sparse.csr_matrix | None = None
    """A row for each item, what it is: attributes, or a vector; lists are diverse by it. None: by who took them."""


def distinct(log: Log) -> Log:
    """Each pair of user and item once, where it first stands."""
    first = np.unique(log.users.astype(np.int64) * log.n_items + log.items, return_index=True)[1]
    return log if len(first) == len(log) else log.take(np.sort(first))


def cored(data: Dataset, least: int) -> Dataset:
    """Only users and items with `least` or more interactions each, numbered anew in their order."""
    log = data.log
    while len(log):
        users = np.bincount(log.users, minlength=log.n_users) >= least
        items = np.bincount(log.items, minlength=log.n_items) >= least
        kept = users[log.users] & items[log.items]
        if kept.all():
            break
        log = log.take(kept)
    if not len(log):
        raise Unsuited(f"{data.name}: no users and items with {least} or more interactions each are left")
    users, of = np.unique(log.users, return_inverse=True)
    items, at = np.unique(log.items, return_inverse=True)
    log = Log(of.astype(np.int32), at.astype(np.int32), len(users), len(items), log.times)
    return replace(data, log=log, traits=None if data.traits is None else data.traits[items])
