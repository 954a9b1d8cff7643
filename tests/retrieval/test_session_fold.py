"""The sample of sessions is a function of the log, and what an item keeps is one of the set of its visits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.events import Event, Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.core.schema import Action, Schema
from penchant.core.state import Key, visits_key
from penchant.retrieval.session_fold import SESSIONS, SessionFold, session_key, session_of, visited
from penchant.testing.oracles.sessions import sample

SCHEMA = Schema(actions={"click": Action("click", 0, 1.0), "hide": Action("hide", 1, -1.0)})
GAP = 10


class State(dict[Key, bytes]):
    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        return [self.get(key) for key in keys]

    def put(self, key: Key, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value

    def visits(self, item_id: str) -> list[tuple[int, int, int]]:
        """(session, time, place), by session."""
        sessions, values = np.frombuffer(self.get(visits_key(item_id), b""), np.int64).reshape(2, -1).tolist()
        assert sessions == sorted(set(sessions))
        return [(session, value >> 16, value & 0xFFFF) for session, value in zip(sessions, values, strict=True)]


def record(position: int, event: Event, ts: int | None = None, verdict: int = ACCEPTED) -> Record:
    ts = position if ts is None else ts
    return Record(position=position, ingested_at=position, ts=ts, verdict=verdict, q=0, event=event)


def clicks(visits: Sequence[tuple[str, str, int]]) -> list[Record]:
    """Records of (user, item, ts)."""
    return [
        record(at, Interaction(user_id=user, item_id=item, action="click"), ts)
        for at, (user, item, ts) in enumerate(visits, 1)
    ]


def fold(records: Sequence[Record], cuts: Sequence[int] = ()) -> State:
    state = State()
    for low, high in itertools.pairwise([0, *sorted(cuts), len(records)]):
        SessionFold(SCHEMA, GAP).apply(records[low:high], state)
    return state


def name(user: str, begun: int) -> int:
    return session_of(hash_id(user), begun)


def test_visits_within_the_gap_are_one_session() -> None:
    state = fold(clicks([("u", "a", 1), ("u", "b", 11), ("u", "a", 22), ("v", "a", 22)]))
    assert state.visits("b") == [(name("u", 1), 11, 1)]
    assert sorted(state.visits("a")) == sorted([(name("u", 1), 1, 0), (name("u", 22), 22, 0), (name("v", 22), 22, 0)])


def test_a_repeated_action_renews_the_time_and_takes_no_place() -> None:
    state = fold(clicks([("u", "a", 1), ("u", "a", 5), ("u", "b", 6), ("u", "a", 7)]))
    assert state.visits("a") == [(name("u", 1), 7, 2)]
    assert state.visits("b") == [(name("u", 1), 6, 1)]


def test_late_visits_join_the_session_or_none() -> None:
    state = fold(clicks([("u", "a", 100), ("u", "b", 95), ("u", "c", 80), ("u", "d", 101)]))
    assert state.visits("b") == [(name("u", 100), 95, 1)]
    assert state.visits("c") == []
    assert visits_key("c") not in state
    assert state.visits("d") == [(name("u", 100), 101, 2)]


def test_what_does_not_count() -> None:
    first = Interaction(user_id="u", item_id="a", action="hide")
    assert fold([record(1, first)]) == {}
    assert fold([record(1, Interaction(user_id="u", item_id="a", action="click"), verdict=LATE)]) == {}
    assert fold([record(1, Interaction(user_id="", item_id="a", action="click"))]) == {}


def test_an_erased_user_is_forgotten_and_items_keep_hashes() -> None:
    records = [*clicks([("u", "a", 1)]), record(2, UserErased(user_id="u"))]
    state = fold(records)
    assert session_key("u") not in state
    assert state.visits("a") == [(name("u", 1), 1, 0)]
    state = fold([*records, record(3, Interaction(user_id="u", item_id="a", action="click"))])
    assert len(state.visits("a")) == 2  # nobody can tell that they are one person


def test_the_fingerprint_names_what_the_sample_depends_on() -> None:
    other = Schema(actions={"view": Action("view", 0, 1.0)})
    assert (
        len({SessionFold(SCHEMA).fingerprint, SessionFold(SCHEMA, 4).fingerprint, SessionFold(other).fingerprint}) == 3
    )


drawn = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcde"), st.integers(0, 60)), max_size=40)


@settings(deadline=None)
@given(drawn, st.lists(st.integers(0, 40), max_size=6), st.sets(st.integers(0, 40), max_size=2))
def test_equals_the_oracle_however_it_is_cut(
    visits: list[tuple[str, str, int]], cuts: list[int], erasures: set[int]
) -> None:
    records = clicks(visits)
    for at in erasures:
        if at < len(records):
            records[at] = record(at + 1, UserErased(user_id="u"))
    whole = fold(records)
    expected = sample(records, frozenset({"click"}), GAP, SESSIONS)
    for item in "abcde":
        assert whole.visits(item) == expected.get(item, [])
    assert fold(records, [min(cut, len(records)) for cut in cuts]) == whole
    assert fold(records, range(len(records))) == whole


@pytest.mark.parametrize("seed", [0, 1])
def test_a_full_item_keeps_the_newest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    visits = [
        (f"u{rng.integers(300)}", "hub" if rng.random() < 0.4 else "b", int(rng.integers(500))) for _ in range(2_000)
    ]
    records = clicks(visits)
    whole = fold(records)
    expected = sample(records, frozenset({"click"}), GAP, SESSIONS)
    assert len(expected["hub"]) == SESSIONS
    for item in ("hub", "b"):
        assert whole.visits(item) == expected[item]
    assert fold(records, sorted(rng.integers(0, 2_000, 40).tolist())) == whole


@settings(deadline=None, max_examples=50)
@given(st.randoms(use_true_random=False), st.integers(1, 400))
def test_what_an_item_keeps_does_not_depend_on_the_order_in_which_it_is_told(rng, count) -> None:  # type: ignore[no-untyped-def]
    visits = [(rng.randrange(200), rng.randrange(60)) for _ in range(count)]

    def told(order: Sequence[tuple[int, int]], blob: bytes | None) -> bytes:
        sessions, values = np.array(order, np.int64).T
        return visited([blob], np.zeros(len(order), np.int64), sessions.copy(), values.copy())[0]

    once = told(visits, None)
    rng.shuffle(visits)
    half = count // 2
    parts = told(visits[half:], told(visits[:half], None) if half else None)
    assert parts == once
    assert told(visits[: half + 1], parts) == once  # told again
