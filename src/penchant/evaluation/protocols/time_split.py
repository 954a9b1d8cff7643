"""`time-split`: everything before one moment is learned from, what comes after is asked for (Time to Split, 2025)."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.datasets import Dataset, Unsuited, cored
from penchant.evaluation.offline import Log
from penchant.evaluation.protocols.recipe import Options, Recipe, hit_rate_at, ndcg_at
from penchant.evaluation.protocols.rounds import Asked, Round, Told, by_user

SHARE = 0.9
"""The quantile of the times of interactions at which the log is cut."""


def rounds(data: Dataset, options: Options, *, successive: bool) -> Told:
    """One round: fitted on what came before the cut; asked are users who have something after it.

    Users and items with 5 or more, an item that a user has several times in a row once. Each user's last item is
    asked for, from everything before it, also from after the cut; with `successive` every item after the cut, the
    history growing on. An item that nobody had before the cut is a miss. Validation cuts what is before the cut once
    more. `live` hands over what comes after the cut, in its order.
    """
    if data.log.times is None:
        raise Unsuited(f"{data.name} has no times; a table with one for each interaction, ratings.csv, is needed")
    data = cored(data, 5)
    log, begin = _cut(_without_repeats(data.log))
    if options.part == "validation":
        log, begin = _cut(log.take(slice(0, begin)))
    order, offsets = by_user(log)
    start = np.repeat(offsets[:-1], np.diff(offsets))
    place = np.arange(len(log))
    asked_for = (order >= begin) & (place > start)
    if not successive:
        asked_for &= place == np.repeat(offsets[1:], np.diff(offsets)) - 1
    place = np.flatnonzero(asked_for)
    place = place[np.argsort(order[place])]  # as they happened
    users, items = log.users[order], log.items[order]
    train = log.take(slice(0, begin))
    known = np.bincount(train.users, minlength=log.n_users) > 0
    asked = Asked(
        np.where(known[users[place]] | options.live, users[place], -1).astype(np.int32),
        users[place].astype(np.int64),
        items,
        start[place],
        place,
        items[place],
        np.arange(len(place) + 1, dtype=np.int64),
    )
    drawn = asked.rows_of(options.users, options.seed)
    live = (log.take(slice(begin, None)), order[place][drawn] - begin) if options.live else ()
    return Told(1, iter([Round(options.part, train, asked.take(drawn), *live)]), data.traits)


def _cut(log: Log) -> tuple[Log, int]:
    """The log, and its first row that is not before the quantile of its times."""
    times: NDArray[np.int64] = np.zeros(0, np.int64) if log.times is None else log.times
    return log, int(np.searchsorted(times, np.quantile(times, SHARE)))


def _without_repeats(log: Log) -> Log:
    order, offsets = by_user(log)
    items = log.items[order]
    again = np.concatenate([[False], items[1:] == items[:-1]])
    again[offsets[:-1][np.diff(offsets) > 0]] = False
    kept = np.ones(len(log), bool)
    kept[order[again]] = False
    return log.take(kept)


def _recipe(name: str, told: str, *, successive: bool) -> Recipe:
    return Recipe(
        name=name,
        version=1,
        told=f"Global time split at the {SHARE} quantile (Time to Split): users and items with 5 or more, repeats in a "
        f"row once; fitted on what came before, {told}; seen items filtered, ties against the model.",
        k=10,
        shown=10,
        measures={"HR@10": hit_rate_at(10), "NDCG@10": ndcg_at(10)},
        rounds=partial(rounds, successive=successive),
        filter_seen=True,
        full_mrr=True,
    )


TIME_SPLIT = _recipe("time-split", "asked for the last item of each user who came after", successive=False)
TIME_SPLIT_SUCCESSIVE = _recipe(
    "time-split-successive", "asked for every item after it, the history growing on", successive=True
)
