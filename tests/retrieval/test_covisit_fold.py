"""Co-visitation counts are a function of the log's order, and of nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.events import Event, Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.core.schema import Action, Schema
from penchant.core.state import Key, neighbours_key
from penchant.retrieval import covisit_fold
from penchant.retrieval.covisit_fold import TABLE, CovisitFold, recent_key
from penchant.testing.oracles import retrieval as oracle

SCHEMA = Schema(
    actions={
        "view": Action("view", 0, 0.1),
        "click": Action("click", 1, 1.0),
        "open": Action("open", 2, 0.0),
        "hide": Action("hide", 3, -1.0),
    }
)


class State(dict[Key, bytes]):
    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        return [self.get(key) for key in keys]

    def put(self, key: Key, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value

    def counts(self, item_id: str) -> dict[int, int]:
        if (blob := self.get(neighbours_key(item_id))) is None:
            return {}
        keys, counts = np.frombuffer(blob, np.int64).reshape(2, -1).tolist()
        assert keys == sorted(set(keys))
        return dict(zip(keys, counts, strict=True))


def record(position: int, event: Event, ts: int | None = None, verdict: int = ACCEPTED) -> Record:
    ts = position if ts is None else ts
    return Record(position=position, ingested_at=position, ts=ts, verdict=verdict, q=0, event=event)


def clicks(visits: Sequence[tuple[str, str, int]]) -> list[Record]:
    """Records of (user, item, ts)."""
    return [
        record(at, Interaction(user_id=user, item_id=item, action="click"), ts)
        for at, (user, item, ts) in enumerate(visits, 1)
    ]


def fold(records: Sequence[Record], partners: int = 3, cuts: Sequence[int] = ()) -> State:
    state = State()
    edges = [0, *sorted(cuts), len(records)]
    for low, high in itertools.pairwise(edges):
        CovisitFold(SCHEMA, partners).apply(records[low:high], state)
    return state


def test_a_pair_counts_once_in_both_tables() -> None:
    state = fold(clicks([("u", "a", 1), ("u", "b", 2), ("v", "b", 3), ("v", "a", 4)]))
    assert state.counts("a") == {hash_id("b"): 2}
    assert state.counts("b") == {hash_id("a"): 2}


def test_only_the_newest_partners_by_time_are_paired() -> None:
    visits = [("u", "old", 1), ("u", "newest", 9), ("u", "middle", 5), ("u", "x", 2)]
    state = fold(clicks(visits), partners=2)
    assert state.counts("x") == {hash_id("newest"): 1, hash_id("middle"): 1}


def test_repeated_actions_on_an_item_are_one_visit() -> None:
    visits = [("u", "a", 1), ("u", "b", 2), ("u", "b", 3), ("u", "a", 4), ("u", "b", 5)]
    assert fold(clicks(visits)).counts("a") == {hash_id("b"): 1}


def test_what_does_not_count() -> None:
    def of(item: str, action: str, **more: int) -> Record:
        return record(2, Interaction(user_id="u", item_id=item, action=action), **more)

    first = record(1, Interaction(user_id="u", item_id="a", action="view"))
    assert fold([first, of("b", "hide")]).counts("a") == {}
    assert fold([first, of("b", "open")]).counts("a") == {}
    assert fold([first, of("b", "click", verdict=LATE)]).counts("a") == {}
    erased = [record(at, Interaction(user_id="", item_id=item, action="click")) for at, item in enumerate("ab", 1)]
    assert fold(erased) == {}


def test_an_erased_user_is_forgotten_and_the_counts_stay() -> None:
    records = [*clicks([("u", "a", 1), ("u", "b", 2)]), record(3, UserErased(user_id="u"))]
    records.append(record(4, Interaction(user_id="u", item_id="c", action="click")))
    state = fold(records)
    assert state.counts("a") == {hash_id("b"): 1}
    assert state.counts("c") == {}
    assert msgspec.msgpack.decode(state[recent_key("u")])[1] == ["c"]


def test_the_fingerprint_names_what_the_counts_depend_on() -> None:
    other = Schema(actions={"click": Action("click", 0, 1.0)})
    prints = {CovisitFold(SCHEMA, 3).fingerprint, CovisitFold(SCHEMA, 4).fingerprint, CovisitFold(other, 3).fingerprint}
    assert len(prints) == 3
    heavier = Schema(actions={**SCHEMA.actions, "view": Action("view", 0, 0.7)})
    assert CovisitFold(heavier, 3).fingerprint == CovisitFold(SCHEMA, 3).fingerprint


visits = st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("abcdefgh"), st.integers(0, 12)), max_size=40)


@settings(deadline=None)
@given(visits, st.integers(1, 4))
def test_equals_the_oracle(drawn: list[tuple[str, str, int]], partners: int) -> None:
    check(drawn, partners)


def check(drawn: Sequence[tuple[str, str, int]], partners: int) -> None:
    keys = {item: hash_id(item) for _, item, _ in drawn}
    numbered = [(user, item, ts, at) for at, (user, item, ts) in enumerate(drawn, 1)]
    counts, recent = oracle.covisit(numbered, partners, TABLE, keys)
    state = fold(clicks(drawn), partners)
    for item in keys:
        assert state.counts(item) == counts.get(item, {})
    for user, newest in recent.items():
        times, items = msgspec.msgpack.decode(state[recent_key(user)])
        rows = zip(np.frombuffer(times, np.int64).reshape(-1, 2).tolist(), items, strict=True)
        assert [(ts, position, item) for (ts, position), item in rows] == newest


def test_a_full_table_evicts_as_the_oracle_does() -> None:
    rng = np.random.default_rng(5)
    drawn = [
        (
            f"u{rng.integers(40)}",
            "hub" if rng.random() < 0.4 else f"i{int(rng.zipf(1.3)) % 700}",
            int(rng.integers(900)),
        )
        for _ in range(4_000)
    ]
    check(drawn, 8)
    assert len(fold(clicks(drawn), 8).counts("hub")) == TABLE


@settings(deadline=None)
@given(visits, st.lists(st.integers(0, 40), max_size=6), st.sets(st.integers(0, 40), max_size=2))
def test_no_cut_of_the_batches_changes_a_byte(
    drawn: list[tuple[str, str, int]], cuts: list[int], erasures: set[int]
) -> None:
    records = clicks(drawn)
    for at in erasures:
        if at < len(records):
            records[at] = record(at + 1, UserErased(user_id="u"))
    whole = fold(records)
    assert fold(records, cuts=[min(cut, len(records)) for cut in cuts]) == whole
    assert fold(records, cuts=range(len(records))) == whole


@pytest.mark.parametrize("seed", [0, 1])
def test_no_cut_changes_a_byte_when_tables_are_full(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [(f"u{rng.integers(9)}", f"i{int(rng.zipf(1.2)) % 400}", int(rng.integers(99))) for _ in range(1_500)]
    records = clicks(drawn)
    whole = fold(records, 8)
    assert fold(records, 8, cuts=sorted(rng.integers(0, 1_500, 40).tolist())) == whole
    assert max(len(blob) for key, blob in whole.items() if key.startswith(b"n")) == 16 * covisit_fold.TABLE
