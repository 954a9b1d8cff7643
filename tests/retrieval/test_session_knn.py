"""Session-kNN equals plain dictionaries for any order of events."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.retrieval.session_knn import NearestSessions
from penchant.retrieval.sessions import Sessions

Event = tuple[int, int, int]
"""session, item, time."""


class Kept:
    """What a sample must hold, by looking at the whole log again."""

    def __init__(self, events: Sequence[Event], room: tuple[int, int, int]) -> None:
        sessions, visits, length = room
        turn: dict[int, int] = {}
        sizes: dict[int, int] = {}
        self.times: dict[int, int] = {}
        taken: list[tuple[int, int, int]] = []
        for session, item, time in events:
            if turn.get(session, -1) < len(sizes) - sessions or session not in turn:
                turn[session] = len(sizes)
                sizes[turn[session]] = 0
            one = turn[session]
            taken.append((one, item, sizes[one]))
            sizes[one] += 1
            self.times[one] = max(self.times.get(one, time), time)
        left = taken[-visits:]
        self.counts: dict[int, int] = {}
        for _, item, _ in left:
            self.counts[item] = self.counts.get(item, 0) + 1
        self.visits = len(left)
        self.of: dict[int, list[tuple[int, int]]] = {}
        self.seen: list[tuple[int, int]] = []
        """(session, item) of all visits that a reader may come by, oldest first; session -1: it has left."""
        for one, item, place in left:
            whole = one >= len(sizes) - sessions and place >= sizes[one] - length
            self.seen.append((one if whole else -1, item))
            if whole:
                self.of.setdefault(one, []).append((place, item))
        self.turn = {session: one for session, one in turn.items() if one >= len(sizes) - sessions}


def asked(model: NearestSessions, kept: Kept, weight: dict[int, float], now: int, without: int) -> dict[int, float]:
    """What the neighbours of weighted items propose; `weight` is in the order of the history, newest first."""
    past = list(weight)
    candidates: list[int] = []
    for one, _ in [visit for visit in reversed(kept.seen) if visit[1] in weight][: 4 * model.recent]:
        if one >= 0 and one not in candidates and kept.turn.get(without) != one and len(candidates) < model.recent:
            candidates.append(one)
    like = {}
    for one in candidates:
        shared = {item for _, item in kept.of[one]} & set(past)
        total = 0.0
        for _, item in reversed(kept.of[one]):
            if item in shared:
                total += weight[item]
                shared.remove(item)
        if model.normalise:
            total /= len(kept.of[one]) ** model.normalise
        like[one] = np.float32(total * math.exp(-max(now - kept.times[one], 0) / model.fade))
    nearest = [one for one in sorted(candidates, key=lambda one: -like[one]) if like[one] > 0][: model.nearest]
    scores: dict[int, float] = {}
    for one in nearest:
        match = -min((past.index(item), -place) for place, item in kept.of[one] if item in weight)[1]
        for place, item in reversed(kept.of[one]):
            gain = float(like[one]) * math.exp(-abs(place - match) / model.reach)
            scores[item] = scores.get(item, 0.0) + gain * (model.backward if place < match else 1.0)
    return {
        item: score * (1.0 + model.idf * math.log(kept.visits / kept.counts[item])) for item, score in scores.items()
    }


def expected(model: NearestSessions, kept: Kept, history: Sequence[int], now: int, without: int) -> dict[int, float]:
    past = list(dict.fromkeys(reversed(history)))[: model.depth]
    weight = {}
    for age, item in enumerate(past):
        linear = (len(past) - age) / len(past)
        weight[item] = {
            "same": 1.0, "linear": linear, "quadratic": linear**2, "exponential": math.exp(-age / model.pace)
        }[model.decay]  # fmt: skip
    scores = asked(model, kept, weight, now, without)
    best = max(scores.values(), default=0.0)
    if model.own:
        for item in past:
            scores[item] = scores.get(item, 0.0) + model.own * (best or 1.0) * weight[item]
    if model.onward and best:
        start = {item: float(np.float32(score)) for item, score in scores.items() if np.float32(score) > 0}
        likely = sorted(start, key=lambda item: -start[item])[: model.onward_from]
        more = asked(model, kept, {item: start[item] / start[likely[0]] for item in likely}, now, without)
        for item, score in more.items():
            scores[item] = scores.get(item, 0.0) + model.onward * best / max(more.values()) * score
    return scores


def sample_of(events: Sequence[Event], room: tuple[int, int, int], cuts: Sequence[int] = ()) -> Sessions:
    sample = Sessions(*room)
    columns = np.array(events, np.int64).reshape(-1, 3)
    for low, high in itertools.pairwise([0, *sorted(cuts), len(events)]):
        part = columns[low:high]
        if len(part) == 1:
            sample.add(*part[0].tolist())
        else:
            sample.extend(part[:, 0], part[:, 1].astype(np.int32), part[:, 2])
    return sample


def arrays_of(sample: Sessions) -> list[bytes]:
    return [array.tobytes() for array in sample.arrays]


keys = st.sampled_from([0, 1, 2, 3, 4, 5, 6, -7, 1 << 40, (1 << 40) + 1, -(1 << 62)])
logs = st.lists(st.tuples(keys, st.integers(0, 8), st.integers(0, 50)), max_size=60)
rooms = st.tuples(st.integers(1, 8), st.integers(1, 50), st.integers(1, 6))
models = st.builds(
    NearestSessions,
    recent=st.integers(1, 6),
    nearest=st.integers(1, 5),
    depth=st.integers(1, 5),
    decay=st.sampled_from(["linear", "quadratic", "exponential", "same"]),
    pace=st.sampled_from([0.7, 2.0]),
    normalise=st.sampled_from([0.0, 0.5, 1.0]),
    fade=st.sampled_from([math.inf, 7.0]),
    reach=st.sampled_from([math.inf, 1.5]),
    backward=st.sampled_from([1.0, 0.5, 0.0]),
    idf=st.sampled_from([0.0, 1.0]),
    own=st.sampled_from([0.0, 0.5]),
    onward=st.sampled_from([0.0, 0.3]),
    onward_from=st.integers(1, 5),
)


@settings(max_examples=400, deadline=None)
@given(logs, rooms, models, st.lists(st.integers(0, 11), max_size=8), keys, st.data())
def test_the_kernel_equals_dictionaries(
    events: list[Event],
    room: tuple[int, int, int],
    model: NearestSessions,
    history: list[int],
    without: int,
    data: st.DataObject,
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4))
    sample = sample_of(events, room, cuts)
    items, scores = model.scores(sample, np.array(history, np.int32), 40, without)
    wanted = expected(model, Kept(events, room), history, 40, without)
    assert len(set(items.tolist())) == len(items)
    assert dict(zip(items.tolist(), scores.tolist(), strict=True)) == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(logs, rooms, st.data())
def test_batches_do_not_matter(events: list[Event], room: tuple[int, int, int], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6))
    cut, whole = sample_of(events, room, cuts), sample_of(events, room)
    for sample in (cut, whole):
        sample.reserve(32)
    assert arrays_of(cut) == arrays_of(whole)


@pytest.mark.parametrize("seed", range(3))
def test_many_sessions_through_a_small_room(seed: int) -> None:
    """The index of sessions is filled and emptied many times over."""
    rng = np.random.default_rng(seed)
    events = [(int(s), int(i), at) for at, (s, i) in enumerate(rng.integers(0, [400, 30], (3_000, 2)))]
    room, model = (37, 500, 9), NearestSessions(recent=50, nearest=20, idf=1.0, reach=2.0, own=0.5, onward=0.3)
    sample, kept = sample_of(events, room), Kept(events, room)
    for history in rng.integers(0, 30, (20, 5)).tolist():
        items, scores = model.scores(sample, np.array(history, np.int32), 3_000, 5)
        wanted = expected(model, kept, history, 3_000, 5)
        assert dict(zip(items.tolist(), scores.tolist(), strict=True)) == pytest.approx(wanted, rel=1e-5)


def test_the_best_come_first_and_only_where_they_may() -> None:
    rng = np.random.default_rng(0)
    events = [(int(s), int(i), at) for at, (s, i) in enumerate(rng.integers(0, [50, 30], (600, 2)))]
    sample, model = sample_of(events, (100, 1_000, 20)), NearestSessions()
    history = np.array([3, 8], np.int32)
    items, scores = model.scores(sample, history, 600)
    order = sorted(range(len(items)), key=lambda at: (-scores[at], items[at]))[:7]
    top = model.top(sample, history, 600, 7)
    assert top[0].tolist() == items[order].tolist()
    assert top[1].tolist() == scores[order].tolist()
    eligible = np.zeros(sample.n_items, np.bool_)
    eligible[items[order[3]]] = True
    assert model.top(sample, history, 600, 7, eligible=eligible)[0].tolist() == [items[order[3]]]


def test_many_at_once_are_as_one_by_one() -> None:
    rng = np.random.default_rng(1)
    events = [(int(s), int(i), at) for at, (s, i) in enumerate(rng.integers(0, [50, 30], (600, 2)))]
    sample, model = sample_of(events, (100, 1_000, 20)), NearestSessions(idf=1.0, fade=300.0)
    offsets = np.array([0, 3, 3, 8], np.int64)
    histories = rng.integers(0, 30, 8).astype(np.int32)
    own = np.array([4, 5, 6], np.int64)
    into = np.full((3, 30), -np.inf, np.float32)
    model.fill(sample, histories, offsets, 600, own, into)
    for case in range(3):
        row = np.full(30, -np.inf, np.float32)
        items, scores = model.scores(sample, histories[offsets[case] : offsets[case + 1]], 600, int(own[case]))
        row[items[scores > 0]] = scores[scores > 0]
        assert into[case].tobytes() == row.tobytes()


def test_a_frozen_copy_stays_as_it_was() -> None:
    sample = sample_of([(1, 2, 0), (1, 3, 1)], (4, 8, 4))
    frozen = sample.frozen()
    before = arrays_of(frozen)
    sample.extend(np.arange(20), np.arange(20, dtype=np.int32), np.arange(20))
    assert arrays_of(frozen) == before
    assert (frozen.n_items, frozen.n_visits, sample.n_visits) == (4, 2, 8)
    with pytest.raises(ValueError, match="read-only"):
        frozen.arrays.rows[0] = 1
    items, _ = NearestSessions().top(frozen, np.array([2], np.int32), 5, 3)
    assert items.tolist() == [2, 3]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Sessions(0)
    with pytest.raises(ValueError, match="below"):
        Sessions(events=1 << 30)
    with pytest.raises(ValueError, match="negative"):
        Sessions(2, 2).add(1, -1, 0)
    with pytest.raises(ValueError, match="as many"):
        Sessions(2, 2).extend(np.arange(2), np.arange(1, dtype=np.int32), np.arange(2))
    with pytest.raises(ValueError, match="depth"):
        NearestSessions(depth=63)
    with pytest.raises(ValueError, match="onward_from"):
        NearestSessions(onward_from=0)
    with pytest.raises(ValueError, match="above zero"):
        NearestSessions(fade=0.0)
