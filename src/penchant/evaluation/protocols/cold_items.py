"""`cold-items`: the newest items are kept out of training; who turns to one for the first time is asked for it."""

from __future__ import annotations

import numpy as np

from penchant.evaluation.datasets import Dataset, Unsuited, distinct
from penchant.evaluation.offline import Log
from penchant.evaluation.protocols.recipe import Options, Recipe, ndcg_at, recall_at
from penchant.evaluation.protocols.rounds import Asked, Round, Told, by_user

SHARE = 0.1


def rounds(data: Dataset, options: Options, *, among_new: bool = False) -> Told:
    """One round: items by their first interaction; the newest tenth is the test, the tenth before it the validation.

    Training ends where the first of them comes up. Every first interaction of a person with one of them is a case,
    asked with all that the person did before it, such items among it. Candidates are all items, or with `among_new`
    those that were kept out; the validation knows nothing of items that are newer still.
    """
    log = distinct(data.log)
    seen, first = np.unique(log.items, return_index=True)
    ordered = seen[np.argsort(first)]
    firsts = np.sort(first)
    held = int(SHARE * len(ordered))
    if not held:
        raise Unsuited(f"{data.name}: {len(ordered)} items; ten or more are needed")
    stop = len(ordered) if options.part == "test" else len(ordered) - held
    end = len(log) if options.part == "test" else int(firsts[stop])
    begin = int(firsts[stop - held])
    new = np.zeros(log.n_items, np.bool_)
    new[ordered[stop - held : stop]] = True
    candidates = new.copy()
    if not among_new:
        candidates[ordered[:stop]] = True
    known = log.take(slice(0, end))
    asked = _asked(known, np.flatnonzero(new[known.items]), begin)
    drawn = asked.take(asked.rows_of(options.users, options.seed))
    return Told(1, iter([Round(options.part, log.take(slice(0, begin)), drawn, candidates=candidates)]))


def _asked(log: Log, rows: np.ndarray, begin: int) -> Asked:
    """The cases that these rows of the log answer, in order of time; before `begin` is what is trained on."""
    order, offsets = by_user(log)
    place = np.empty(len(log), np.int64)
    place[order] = np.arange(len(log))
    users = log.users[rows]
    trained = np.bincount(log.users[:begin], minlength=log.n_users) > 0
    return Asked(
        np.where(trained[users], users, -1).astype(np.int32),
        users.astype(np.int64),
        log.items[order],
        offsets[users],
        place[rows],
        log.items[rows],
        np.arange(len(rows) + 1, dtype=np.int64),
    )


COLD_ITEMS = Recipe(
    name="cold-items",
    version=1,
    told="The newest tenth of items, by first interaction, kept out of training, which ends where the first comes up; "
    "every person's first interaction with each is asked for among all items the person has not had.",
    k=50,
    shown=20,
    measures={"Recall@50": recall_at(50), "NDCG@50": ndcg_at(50)},
    rounds=rounds,
    filter_seen=True,
)

COLD_ITEMS_ONLY = Recipe(
    name="cold-items-only",
    version=1,
    told="As cold-items, but only the items that were kept out of training are ranked.",
    k=50,
    shown=20,
    measures={"Recall@50": recall_at(50), "NDCG@50": ndcg_at(50)},
    rounds=lambda data, options: rounds(data, options, among_new=True),
    filter_seen=True,
)
