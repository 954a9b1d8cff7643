"""The state is a function of the log: not of batches, not of what was read, and of order only where order is meant."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.world import (
    ACTIONS,
    DAY,
    HOUR,
    PLAN,
    READER,
    SCHEMA,
    Dict,
    blobs,
    fold,
    interaction,
    random_records,
)
from penchant.core.events import Impression, Interaction, ItemUpdate, ShownItem, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.core.state import item_key, user_key
from penchant.features.blob import CLOCK_AT, Q_LIMIT, ROW, words_of
from penchant.features.builtin import HIDDEN_ITEMS, HISTORY_ROWS, SEEN_ITEMS
from penchant.features.fold import FeatureFold
from penchant.features.reader import _rows

NOW = 1_700_000_000_000


def record(
    position: int, event: object, *, ts: int = NOW, ingested: int | None = None, verdict: int = ACCEPTED
) -> Record:
    q = SCHEMA.actions[event.action].quantise(event.value) if isinstance(event, Interaction) else 0
    return Record(position, ts if ingested is None else ingested, ts, verdict, q, event)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 150), max_size=12), st.sampled_from([0, NOW]))
@settings(max_examples=40, deadline=None)
def test_cuts_change_no_byte(seed: int, cuts: list[int], start: int) -> None:
    records = random_records(np.random.default_rng(seed), 150, start=start, step=30 * 60_000)
    assert blobs(fold(records, cuts)) == blobs(fold(records))


def test_one_by_one_equals_at_once() -> None:
    records = random_records(np.random.default_rng(5), 300, start=NOW)
    assert blobs(fold(records, range(300))) == blobs(fold(records))


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_arrival_order_changes_no_feature(seed: int, shuffle: object) -> None:
    """The same interactions in another order: equal features, keyed integers and lists (no two share a time)."""
    rng = np.random.default_rng(seed)
    clock = NOW
    events = []
    for index in range(60):
        action = ACTIONS[int(rng.integers(len(ACTIONS)))]
        value = float(rng.integers(-99, 99)) / 10 if action in ("watch", "buy") else None
        events.append(
            (clock - int(rng.integers(20 * DAY)) * 100 + index, interaction(action, 1, int(rng.integers(9)), value))
        )
    one = [record(i + 1, event, ts=ts, ingested=clock) for i, (ts, event) in enumerate(events)]
    shuffle.shuffle(events)
    two = [record(i + 1, event, ts=ts, ingested=clock) for i, (ts, event) in enumerate(events)]
    states = fold(one), fold(two)
    for key in blobs(states[0]):
        side = "user" if key[:1] == b"u" else "item"
        left, right = (READER.describe(state[key], side, clock) for state in states)
        assert left == right
    users = [READER.user(1, state[user_key("u1")], None, clock) for state in states]
    assert users[0].seen.tolist() == users[1].seen.tolist()
    assert users[0].history.items.tolist() == users[1].history.items.tolist()


def test_late_refused_and_undeclared_records_do_not_count() -> None:
    state = fold([record(1, interaction("view", 1, 1), verdict=LATE)])
    assert not blobs(state)
    state = fold([msgspec.structs.replace(record(1, interaction("view", 1, 1)), event=interaction("waved", 1, 1))])
    assert not blobs(state)


def test_a_late_record_goes_to_its_old_tile() -> None:
    at = NOW // HOUR * HOUR
    records = [
        record(1, interaction("watch", 1, 1, 5.0), ts=at),
        record(2, interaction("watch", 1, 1, 7.0), ts=at - 20 * HOUR, ingested=at),
    ]
    blob = fold(records)[user_key("u1")]
    assert READER.describe(blob, "user", at)["u_watch_sum_1d"] == 12.0
    assert READER.describe(blob, "user", at + 6 * HOUR)["u_watch_sum_1d"] == 5.0


def test_a_retraction_leaves_nothing_behind() -> None:
    records = [record(1, interaction("watch", 1, 1, 5.0)), record(2, interaction("watch", 1, 1, -5.0))]
    described = READER.describe(fold(records)[user_key("u1")], "user", NOW)
    assert described["u_watch_sum_1d"] == 0.0
    assert described["u_watch_mean_7d"] == 0.0
    assert described["total_watch"] == 2.0


def test_a_retraction_in_another_tile_takes_the_key_away() -> None:
    records = [
        record(1, ItemUpdate(item_id="i1", attributes={"genres": ["g"]})),
        record(2, interaction("watch", 1, 1, 5.0), ts=NOW - DAY, ingested=NOW),
        record(3, interaction("watch", 1, 1, -5.0)),
    ]
    state = READER.user(3, fold(records)[user_key("u1")], None, NOW)
    parts = {cross.name: state.keyed[cross.part] for cross in PLAN.cross}
    assert parts["ux_genre_watch_7d"][0].tolist() == []
    assert [array.tolist() for array in parts["ux_genre_watch"]] == [[hash_id("g")], [2]]


def test_a_mean_counts_only_records_with_a_value() -> None:
    records = [record(1, interaction("watch", 1, 1, 8.0)), record(2, interaction("watch", 1, 2))]
    assert READER.describe(fold(records)[user_key("u1")], "user", NOW)["u_watch_mean_7d"] == 8.0


def test_an_impression_counts_each_item_it_shows() -> None:
    shown = Impression(user_id="u1", items=[ShownItem("a"), ShownItem("b"), ShownItem("a")])
    state = fold([record(1, shown)])
    assert READER.counters(state[user_key("u1")])["impression"] == 3
    assert READER.counters(state[item_key("a")])["impression"] == 2
    assert READER.counters(state[item_key("b")]) == {**dict.fromkeys(ACTIONS, 0), "impression": 1}
    user = READER.user(1, state[user_key("u1")], None, NOW)
    assert len(user.history) == len(user.seen) == 0


def test_erasure_drops_the_user_and_keeps_the_items() -> None:
    before = [record(1, interaction("hide", 1, 1)), record(2, interaction("click", 1, 2))]
    state = fold([*before, record(3, UserErased(user_id="u1"))])
    assert user_key("u1") not in state
    assert READER.counters(state[item_key("i2")])["click"] == 1
    state = fold([*before, record(3, UserErased(user_id="u1")), record(4, interaction("click", 1, 3))])
    assert READER.user(4, state[user_key("u1")], None, NOW).seen.tolist() == [hash_id("i3")]


def test_the_feature_fold_erases_by_itself() -> None:
    state = Dict()
    FeatureFold(PLAN, SCHEMA).apply([record(1, interaction("click", 1, 1))], state)
    FeatureFold(PLAN, SCHEMA).apply([record(2, UserErased(user_id="u1")), record(3, interaction("view", 1, 2))], state)
    assert READER.counters(state[user_key("u1")])["click"] == 0


def test_no_state_is_kept_of_someone_erased() -> None:
    state = fold([record(1, Interaction(user_id="", item_id="a", action="click"))])
    assert user_key("") not in state
    assert READER.counters(state[item_key("a")])["click"] == 1


def test_lists_are_bounded_and_distinct() -> None:
    records = [record(p, interaction("view" if p % 2 else "hide", 1, p % 2_600), ts=NOW + p) for p in range(1, 3_001)]
    user = READER.user(1, fold(records, range(0, 3_000, 500))[user_key("u1")], None, NOW + 4_000)
    newest = list(dict.fromkeys(hash_id(f"i{p % 2_600}") for p in range(3_000, 0, -1)))
    assert user.seen.tolist() == newest[:SEEN_ITEMS]
    assert user.history.items.tolist() == [hash_id(f"i{p % 2_600}") for p in range(3_000, 3_000 - HISTORY_ROWS, -1)]
    assert len(user.hidden) == HIDDEN_ITEMS
    assert user.history.actions[0] == SCHEMA.actions["hide"].code
    assert user.history.ts[0] == NOW + 3_000


def test_history_order_is_time_then_position() -> None:
    records = [
        record(1, interaction("view", 1, 1), ts=NOW),
        record(2, interaction("view", 1, 2), ts=NOW),
        record(3, interaction("view", 1, 3), ts=NOW - 5, ingested=NOW),
    ]
    history = READER.recent(fold(records)[user_key("u1")])
    assert history.items.tolist() == [hash_id("i2"), hash_id("i1"), hash_id("i3")]


def test_tiles_that_no_window_sees_are_dropped() -> None:
    records = [record(p, interaction("view", 1, 1), ts=NOW + p * DAY) for p in range(400)]
    blob = fold(records, range(0, 400, 9))[user_key("u1")]
    assert len(blob) < 40 * ROW * 8 + 120 * 8 * 8
    assert READER.counters(blob)["view"] == 400


def test_a_value_beyond_the_bound_is_cut_to_it() -> None:
    state = fold([Record(1, NOW, NOW, ACCEPTED, 10**30, interaction("watch", 1, 1, 1e29))])
    assert READER.describe(state[user_key("u1")], "user", NOW)["u_watch_sum_1d"] == np.float32(Q_LIMIT / 10)


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_rows_ascend_and_hold_no_zero_sum(seed: int) -> None:
    records = random_records(np.random.default_rng(seed), 200, start=NOW, step=HOUR)
    for key, blob in blobs(fold(records)).items():
        words = words_of(blob)
        rows = _rows(words)
        assert all(tuple(a) < tuple(b) for a, b in zip(rows[:-1, :2].tolist(), rows[1:, :2].tolist(), strict=True)), key
        assert rows[:, 2].all()
        assert words[CLOCK_AT] <= records[-1].ingested_at


def test_a_batch_larger_than_the_small_sort_is_sorted_alike() -> None:
    rng = np.random.default_rng(11)
    records = [
        record(p, interaction(ACTIONS[int(rng.integers(5))], 1, int(rng.integers(3)), 1.0), ts=NOW + p * 60_000)
        for p in range(1, 2_000)
    ]
    assert blobs(fold(records)) == blobs(fold(records, range(2_000)))
