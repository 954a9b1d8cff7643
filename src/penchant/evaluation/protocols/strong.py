"""`strong`: people whom the model never saw, from 80 % of what they have (Liang et al., WWW 2018)."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from penchant.evaluation.datasets import Dataset, Unsuited, distinct
from penchant.evaluation.offline import Log
from penchant.evaluation.protocols.recipe import Options, Recipe, attainable_recall_at, ndcg_at
from penchant.evaluation.protocols.rounds import Asked, Round, Told, by_user

SEED = 98_765
"""Of the published split: it belongs to the recipe. It names a state of NumPy's old generator."""
LEAST = 5
HELD_OUT = 10_000


def rounds(data: Dataset, options: Options) -> Told:
    """One round: users with 5 or more items are permuted; the last 10,000 are the test, the 10,000 before validation.

    Fewer than 100,000 users hold out a tenth for each. A fifth of a held-out user's items, chosen at random, is asked
    for; the rest is the history. Items that no training user has are left out.
    """
    log = distinct(data.log)
    counts = np.bincount(log.users, minlength=log.n_users)
    users = np.flatnonzero(counts >= LEAST)
    held = min(HELD_OUT, len(users) // 10)
    if not held:
        raise Unsuited(f"{data.name}: {len(users)} users have {LEAST} or more items; 10 or more such users are needed")
    shuffled = users[RandomState(SEED).permutation(len(users))]
    training = np.zeros(log.n_users, bool)
    training[shuffled[: len(users) - 2 * held]] = True
    train = log.take(training[log.users])
    wanted = shuffled[len(users) - held :] if options.part == "test" else shuffled[-2 * held : -held]
    known = np.bincount(train.items, minlength=log.n_items) > 0
    kept = np.zeros(log.n_users, bool)
    kept[wanted] = True
    asked = _asked(log.take(kept[log.users] & known[log.items]))
    drawn = asked.take(asked.rows_of(options.users, options.seed))
    return Told(1, iter([Round(options.part, train, drawn)]), data.traits)


def _asked(log: Log) -> Asked:
    order, offsets = by_user(log)
    draw = RandomState(SEED)
    target = np.zeros(len(log), bool)
    users = np.flatnonzero(np.diff(offsets) >= LEAST)
    for user in users.tolist():  # in the order of users: each draw moves the generator on
        count = int(offsets[user + 1] - offsets[user])
        target[offsets[user] + draw.choice(count, size=int(0.2 * count), replace=False)] = True
    items = log.items[order]
    past, answers = _split(items, ~target, offsets, users), _split(items, target, offsets, users)
    nobody = np.full(len(users), -1, np.int32)
    return Asked(nobody, users, past[0], past[1][:-1], past[1][1:], answers[0], answers[1])


def _split(
    items: NDArray[np.int32], kept: NDArray[np.bool_], offsets: NDArray[np.int64], users: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The kept items of these users, one user after the other."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    of = np.full(len(offsets) - 1, -1, np.int64)
    of[users] = np.arange(len(users))
    kept = kept & (of[owner] >= 0)
    counts = np.bincount(of[owner[kept]], minlength=len(users))
    return items[kept], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


STRONG = Recipe(
    name="strong",
    version=1,
    told="Strong generalisation (Liang et al. 2018): held-out users, 80 % of their items given, 20 % asked for; "
    "recall over min(k, relevant).",
    k=100,
    shown=20,
    measures={"Recall@20": attainable_recall_at(20), "Recall@50": attainable_recall_at(50), "NDCG@100": ndcg_at(100)},
    rounds=rounds,
    filter_seen=True,
)
