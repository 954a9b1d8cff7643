"""Nearest sessions of the picture: the contract, the offline model on the same log, plain dictionaries."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.world import SCHEMA, Store, ToyReader
from penchant.catalog import CatalogFold, ItemColumns
from penchant.catalog.parts import Roster
from penchant.catalog.sessions import SessionColumns
from penchant.core.events import Interaction
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.log import ACCEPTED, Record
from penchant.core.profiles import ItemProfile
from penchant.core.query import History, Query, UserState
from penchant.core.schema import Action
from penchant.core.stages import Source
from penchant.core.state import visits_key
from penchant.retrieval.session_fold import SessionFold, session_of
from penchant.retrieval.session_knn import NearestSessions
from penchant.retrieval.session_source import LIKE_SESSIONS, SessionNeighbours, _columns
from penchant.retrieval.session_walk import candidates
from penchant.retrieval.sessions import Sessions
from penchant.testing.contracts.source import SourceContract
from penchant.testing.oracles.sessions import named
from penchant.testing.strategies import NOW, make_items, make_query, random_items

GAP = 40
POSITIVE = dataclasses.replace(SCHEMA, actions={"click": Action("click", 0, 1.0)})
Visit = tuple[int, int, int]
"""session, row, time."""


def with_sessions(items: Items, visits: Sequence[Visit]) -> Items:
    """The picture with these visits, of which each session has an item once."""
    by_row: dict[int, dict[int, int]] = {}
    places: dict[int, int] = {}
    for session, row, time in visits:
        place = places[session] = places.get(session, -1) + 1
        by_row.setdefault(row, {})[session] = time << 16 | place
    roster = Roster()
    roster.extend([ItemProfile(item_id=items.ids[row], row=row, status=1) for row in range(items.count)])
    columns = SessionColumns()
    columns.renew(
        roster,
        [
            (
                visits_key(items.ids[row]),
                np.array([*sorted(of_row), *(of_row[session] for session in sorted(of_row))], np.int64).tobytes(),
            )
            for row, of_row in by_row.items()
        ],
    )
    return dataclasses.replace(items, sessions=columns.value, tables={})


def drawn(rng: np.random.Generator, sessions: int, rows: int, most: int = 9) -> list[Visit]:
    """Visits in order of time, all at different times, each session with an item at most once."""
    names = rng.integers(0, 1 << 63, sessions, np.int64).tolist()
    visits = [
        (name, row)
        for name in names
        for row in rng.permutation(rows)[: int(rng.integers(1, min(most, rows) + 1))].tolist()
    ]
    order = rng.permutation(len(visits)).tolist()
    return [(*visits[at], NOW - len(visits) + turn) for turn, at in enumerate(order)]


class TestSessionNeighbours(SourceContract):
    def make(self, items: Items) -> Source:
        return SessionNeighbours("session")

    def items(self, rng: np.random.Generator, count: int) -> Items:
        items = random_items(rng, count)
        return with_sessions(items, drawn(rng, 30, count)) if count else items


class TestWithEveryStep(TestSessionNeighbours):
    def make(self, items: Items) -> Source:
        return SessionNeighbours("session", dataclasses.replace(LIKE_SESSIONS, own=0.4, fade=1e3, recent=20, nearest=7))


class TestWithoutSessions(SourceContract):
    def make(self, items: Items) -> Source:
        return SessionNeighbours("session")


def prepared(items: Items, model: NearestSessions = LIKE_SESSIONS) -> SessionNeighbours:
    source = SessionNeighbours("session", model)
    items.tables["session"] = source.prepare(items)
    return source


models = st.builds(
    NearestSessions,
    recent=st.sampled_from([3, 10, 1_000]),
    nearest=st.sampled_from([2, 5, 100]),
    depth=st.integers(1, 5),
    decay=st.sampled_from(["linear", "exponential", "same"]),
    normalise=st.sampled_from([0.0, 0.5]),
    fade=st.sampled_from([math.inf, 70.0]),
    reach=st.sampled_from([math.inf, 1.5]),
    backward=st.sampled_from([1.0, 0.5]),  # without what came before, equal items would be met in another order
    idf=st.sampled_from([0.0, 1.0]),
    own=st.sampled_from([0.0, 0.5]),
    onward=st.sampled_from([0.0, 0.3]),
    onward_from=st.integers(1, 5),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12), models)
def test_equals_the_offline_model_where_both_hold_everything(
    seed: int, sessions: int, rows: int, model: NearestSessions
) -> None:
    rng = np.random.default_rng(seed)
    visits = drawn(rng, sessions, rows)
    items = with_sessions(make_items(rows), visits)
    sample = Sessions(sessions, len(visits))
    sample.reserve(rows)
    columns = np.array(visits, np.int64)
    sample.extend(columns[:, 0], columns[:, 1].astype(np.int32), columns[:, 2])
    history = rng.permutation(rows)[: int(rng.integers(1, rows + 1))].astype(np.int32)
    found, scores = model.scores(sample, history[::-1].copy(), items.time)
    query = make_query(items, history=history)
    mine = prepared(items, model).score_rows(query, np.arange(rows, dtype=np.int32))
    expected = np.zeros(rows, np.float32)
    expected[found] = scores
    assert np.nan_to_num(mine) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(1, 12),
    st.sampled_from([1, 2, 5, 20, 1_000]),
    st.sampled_from([1, 30, 10_000]),
)
def test_candidates_are_those_of_all_visits_in_order(
    seed: int, sessions: int, rows: int, recent: int, spread: int
) -> None:
    """Also where many visits are of one time, and where there are more than are looked at."""
    rng = np.random.default_rng(seed)
    visits = [(session, row, NOW + int(rng.integers(spread))) for session, row, _ in drawn(rng, sessions, rows)]
    items = with_sessions(make_items(rows), sorted(visits, key=lambda visit: visit[2]))
    assert items.sessions is not None
    columns = _columns(items.sessions)
    past = rng.permutation(rows)[: int(rng.integers(1, rows + 1))].astype(np.int32)
    own = rng.choice([*(session for session, *_ in visits), 5], int(rng.integers(0, 4)))
    every = [
        (-columns.values[at], columns.sessions[at])
        for row in past.tolist()
        for at in range(columns.of_row[row], columns.of_row[row + 1])
    ]
    first = dict.fromkeys(session for _, session in sorted(every, key=lambda visit: visit[0])[: 4 * recent])
    expected = [session for session in first if session not in own][:recent]
    assert columns.keys[candidates(columns, past, own, recent)].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 120), max_size=3))
def test_from_the_log_to_the_scores_as_the_offline_model_learns(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    people = [f"u{n}" for n in range(8)]
    left: dict[str, list[str]] = {}
    begun: dict[str, int] = {}
    records: list[Record] = []
    visits: list[tuple[int, str, int]] = []
    now = NOW
    for position in range(1, 121):
        user = people[int(rng.integers(8))]
        now += int(rng.choice([1, 3, 25], p=[0.7, 0.2, 0.1]))
        last = max((time for name, _, time in visits if name == named(user, begun.get(user, 0))), default=-1)
        if now > last + GAP or not left[user]:
            now = max(now, last + GAP + 1)
            begun[user], left[user] = now, [f"i{n}" for n in rng.permutation(12)]
        item = left[user].pop()
        visits.append((named(user, begun[user]), item, now))
        event = Interaction(user_id=user, item_id=item, action="click")
        records.append(Record(position, now, now, ACCEPTED, 0, event))
    store, columns = Store(), ItemColumns(SCHEMA, ToyReader())
    for low, high in itertools.pairwise([0, *sorted(cuts), len(records)]):
        if high > low:
            store.position = high
            for fold in (CatalogFold(SCHEMA), SessionFold(POSITIVE, GAP)):
                fold.apply(records[low:high], store)
            items = columns.refresh(store.snapshot(), NOW + high)
    sample = Sessions(200, 200)
    for session, item, time in visits:
        sample.add(session, items.row(item), time)
    sample.reserve(items.count)
    history = rng.permutation(items.count)[:4].astype(np.int32)
    found, scores = LIKE_SESSIONS.scores(sample, history[::-1].copy(), items.time)
    expected = np.zeros(sample.n_items, np.float32)
    expected[found] = scores
    rows = np.arange(items.count, dtype=np.int32)
    mine = prepared(items).score_rows(make_query(items, history=history), rows)
    assert np.nan_to_num(mine) == pytest.approx(expected[: items.count], rel=1e-5)


def with_past(query: Query, times: Sequence[int], user_id: str = "me") -> Query:
    blank = np.zeros(len(times), np.int64)
    past = History(items=blank, actions=blank, ts=np.array(times, np.int64), values=blank)
    return dataclasses.replace(query, user_id=user_id, user=UserState(position=1, history=past))


def test_own_sessions_are_nobody_s_neighbours() -> None:
    mine = session_of(hash_id("me"), NOW - 9)
    items = with_sessions(make_items(4), [(mine, 0, NOW - 9), (mine, 1, NOW - 8), (77, 0, NOW - 7), (77, 2, NOW - 6)])
    source = prepared(items)
    query = make_query(items, history=[0])
    rows = np.arange(4, dtype=np.int32)
    assert np.isfinite(source.score_rows(with_past(query, [NOW - 9, NOW - 8], "you"), rows)).tolist()[1:3] == [
        True,
        True,
    ]
    assert np.isfinite(source.score_rows(with_past(query, [NOW - 8, NOW - 9]), rows)).tolist()[1:3] == [False, True]


def test_another_person_asks_the_same() -> None:
    """What was worked out for one is not given to the next, though they have the very same history."""
    mine = session_of(hash_id("me"), NOW - 9)
    items = with_sessions(make_items(3), [(mine, 0, NOW - 9), (mine, 1, NOW - 8)])
    source, query = prepared(items), make_query(items, history=[0])
    assert source.retrieve(with_past(query, [NOW], "you"), 5).rows.tolist() == [0, 1]
    assert source.retrieve(with_past(query, [NOW - 9]), 5).rows.tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_contributors_are_those_of_plain_dictionaries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = 8
    visits = drawn(rng, 12, rows, 5)
    items = with_sessions(make_items(rows), visits)
    model = NearestSessions(depth=4)
    history = rng.permutation(rows)[:4].astype(np.int32).tolist()
    weight = {row: float(model.weights()[3, age]) for age, row in enumerate(history)}
    of: dict[int, list[int]] = {}
    for session, row, _ in visits:
        of.setdefault(session, []).append(row)
    shares: dict[int, dict[int, float]] = {}
    for walked in of.values():
        for row in walked:
            for shared in set(walked) & set(history):
                share = shares.setdefault(row, {})
                share[shared] = share.get(shared, 0.0) + weight[shared]
    source = prepared(items, model)
    found = source.contributor(make_query(items, history=history), np.arange(rows, dtype=np.int32)).tolist()
    for row in range(rows):
        share = shares.get(row, {})
        if found[row] < 0:
            assert not share
        else:
            assert share[found[row]] == pytest.approx(max(share.values()))
