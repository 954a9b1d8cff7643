"""Each protocol against a plain computation of the same figures, one case at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import sparse

from datasets import dataset
from penchant.evaluation import metrics
from penchant.evaluation.datasets import Dataset, Unsuited, cored, distinct
from penchant.evaluation.loaders import read_lines
from penchant.evaluation.offline import Cases, Log
from penchant.evaluation.protocols import RECIPES, Options, judge
from penchant.evaluation.protocols.judge import novelty_of
from penchant.evaluation.protocols.ranking import best, places
from penchant.evaluation.recommenders import MODELS, Popularity
from penchant.testing.oracles import metrics as oracle


@dataclass
class Noted:
    """Scores that depend on the history and have many ties; remembers what it was given."""

    name: str = "noted"
    trained: list[Log] = field(default_factory=list)
    learned: list[tuple[int, int]] = field(default_factory=list)
    asked: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    n_items: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def fit(self, log: Log) -> None:
        self.trained.append(log)
        self.n_items = log.n_items
        self.learned = []
        self.counts = np.bincount(log.items, minlength=log.n_items)

    def score(self, history: tuple[int, ...]) -> NDArray[np.float32]:
        weight = sum(history) % 5 + 1
        score = ((np.arange(self.n_items) * weight) % 7).astype(np.float32)
        score[self.counts == 0] = -np.inf
        return score

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        rows = []
        for case in range(len(cases)):
            history = tuple(cases.items[cases.offsets[case] : cases.offsets[case + 1]].tolist())
            self.asked.append((int(cases.users[case]), history, len(self.learned)))
            rows.append(self.score(history))
        return np.array(rows, np.float32).reshape(len(cases), self.n_items)


class Learning(Noted):
    def learn(self, log: Log) -> None:
        self.learned += list(zip(log.users.tolist(), log.items.tolist(), strict=True))


def ranking(scores: NDArray[np.float32], seen: set[int], right: set[int]) -> list[int]:
    """All proposed items, best first; the right ones last among equals, then the lower first."""
    proposed = [item for item in range(len(scores)) if np.isfinite(scores[item]) and item not in seen]
    return sorted(proposed, key=lambda item: (-scores[item], item in right, item))


def dcg(hits: list[bool]) -> float:
    return sum(1 / np.log2(at + 2) for at, hit in enumerate(hits) if hit)


def made(seed: int, users: int = 40, items: int = 25, longest: int = 14) -> Log:
    rng = np.random.default_rng(seed)
    pairs = [(u, int(i)) for u in range(users) for i in rng.permutation(items)[: rng.integers(1, longest)]]
    order = np.argsort(rng.random(len(pairs)))
    columns = np.array(pairs, np.int32)[order]
    return Log(columns[:, 0].copy(), columns[:, 1].copy(), users, items)


def histories(log: Log) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for user, item in zip(log.users.tolist(), log.items.tolist(), strict=True):
        found[user].append(item)
    return found


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_best_is_a_sort_in_which_the_right_ones_stand_last(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows, m = rng.integers(1, 6), rng.integers(1, 20)
    scores = rng.integers(0, 4, (rows, m)).astype(np.float32)
    scores[rng.random((rows, m)) < 0.2] = -np.inf
    scores[rng.random((rows, m)) < 0.05] = np.nan
    right = [np.sort(rng.permutation(m)[: rng.integers(1, m + 1)]).astype(np.int32) for _ in range(rows)]
    first = np.concatenate([[0], np.cumsum([len(one) for one in right])]).astype(np.int64)
    found = best(scores, np.concatenate(right), first, k)
    for row in range(rows):
        expected = ranking(scores[row], set(), set(right[row].tolist()))[:k]
        assert found[row].tolist() == expected + [-1] * (k - len(expected))


def test_the_place_of_the_right_one_is_the_last_among_equals() -> None:
    scores = np.array([[2, 2, 2, 1], [0, 3, 3, -np.inf], [0, 0, np.nan, -np.inf]], np.float32)
    assert places(scores, np.array([1, 2, 3], np.int32)).tolist() == [3, 2, 0]


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_is_a_loop_over_users(seed: int, part: str) -> None:
    data = Dataset("made", made(seed))
    model = Noted()
    report = judge(RECIPES["loo-full"], data, [model], Options(part=part))  # type: ignore[arg-type]
    log = cored(data, 5).log
    hits, gains, reciprocal, trained = [], [], [], []
    for user, past in sorted(histories(log).items()):
        assert len(past) >= 5
        trained += [(user, item) for item in past[:-2]]
        history, target = (past[:-1], past[-1]) if part == "test" else (past[:-2], past[-2])
        order = ranking(model.score(tuple(history)), set(history), {target})
        rank = order.index(target) + 1 if target in order else 0
        hits.append(0 < rank <= 10)
        gains.append(1 / np.log2(rank + 1) if 0 < rank <= 10 else 0.0)
        reciprocal.append(1 / rank if rank else 0.0)
    train = model.trained[0]
    assert sorted(zip(train.users.tolist(), train.items.tolist(), strict=True)) == sorted(trained)
    assert histories(train) == {user: past[:-2] for user, past in histories(log).items()}
    figures = report.rows[0].figures
    assert report.cases == len(hits)
    assert figures["HR@10"] == pytest.approx(np.mean(hits), abs=1e-12)
    assert figures["NDCG@10"] == pytest.approx(np.mean(gains), abs=1e-12)
    assert figures["MRR"] == pytest.approx(np.mean(reciprocal), abs=1e-12)


def test_a_constant_earns_nothing() -> None:
    class Constant(Noted):
        def score(self, history: tuple[int, ...]) -> NDArray[np.float32]:
            return np.ones(self.n_items, np.float32)

    log = made(1, users=60, items=40, longest=20)
    assert judge(RECIPES["loo-full"], Dataset("made", log), [Constant()]).rows[0].figures["HR@10"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_strong_generalisation_is_the_published_split(seed: int) -> None:
    log = made(seed, users=60)
    model = Noted()
    report = judge(RECIPES["strong"], Dataset("made", log), [model])
    past = histories(log)
    users = [user for user in sorted(past) if len(past[user]) >= 5]
    held = len(users) // 10
    shuffled = np.array(users)[RandomState(98765).permutation(len(users))].tolist()
    train = set(shuffled[: len(users) - 2 * held])
    known = {item for user in train for item in past[user]}
    assert set(model.trained[0].users.tolist()) == train
    draw = RandomState(98765)
    recall, gains, asked = [], [], []
    for user in sorted(shuffled[len(users) - held :]):
        items = [item for item in past[user] if item in known]
        if len(items) < 5:
            continue
        chosen = np.zeros(len(items), bool)
        chosen[draw.choice(len(items), size=int(0.2 * len(items)), replace=False)] = True
        right = {item for item, out in zip(items, chosen, strict=True) if out}
        history = tuple(item for item, out in zip(items, chosen, strict=True) if not out)
        asked.append(history)
        order = ranking(model.score(history), set(history), right)
        hits = [item in right for item in order]
        recall.append(sum(hits[:20]) / min(20, len(right)))
        gains.append(dcg(hits[:100]) / dcg([True] * min(100, len(right))))
    assert [(history, user) for user, history, _ in model.asked] == [(history, -1) for history in asked]
    assert report.rows[0].figures["Recall@20"] == pytest.approx(np.mean(recall), abs=1e-12)
    assert report.rows[0].figures["NDCG@100"] == pytest.approx(np.mean(gains), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_given_split_counts_over_all_that_is_right(seed: int) -> None:
    log = made(seed, users=30, items=60, longest=50)
    rng = np.random.default_rng(seed)
    out = rng.random(len(log)) < 0.6
    data = Dataset("made", log.take(~out), test=log.take(out), ordered=False)
    model = Noted()
    report = judge(RECIPES["split"], data, [model])
    past, wanted = histories(log.take(~out)), histories(log.take(out))
    recall, gains = [], []
    for user in sorted(wanted):
        right = set(wanted[user])
        order = ranking(model.score(tuple(past[user])), set(past[user]), right)
        hits = [item in right for item in order[:20]]
        recall.append(sum(hits) / len(right))
        gains.append(dcg(hits) / dcg([True] * min(20, len(right))))
    assert max(len(one) for one in wanted.values()) > 20  # where the two ways to count recall part
    assert report.rows[0].figures["Recall@20"] == pytest.approx(np.mean(recall), abs=1e-12)
    assert report.rows[0].figures["NDCG@20"] == pytest.approx(np.mean(gains), abs=1e-12)


def test_the_validation_of_a_split_never_sees_its_test() -> None:
    log = made(5, users=30, items=60, longest=30)
    model = Noted()
    report = judge(
        RECIPES["split"], Dataset("made", log, test=made(6, users=30, items=60)), [model], Options(part="validation")
    )
    past, kept = histories(log), histories(model.trained[0])
    for user, items in past.items():
        held = max(1, len(items) // 10) if len(items) > 1 else 0
        assert len(kept[user]) == len(items) - held
        rest = iter(items)
        assert all(item in rest for item in kept[user])  # in the same order
    assert kept != {user: items[: len(kept[user])] for user, items in past.items()}  # drawn, not the last
    assert report.cases == sum(len(items) > 1 for items in past.values())


def weekly(seed: int, weeks: int = 4, items: int = 15) -> Dataset:
    """Sessions interleaved in time; some items appear only later."""
    rng = np.random.default_rng(seed)
    users, taken, bounds, begun = [], [], [0], 0
    for week in range(weeks):
        sessions = begun + rng.integers(0, 12, 60)
        users.append(sessions)
        taken.append(rng.integers(0, items - 3 * (weeks - 1 - week), 60))
        bounds.append(bounds[-1] + 60)
        begun += 12
    log = Log(np.concatenate(users).astype(np.int32), np.concatenate(taken).astype(np.int32), begun, items)
    return Dataset("made", log, bounds=np.array(bounds))


def weeks_by_hand(data: Dataset, model: Noted) -> tuple[list[list[float]], list[list[float]]]:
    """Recall@20 and MRR@20 of each case, by week."""
    assert data.bounds is not None
    recall, reciprocal = [], []
    for week in range(1, len(data.bounds) - 1):
        begin, end = data.bounds[week], data.bounds[week + 1]
        known = set(data.log.items[:begin].tolist())
        model.fit(data.log.take(slice(0, begin)))
        sessions: dict[int, list[int]] = defaultdict(list)
        hits, worth = [], []
        for user, item in zip(data.log.users[begin:end].tolist(), data.log.items[begin:end].tolist(), strict=True):
            if item not in known:
                continue
            history = sessions[user]
            if history:
                order = ranking(model.score(tuple(history)), set(), {item})[:20]
                hits.append(float(item in order))
                worth.append(1 / (order.index(item) + 1) if item in order else 0.0)
            history.append(item)
        recall.append(hits)
        reciprocal.append(worth)
    return recall, reciprocal


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_continual_is_a_loop_over_weeks(seed: int, live: bool) -> None:
    data = weekly(seed, items=40)
    model = Noted()
    report = judge(RECIPES["continual"], data, [model], Options(live=live))
    recall, reciprocal = weeks_by_hand(data, Noted())
    row = report.rows[0]
    assert not row.live  # it cannot learn
    assert len(model.trained) == 3
    assert [len(one) for one in row.groups] == [len(one) for one in recall]
    assert row.by_round["Recall@20"] == pytest.approx([np.mean(one) for one in recall], abs=1e-12)
    assert row.figures["Recall@20"] == pytest.approx(np.mean([np.mean(one) for one in recall]), abs=1e-12)
    assert row.figures["MRR@20"] == pytest.approx(np.mean([np.mean(one) for one in reciprocal]), abs=1e-12)
    assert metrics.mean(row.weighted("MRR@20")) == pytest.approx(row.figures["MRR@20"], abs=1e-12)


@pytest.mark.parametrize("step", [1, 7, 1_000])
def test_a_learner_is_told_of_an_event_only_after_it_was_asked_for(step: int) -> None:
    data = weekly(3, weeks=2)
    assert data.bounds is not None
    model = Learning()
    report = judge(RECIPES["continual"], data, [model], Options(live=True), live_step=step)
    assert report.rows[0].live
    events = [
        (user, item) for user, item in zip(data.log.users[60:].tolist(), data.log.items[60:].tolist(), strict=True)
    ]
    known = set(data.log.items[:60].tolist())
    seen: dict[int, list[int]] = defaultdict(list)
    at = []
    for row, (user, item) in enumerate(events):
        if item in known:
            if seen[user]:
                at.append((row, user, tuple(seen[user])))
            seen[user].append(item)
    assert [(user, history) for user, history, _ in model.asked] == [(user, history) for _, user, history in at]
    begun = -step
    for (row, _, _), (_, _, told) in zip(at, model.asked, strict=True):
        if row >= begun + step:
            begun = row  # a batch begins: all that happened before its first case is known
        assert told == begun <= row
    assert model.learned == events[: len(model.learned)]


def test_the_validation_of_weeks_stays_in_the_first() -> None:
    data = weekly(4)
    model = Noted()
    report = judge(RECIPES["continual"], data, [model], Options(part="validation"))
    assert len(model.trained) == 1
    sessions = set(model.trained[0].users.tolist())
    assert sessions < set(data.log.users[:60].tolist())
    assert not sessions & set(report.rows[0].groups[0].tolist())
    assert max(report.rows[0].groups[0].tolist()) < 12


@pytest.mark.parametrize("name", ["loo-full", "strong", "split"])
def test_a_sample_of_users_is_judged_by_what_all_taught(name: str) -> None:
    log = made(2, users=200)
    data = Dataset("made", log.take(slice(0, 900)), test=log.take(slice(900, None)))
    whole, part, again = (judge(RECIPES[name], data, [Popularity()], Options(users=users)) for users in (None, 5, 5))
    assert part.cases == 5 < whole.cases
    chosen = np.isin(whole.rows[0].groups[0], part.rows[0].groups[0])
    for measure, values in part.rows[0].values[0].items():
        assert np.array_equal(whole.rows[0].values[0][measure][chosen], values)
        assert np.array_equal(again.rows[0].values[0][measure], values)


def test_intervals_are_against_the_first_model() -> None:
    report = judge(
        RECIPES["loo-full"],
        Dataset("made", made(0, users=80)),
        [MODELS[name](0) for name in MODELS if "ease" not in name and name != "sequence"],
    )
    first = report.rows[0]
    assert first.behind == {}
    for row in report.rows[1:]:
        for measure, difference in row.behind.items():
            assert difference.mean == pytest.approx(row.figures[measure] - first.figures[measure], abs=1e-12)
            assert difference.low <= difference.mean <= difference.high
    document = report.document()
    assert document["version"] == 1
    assert [one["model"] for one in document["models"]] == [row.name for row in report.rows]


def test_coverage_and_novelty_are_those_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    lists, counts = rng.integers(-1, 30, (50, 5)), rng.integers(0, 9, 30)
    shown = np.bincount(lists[lists >= 0], minlength=30)
    assert novelty_of(shown, counts) == pytest.approx(metrics.novelty(lists, counts), abs=1e-12)
    data = Dataset("made", made(0))
    row = judge(RECIPES["loo-full"], data, [Popularity()]).rows[0]
    assert 0 < row.coverage < 1
    assert row.peak_bytes > 0


def timed(seed: int) -> Log:
    """Users who come at all times, some late, and who take things again."""
    rng = np.random.default_rng(seed)
    log = made(seed, users=60)
    again = np.sort(np.concatenate([np.arange(len(log)), rng.integers(0, len(log), 80)]))
    times = np.sort(rng.integers(0, 500, len(again)))  # many at the same time
    late = rng.permutation(60)[log.users[again]] * 4  # the n-th user comes at about 4 n
    order = np.argsort(times + late, kind="stable")
    return replace(log.take(again[order]), times=np.sort(times + late))


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("name", ["time-split", "time-split-successive"])
@pytest.mark.parametrize("seed", range(2))
def test_a_time_split_is_a_walk_over_the_log(seed: int, name: str, live: bool, part: str) -> None:
    data = Dataset("made", timed(seed))
    model = Learning() if live else Noted()
    report = judge(RECIPES[name], data, [model], Options(part=part, live=live), live_step=1)
    log = cored(data, 5).log
    assert log.times is not None
    newest: dict[int, int] = {}
    events = []
    for user, item, time in zip(log.users.tolist(), log.items.tolist(), log.times.tolist(), strict=True):
        if newest.get(user) != item:
            events.append((user, item, time))
        newest[user] = item
    assert len(events) < len(log)
    cut = np.quantile([time for _, _, time in events], 0.9)
    if part == "validation":
        events = [one for one in events if one[2] < cut]
        cut = np.quantile([time for _, _, time in events], 0.9)
    train = [(user, item) for user, item, time in events if time < cut]
    assert list(zip(model.trained[0].users.tolist(), model.trained[0].items.tolist(), strict=True)) == train
    past: dict[int, list[int]] = defaultdict(list)
    left = {user: sum(one[0] == user for one in events) for user in newest}
    hits, asked, learned = [], [], []
    for user, item, time in events:
        left[user] -= 1
        if time >= cut and past[user] and (name == "time-split-successive" or not left[user]):
            asked.append((user, tuple(past[user]), len(learned)))
            history = set(past[user])
            order = ranking(model.score(tuple(past[user])), history, {item})[:10]
            hits.append(float(item in order and item not in history))
        if time >= cut:
            learned.append((user, item))
        past[user].append(item)
    known = {user for user, _ in train}
    if live:
        assert model.asked == asked
    else:
        expected = [(user if user in known else -1, history) for user, history, _ in asked]
        assert [(user, history) for user, history, _ in model.asked] == expected
    assert report.cases == len(hits) > 10
    assert report.rows[0].figures["HR@10"] == pytest.approx(np.mean(hits), abs=1e-12)


@pytest.mark.parametrize("attributes", [False, True])
def test_what_is_shown_is_told_beside(attributes: bool) -> None:
    log = made(9, users=60)
    rows = np.random.default_rng(9).integers(0, 2, (log.n_items, 4))
    data = Dataset("made", log, traits=sparse.csr_matrix(rows) if attributes else None)
    model = Noted()
    report = judge(RECIPES["loo-full"], data, [model, Popularity()])
    core = cored(data, 5)
    train = model.trained[0]
    if attributes:
        assert core.traits is not None
        vectors = core.traits.toarray().tolist()
    else:
        vectors = train.matrix().T.toarray().tolist()
    lists, right, hists = [], [], []
    for _, past in sorted(histories(core.log).items()):
        lists.append(ranking(model.score(tuple(past[:-1])), set(past[:-1]), {past[-1]})[:10])
        right.append([float(item == past[-1]) for item in lists[-1]])
        hists.append(past[:-1])
    row = report.rows[0]
    assert report.alike == ("attributes" if attributes else "company")
    precise = np.mean([sum(one) / 10 for one in right])
    average = np.mean([oracle.slow_average_precision(one, 1, 10) for one in right])
    apart = np.nanmean([oracle.slow_diversity(one, vectors) for one in lists])
    lift = oracle.slow_popularity_lift(lists, hists, np.bincount(train.items, minlength=train.n_items).tolist())
    assert row.beyond == pytest.approx(
        {"P@10": precise, "MAP@10": average, "diversity": apart, "popularity lift": lift}, abs=1e-6
    )
    assert row.beyond["P@10"] == pytest.approx(row.figures["HR@10"] / 10, abs=1e-6)
    assert 0 <= row.gini <= 1
    behind = report.rows[1].beyond_behind["diversity"]
    assert behind.low <= behind.mean <= behind.high
    assert behind.mean == pytest.approx(report.rows[1].beyond["diversity"] - row.beyond["diversity"], abs=1e-6)


def test_what_a_protocol_lacks_is_said() -> None:
    log = made(0)
    for name, told in (("split", "train.txt"), ("continual", "period_0.txt"), ("time-split", "no times")):
        with pytest.raises(Unsuited, match=told):
            judge(RECIPES[name], Dataset("made", log), [Popularity()])
    with pytest.raises(Unsuited, match="10 or more"):
        judge(RECIPES["strong"], Dataset("made", made(0, users=5)), [Popularity()])
    with pytest.raises(Unsuited, match="5 or more"):
        judge(RECIPES["loo-full"], Dataset("made", made(0, users=2, items=30)), [Popularity()])
    with pytest.raises(ValueError, match="shape"):
        judge(RECIPES["loo-full"], Dataset("made", log), [Wrong()])


class Wrong(Noted):
    def scores(self, cases: Cases) -> NDArray[np.float32]:
        return np.zeros((len(cases), 3), np.float32)


def test_a_core_leaves_only_the_busy() -> None:
    log = made(7, users=60)
    small = cored(Dataset("made", log), 5).log
    assert np.bincount(small.users, minlength=small.n_users).min() >= 5
    assert np.bincount(small.items, minlength=small.n_items).min() >= 5
    twice = replace(log, users=np.tile(log.users, 2), items=np.tile(log.items, 2))
    assert np.array_equal(distinct(twice).items, log.items)


def test_popularity_on_ml_1m_is_weak() -> None:
    """A sanity check of the protocol: over all users popularity has HR@10 .0369, as was measured."""
    data = read_lines(dataset("ml-1m/sasrec.txt.gz"))
    assert (data.log.n_users, data.log.n_items, len(data.log)) == (6_040, 3_416, 999_611)
    report = judge(RECIPES["loo-full"], data, [Popularity()], Options(users=1_000))
    assert report.cases == 1_000
    assert 0.02 < report.rows[0].figures["HR@10"] < 0.06
    assert [one.model for one in report.published][:1] == ["HSTU-large"]
