"""`continual`: fit on the past before every week, then predict each next item of its sessions (ADER, RecSys 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.offline import Log
from penchant.evaluation.protocols.recipe import Options, Recipe, mrr_at, recall_at
from penchant.evaluation.protocols.rounds import Asked, Round, Told


def rounds(data: Dataset, options: Options) -> Told:
    """A round for each period after the first, fitted on all before it.

    As in the published code: items that the past does not have are taken out of the sessions, also as answers; every
    item of a session after its first is asked for; nothing is filtered. `live` also hands over the period's events,
    all of them, in their order. `validation` stays within the first period: its newest fifth of sessions is asked
    for, the others are learned from, and no week of the test is looked at.
    """
    log, bounds = data.log, data.bounds
    if bounds is None or len(bounds) < 3:
        raise Unsuited(f"{data.name} has no periods; a folder or tar file with period_0.txt, period_1.txt … is needed")
    if options.part == "test":
        return Told(len(bounds) - 2, _weeks(log, bounds.tolist(), options), data.traits)
    period = log.take(slice(0, int(bounds[1])))
    sessions, begun = np.unique(period.users, return_index=True)
    newest = np.isin(period.users, sessions[begun >= np.sort(begun)[len(begun) * 4 // 5]])
    asked = _round("validation", period.take(~newest), period.take(newest), options, 0)
    return Told(1, iter([asked]), data.traits)


def _weeks(log: Log, bounds: list[int], options: Options) -> Iterator[Round]:
    for week in range(1, len(bounds) - 1):
        past, now = slice(0, bounds[week]), slice(bounds[week], bounds[week + 1])
        yield _round(f"week {week}", log.take(past), log.take(now), options, week)


def _round(name: str, train: Log, week: Log, options: Options, number: int) -> Round:
    known = np.bincount(train.items, minlength=train.n_items) > 0
    rows = np.flatnonzero(known[week.items])
    rows = rows[np.argsort(week.users[rows], kind="stable")]
    sessions, items = week.users[rows], week.items[rows]
    begins = np.flatnonzero(np.diff(sessions, prepend=-1))
    start = np.repeat(begins, np.diff(begins, append=len(rows)))
    place = np.flatnonzero(np.arange(len(rows)) > start)
    place = place[np.argsort(rows[place])]  # as they happened
    asked = Asked(
        sessions[place] if options.live else np.full(len(place), -1, np.int32),
        sessions[place].astype(np.int64),
        items,
        start[place],
        place,
        items[place],
        np.arange(len(place) + 1, dtype=np.int64),
    )
    drawn = asked.rows_of(options.users, options.seed, number)
    return Round(name, train, asked.take(drawn), *((week, rows[place][drawn]) if options.live else ()))


CONTINUAL = Recipe(
    name="continual",
    version=1,
    told="Next item within sessions, a fit before every week (ADER), averaged over weeks; items unknown before "
    "the week left out, seen items ranked too, ties against the model.",
    k=20,
    shown=20,
    measures={"Recall@20": recall_at(20), "MRR@20": mrr_at(20)},
    rounds=rounds,
    filter_seen=False,
)
