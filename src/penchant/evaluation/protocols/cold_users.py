"""`cold-users`: how good it is for people whom the model never saw, after so many events of theirs."""

from __future__ import annotations

import numpy as np

from penchant.evaluation.datasets import Dataset, Unsuited, distinct
from penchant.evaluation.protocols.recipe import Options, Recipe, hit_rate_at
from penchant.evaluation.protocols.rounds import Asked, Round, Strata, Told, by_user, spans

AFTER = (0, 1, 2, 5, 10)
AHEAD = 10
"""How many events, from the eleventh on, are right: the same after however many events were seen."""


def rounds(data: Dataset, options: Options) -> Told:
    """One round: of the people with eleven events or more a fifth is the test, a tenth the validation, by the seed.

    Neither is trained on. Each is asked about five times, from the first 0, 1, 2, 5 and 10 events; right are the ten
    events that follow the tenth.
    """
    log = distinct(data.log)
    order, offsets = by_user(log)
    users = np.flatnonzero(np.diff(offsets) > max(AFTER))
    test, validation = len(users) // 5, len(users) // 10
    if not validation:
        raise Unsuited(f"{data.name}: {len(users)} people with eleven events or more; ten or more are needed")
    shuffled = np.random.default_rng(options.seed).permutation(users)
    apart = np.zeros(log.n_users, np.bool_)
    apart[shuffled[: test + validation]] = True
    people = np.sort(shuffled[:test] if options.part == "test" else shuffled[test : test + validation])
    items = log.items[order]
    asked = np.repeat(people, len(AFTER))
    seen = np.tile(np.array(AFTER, np.int64), len(people))
    begins = offsets[asked] + max(AFTER)
    answers, first = spans(items, begins, np.minimum(begins + AHEAD, offsets[asked + 1]))
    nobody = np.full(len(asked), -1, np.int32)
    cases = Asked(nobody, asked, items, offsets[asked], offsets[asked] + seen, answers, first)
    drawn = cases.rows_of(options.users, options.seed)
    strata = Strata(tuple(f"after {n}" for n in AFTER), np.tile(np.arange(len(AFTER)), len(people))[drawn])
    train = log.take(~apart[log.users])
    return Told(1, iter([Round(options.part, train, cases.take(drawn), strata=strata)]))


COLD_USERS = Recipe(
    name="cold-users",
    version=1,
    told="People kept out of training, a fifth of all; asked after their first 0, 1, 2, 5 and 10 events for any of the "
    "ten that follow the tenth. Seen items filtered.",
    k=10,
    shown=10,
    measures={"HR@10": hit_rate_at(10)},
    rounds=rounds,
    filter_seen=True,
)
