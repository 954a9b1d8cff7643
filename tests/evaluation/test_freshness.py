"""The freshness curve: what a late part has seen, and that the walk gives what a plain reading of it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.freshness import Engine, Frequent, Interval, Plan, Variant, measure, parse, seen, walk
from penchant.evaluation.freshness.measure import askable
from penchant.evaluation.offline import Cases, Log
from penchant.evaluation.recommenders import Ease, ItemKnn, Popularity, SessionKnn
from penchant.retrieval.session_knn import NearestSessions

USERS, ITEMS = 12, 25
NOW, NEVER = parse("0")[0][0], parse("never")[0][0]


def log_of(seed: int, n: int = 160, *, timed: bool = True, span: int = 2_000) -> Log:
    """Many events at the same time, and users who come back."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, span, n)) * 100 if timed else None
    return Log(rng.integers(0, USERS, n, np.int32), rng.integers(0, ITEMS, n, np.int32), USERS, ITEMS, times)


def tables() -> SessionKnn:
    return SessionKnn(model=NearestSessions(reach=3.0), events=500, sessions=50)


ENGINE = Engine(Popularity, tables, ItemKnn)


def seen_plainly(log: Log, row: int, interval: Interval, unit: str, begin: int) -> int:
    if interval.step == 0:
        return row
    if not interval.finite:
        return begin
    step = int(interval.step)
    if unit == "events":
        return max(begin, row - row % step)
    assert log.times is not None
    boundary = int(log.times[row]) - int(log.times[row]) % step
    return max(begin, sum(1 for time in log.times.tolist() if time < boundary))


def rank_plainly(log: Log, row: int, variant: Variant, begin: int, unit: str, depth: int, filtered: bool) -> int:
    """By definition: every part fitted anew on the prefix that it has seen."""

    def rows(interval: Interval) -> int:
        return seen_plainly(log, row, interval, unit, begin)

    user = int(log.users[row])
    past = [int(log.items[at]) for at in range(rows(variant.state)) if log.users[at] == user][-depth:]
    cases = Cases(np.array([user], np.int32), np.array(past, np.int32), np.array([0, len(past)], np.int64))
    total = np.zeros(ITEMS, np.float32)
    hidden = [int(log.items[at]) for at in range(row) if log.users[at] == user] if filtered else []
    made = (ENGINE.counters, ENGINE.tables, ENGINE.model)
    for make, interval, weight in zip(
        made, (variant.counters, variant.tables, variant.model), variant.weights, strict=True
    ):
        part = make()
        part.fit(log.take(slice(0, rows(interval))))
        scores = part.scores(cases)[0].copy()
        scores[hidden] = -np.inf
        scores = np.where(np.isfinite(scores) & (scores > 0), scores, np.float32(0))
        top = scores.max()
        total = total + np.float32(weight) * (scores / top if top > 0 else scores)
    own = total[log.items[row]]
    return int((total >= own).sum()) if own > 0 else 0


LATE = tuple(parse("0,7s,1m,never")[0])
EVENTS = tuple(parse("0,3,20,never")[0])


@pytest.mark.parametrize(("timed", "filtered"), [(True, True), (True, False), (False, True)])
def test_a_walk_is_every_part_fitted_on_what_it_has_seen(timed: bool, filtered: bool) -> None:
    log = log_of(3, timed=timed)
    begin, unit = 90, "time" if timed else "events"
    rng = np.random.default_rng(0)
    intervals = LATE if timed else EVENTS
    variants = [
        Variant(*(intervals[at] for at in rng.integers(0, 4, 4)), (0.5, 0.25, 0.25))  # type: ignore[arg-type]
        for _ in range(5)
    ]
    variants += [
        Variant(NOW, NOW, NOW, NOW, weights) for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.5, 0.5))
    ]
    rows = askable(log, begin, len(log), Plan(filter_seen=filtered))
    told: list[tuple[int, int]] = []
    found = walk(
        log, ENGINE, rows, variants,
        begin=begin, unit=unit, filter_seen=filtered, depth=6,  # type: ignore[arg-type]
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    for (at, variant), (case, row) in product(enumerate(variants), enumerate(rows.tolist())):
        assert found.ranks[at, case] == rank_plainly(log, row, variant, begin, unit, 6, filtered), (at, row)
    assert found.ranks.any()
    assert told[-1] == (len(rows), len(rows))


def test_batches_do_not_matter() -> None:
    log = log_of(5)
    rows = askable(log, 100, len(log), Plan())
    variants = [Variant(NOW, one, NOW, one, (0.4, 0.3, 0.3)) for one in LATE]
    whole = walk(log, ENGINE, rows, variants, begin=100)
    single = walk(log, ENGINE, rows, variants, begin=100, cells=1)
    assert whole.ranks.tobytes() == single.ranks.tobytes()
    assert whole.fits == single.fits


class Spy:
    """Remembers how many rows it had been given when it was asked, and whose they were."""

    name = "spy"

    def __init__(self) -> None:
        self.log: list[tuple[int, int]] = []
        self.asked: list[int] = []

    def fit(self, log: Log) -> None:
        self.log = list(zip(log.users.tolist(), log.items.tolist(), strict=True))

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        self.asked += [len(self.log)] * len(cases)
        return np.ones((len(cases), ITEMS), np.float32)


class LearningSpy(Spy):
    def learn(self, log: Log) -> None:
        self.log += list(zip(log.users.tolist(), log.items.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    span=st.sampled_from([3, 50, 5_000]),
    step=st.sampled_from(["0", "1s", "5s", "1m", "1h", "never", "1", "4", "50"]),
    begin=st.integers(1, 159),
)
def test_a_part_has_seen_exactly_the_events_before_the_boundary(seed: int, span: int, step: str, begin: int) -> None:
    log = log_of(seed, span=span)
    (interval,), unit = parse(step)
    rows = np.arange(begin, len(log))
    until = seen(log, rows, interval, unit, begin)
    assert until.tolist() == [seen_plainly(log, row, interval, unit, begin) for row in rows.tolist()]
    spies: list[Spy] = []

    def make(kind: type[Spy]) -> Spy:
        spies.append(kind())
        return spies[-1]

    engine = Engine(lambda: make(LearningSpy), lambda: make(LearningSpy), lambda: make(Spy))  # type: ignore[arg-type,return-value]
    variant = Variant(interval, interval, interval, interval, (0.4, 0.3, 0.3))
    walk(log, engine, rows, [variant], begin=begin, unit=unit)
    assert len(spies) == 3
    for spy in spies:
        assert spy.asked == until.tolist()
        last = int(until[-1])
        assert spy.log == list(zip(log.users[:last].tolist(), log.items[:last].tolist(), strict=True))


def test_later_is_never_more() -> None:
    log = log_of(11)
    rows = np.arange(60, len(log))
    known = [seen(log, rows, one, "time", 60) for one in parse("0,1s,10s,1m,1h,never")[0]]
    for early, late in pairwise(known):
        assert (early >= late).all()
    assert (known[0] == rows).all()
    assert (known[-1] == 60).all()


def test_never_is_the_parts_fitted_once() -> None:
    log = log_of(7)
    begin = 100
    rows = askable(log, begin, len(log), Plan())
    found = walk(log, ENGINE, rows, [Variant(NEVER, NEVER, NEVER, NEVER, (0.0, 0.0, 1.0))], begin=begin)
    model = ItemKnn()
    model.fit(log.take(slice(0, begin)))
    assert found.fits == 1
    for case, row in enumerate(rows.tolist()):
        past = log.items[:begin][log.users[:begin] == log.users[row]][-50:]
        scores = model.scores(Cases(log.users[row : row + 1], past, np.array([0, len(past)])))[0]
        scores[log.items[:row][log.users[:row] == log.users[row]]] = -np.inf
        own = scores[log.items[row]]
        assert found.ranks[0, case] == (int((scores >= own).sum()) if own > 0 else 0)


def test_a_curve_says_what_each_component_loses() -> None:
    log = log_of(1, n=400, span=20_000)
    plan = Plan(parse("0s,10s,5m,never")[0], refit=parse("1m")[0][0], share=0.3, k=5, choosing=60)
    curve = measure(Dataset("made", log), ENGINE, plan)
    by = {(one.component, one.interval.name): one for one in curve.points}
    assert [name for component, name in by if component == "counters"] == ["0s", "10s", "5m", "never"]
    assert [name for component, name in by if component == "models"] == ["1m", "5m", "never"]
    fresh = by["counters", "0s"]
    for key in (("tables", "0s"), ("user state", "0s"), ("models", "1m"), ("everything", "0s")):
        assert by[key].figures == fresh.figures
        assert by[key].behind["NDCG@5"].low == by[key].behind["NDCG@5"].high == 0
    for one in curve.points:
        difference = one.behind["NDCG@5"]
        assert difference.low <= difference.mean <= difference.high
        assert difference.mean == pytest.approx(one.figures["NDCG@5"] - fresh.figures["NDCG@5"], abs=1e-12)
        assert (one.alone == {}) == (one.component == "everything")
    assert sum(curve.weights) == pytest.approx(1.0)
    assert curve.cases == len(askable(log, 280, 400, plan))
    again = measure(Dataset("made", log), ENGINE, plan)
    assert replace(again, seconds=0, fit_s=0) == replace(curve, seconds=0, fit_s=0)
    document = curve.document()
    assert document["models_every"] == "1m"
    assert len(document["points"]) == 4 * 4 + 3
    drawn = measure(Dataset("made", log), ENGINE, replace(plan, users=3, part="validation", weights=(1.0, 0.0, 0.0)))
    assert drawn.users == 3
    assert drawn.weights == (1.0, 0.0, 0.0)


def test_only_who_came_back_is_asked_for() -> None:
    log = Log(np.array([0, 1, 0, 0, 2], np.int32), np.array([3, 3, 3, 4, 1], np.int32), 3, 5)
    assert askable(log, 1, 5, Plan()).tolist() == [3]
    assert askable(log, 1, 5, Plan(filter_seen=False)).tolist() == [2, 3]


def test_rare_items_are_left_to_others() -> None:
    log = log_of(2, n=60)
    counts = np.bincount(log.items, minlength=ITEMS)
    often = np.flatnonzero(counts >= 3)
    assert 0 < len(often) < ITEMS
    model = Frequent(Ease("ease-decay", reg=5.0, decay=0.8), least=3)
    assert model.name == "ease-decay of items with 3+"
    model.fit(log)
    rare = int(np.flatnonzero(counts < 3)[0])
    history = np.array([often[0], rare, often[1]], np.int32)
    cases = Cases(np.array([0, 1], np.int32), np.concatenate([history, history[[0, 2]]]), np.array([0, 3, 5]))
    found = model.scores(cases)
    assert (np.isfinite(found) == (counts >= 3)).all()
    assert found[0].tobytes() == found[1].tobytes()  # the rare one says nothing, and takes no place
    nothing = Frequent(ItemKnn(), least=1_000)
    nothing.fit(log)
    assert np.isneginf(nothing.scores(cases)).all()


@pytest.mark.parametrize("text", ["", "1x", "1m,,1h", "-1s", "1m,10k", "soon"])
def test_intervals_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"interval|together"):
        parse(text)


def test_intervals_are_ascending_and_each_once() -> None:
    found, unit = parse("1h, 60m, 0, 1m, never, 0s")
    assert ([one.name for one in found], unit) == (["0", "1m", "1h", "never"], "time")
    assert [one.step for one in found] == [0, 60_000, 3_600_000, float("inf")]
    assert [one.step for one in parse("1M,2k,5")[0]] == [5, 2_000, 1_000_000]


def logs_that_do_not_do() -> Iterator[tuple[Dataset, Plan, str]]:
    plain = Plan(choosing=10)
    yield Dataset("pairs", log_of(0, timed=False)), plain, "no times; give numbers of events"
    yield Dataset("split", log_of(0), ordered=False), plain, "no order"
    yield Dataset("few", log_of(0, n=4)), plain, "too few"
    once = Log(np.arange(50, dtype=np.int32), np.zeros(50, np.int32), 50, 1, np.arange(50, dtype=np.int64))
    yield Dataset("once", once), plain, "nothing to ask"


def test_logs_that_do_not_do_say_why() -> None:
    for data, plan, told in logs_that_do_not_do():
        with pytest.raises(Unsuited, match=told):
            measure(data, ENGINE, plan)
