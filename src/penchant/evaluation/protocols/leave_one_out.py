"""`loo-full`: each user's last item is asked for, among all items that the user has not had."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.datasets import Dataset, cored
from penchant.evaluation.protocols.recipe import Options, Recipe, hit_rate_at, ndcg_at
from penchant.evaluation.protocols.rounds import Asked, Round, Told, by_user

TUNING = 5_000
"""Users whose validation item a model may choose something by."""


def rounds(data: Dataset, options: Options) -> Told:
    """One round: the last two items of users with three or more are kept from training.

    The last is the test, asked with everything before it as the history; the second last is the validation, of which
    the test part gives at most `TUNING` users to models that choose something.
    """
    data = cored(data, 5)
    log = data.log
    order, offsets = by_user(log)
    lengths = np.diff(offsets)
    users = np.flatnonzero(lengths >= 3)
    last = offsets[users + 1] - 1
    kept = np.ones(len(log), bool)
    kept[order[last]] = kept[order[last - 1]] = False
    items = log.items[order]

    def asked(target: NDArray[np.int64], most: int | None) -> Asked:
        found = Asked(
            users.astype(np.int32),
            users,
            items,
            offsets[users],
            target,
            items[target],
            np.arange(len(users) + 1, dtype=np.int64),
        )
        return found.take(found.rows_of(most, options.seed))

    if options.part == "test":
        judged, tuning = asked(last, options.users), asked(last - 1, TUNING)
    else:
        judged, tuning = asked(last - 1, options.users), None
    return Told(1, iter([Round(options.part, log.take(kept), judged, tuning=tuning)]), data.traits)


LOO_FULL = Recipe(
    name="loo-full",
    version=1,
    told="Leave-one-out, full ranking: users and items with 5 or more, last item = test, second last = validation, "
    "seen items filtered, ties against the model, no sampled negatives.",
    k=10,
    shown=10,
    measures={"HR@10": hit_rate_at(10), "NDCG@10": ndcg_at(10)},
    rounds=rounds,
    filter_seen=True,
    full_mrr=True,
)
