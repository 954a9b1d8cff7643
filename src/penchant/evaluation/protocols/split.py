"""`split`: train and test are given, as in the LightGCN files."""

from __future__ import annotations

import numpy as np

from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.offline import Log
from penchant.evaluation.protocols.recipe import Options, Recipe, ndcg_at, recall_at
from penchant.evaluation.protocols.rounds import Asked, Round, Told, by_user


def rounds(data: Dataset, options: Options) -> Told:
    """One round: the history is what a user has in the training file, right is what the test file has.

    Validation takes its answers out of the training file: a tenth of what each user has there, at least one, drawn
    with the seed (such files are in order of the items' numbers, not of time), for users with two or more; the test
    file is not looked at.
    """
    train, test = data.log, data.test
    if test is None:
        raise Unsuited(f"{data.name} has no test part; a folder with train.txt and test.txt (or .gz) is needed")
    if options.part == "validation":
        train, test = _within(train, options.seed)
    order, offsets = by_user(train)
    right, first = by_user(test)
    users = np.flatnonzero(np.diff(first))
    answers = test.items[right]
    known = np.diff(offsets)[users] > 0
    asked = Asked(
        np.where(known, users, -1).astype(np.int32),
        users,
        train.items[order],
        offsets[users],
        offsets[users + 1],
        answers,
        np.append(first[users], first[-1]),
    )
    drawn = asked.take(asked.rows_of(options.users, options.seed))
    return Told(1, iter([Round(options.part, train, drawn)]), data.traits)


def _within(log: Log, seed: int) -> tuple[Log, Log]:
    shuffled = np.random.default_rng(seed).permutation(len(log))
    order = shuffled[np.argsort(log.users[shuffled], kind="stable")]
    offsets = by_user(log)[1]
    lengths = np.diff(offsets)
    held = np.where(lengths >= 2, np.maximum(1, lengths // 10), 0)
    place = np.arange(len(log)) - np.repeat(offsets[:-1], lengths)
    out = np.zeros(len(log), bool)
    out[order] = place >= np.repeat(lengths - held, lengths)
    return log.take(~out), log.take(out)


SPLIT = Recipe(
    name="split",
    version=2,
    told="Given train and test files (LightGCN, BARS): all items that a user has not had in training are ranked; "
    "recall over all of the user's test items.",
    k=20,
    shown=20,
    measures={"Recall@20": recall_at(20), "NDCG@20": ndcg_at(20)},
    rounds=rounds,
    filter_seen=True,
)
