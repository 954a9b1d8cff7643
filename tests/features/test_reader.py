"""Reading creates nothing, defaults are said once, and what people see is what models see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.world import ACTIONS, DAY, HOUR, PLAN, READER, clock_at, fold, interaction, random_records
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, Record
from penchant.core.state import item_key, profile_key, user_key
from penchant.features.finalise import Finaliser, estimate_distinct, finish_cross
from penchant.features.plan import Column, Cross
from penchant.features.reading import NEVER

NOW = 1_700_000_000_000


def test_a_new_user_has_defaults() -> None:
    user = READER.user(7, None, None, NOW)
    assert user.position == 7
    assert not user.attributes
    assert len(user.history) == len(user.seen) == len(user.hidden) == 0
    values = dict(zip(PLAN.user_names, user.features.tolist(), strict=True))
    assert values["total_view"] == values["u_items_7d"] == values["u_watch_decayed"] == 0.0
    assert math.isnan(values["u_watch_mean_7d"])
    assert values["u_buy_mean"] == 0.75
    assert [len(keys) for keys, _ in user.keyed] == [0] * PLAN.user.crossed


def test_an_item_without_state_has_the_same_defaults_alone_and_among_others() -> None:
    state = fold([Record(1, NOW, NOW, ACCEPTED, 0, interaction("view", 1, 1))])
    blob = state[item_key("i1")]
    alone, among = READER.evaluate_items([None], NOW), READER.evaluate_items([blob, None, blob], NOW)
    assert alone.features.tobytes() == among.features[1].tobytes()
    assert among.features[0].tobytes() == among.features[2].tobytes()
    assert alone.next_change.tolist() == [NEVER]
    assert READER.evaluate_items([], NOW).features.shape == (0, len(PLAN.item_names))
    assert among.features.dtype == np.float32
    assert set(among.keyed) >= {cross.name for cross in PLAN.keyed}


def test_a_user_after_an_expired_window_has_the_defaults_of_a_new_one() -> None:
    state = fold([Record(1, NOW, NOW, ACCEPTED, 0, interaction("view", 1, 1))])
    later = READER.user(1, state[user_key("u1")], None, NOW + 4_000 * DAY)
    fresh = READER.user(1, None, None, NOW)
    kept = {"total_view"}
    for name, mine, new in zip(PLAN.user_names, later.features, fresh.features, strict=True):
        assert name in kept or np.array_equal(mine, new, equal_nan=True), name


def test_the_profile_gives_the_attributes() -> None:
    records = random_records(np.random.default_rng(1), 300, start=NOW)
    state = fold(records)
    known = [key[1:].decode() for key in state if key[:1] == b"p"]
    for user_id in known:
        user = READER.user(1, state.get(user_key(user_id)), state[profile_key(user_id)], NOW)
        assert set(user.attributes) <= {"country", "interests"}


def test_counters_of_both_sides_are_exact() -> None:
    records = random_records(np.random.default_rng(2), 400, start=NOW)
    state = fold(records)
    for number in range(9):
        mine = [
            r.event.action
            for r in records
            if r.verdict == ACCEPTED and getattr(r.event, "action", None) and r.event.item_id == f"i{number}"
        ]
        counted = READER.counters(state.get(item_key(f"i{number}")))
        assert [counted[action] for action in ACTIONS] == [mine.count(action) for action in ACTIONS]
    assert READER.counters(None) == dict.fromkeys([*ACTIONS, "impression"], 0)


def test_describe_names_everything_and_reads_nothing_as_none() -> None:
    records = random_records(np.random.default_rng(3), 400, start=NOW)
    state, now = fold(records), clock_at(records, records[-1].position)
    names = {hash_id(f"g{i}"): f"g{i}" for i in range(4)}
    for side, key in (("user", user_key("u0")), ("item", item_key("i0"))):
        plan = PLAN.user if side == "user" else PLAN.item
        wanted = {spec.name for spec in plan.specs}
        described = READER.describe(state[key], side, now, names.get)
        assert described.keys() == wanted == READER.describe(None, side, now).keys()
        for value in described.values():
            assert value is None or isinstance(value, float | list)
    top = READER.describe(state[user_key("u0")], "user", now, names.get)["u_top_genres"]
    assert len(top) == 2
    assert all(row["key"] in names.values() for row in top)
    assert READER.describe(None, "user", NOW)["u_watch_mean_7d"] is None


def test_what_describe_says_is_what_user_says() -> None:
    records = random_records(np.random.default_rng(4), 300, start=NOW, step=HOUR)
    state, now = fold(records), clock_at(records, records[-1].position)
    blob = state[user_key("u0")]
    described = READER.describe(blob, "user", now)
    features = READER.user(1, blob, None, now).features
    for name, value in zip(PLAN.user_names, features.tolist(), strict=True):
        assert described[name] == (None if math.isnan(value) else value)
    assert READER.recent(blob).items.tolist() == READER.user(1, blob, None, now).history.items.tolist()
    assert len(READER.recent(None)) == 0


def test_the_finaliser_divides_once_and_never_by_zero() -> None:
    columns = (
        Column("count", 0, -1),
        Column("mean", 0, 1, divisor=10.0, prior=0.0, below=0.0),
        Column("smoothed", 0, 1, divisor=1.0, prior=1.0, below=2.0),
    )
    ints = np.array([[0, 0], [7, 0], [7, 2], [2**53 + 1, 3]], np.int64)
    finished = Finaliser(columns).finish(ints)
    assert finished.dtype == np.float32
    assert finished[:, 0].tolist() == [0.0, 7.0, 7.0, float(np.float32(2.0**53))]
    assert np.isnan(finished[:2, 1]).all()
    assert finished[2, 1] == np.float32(0.35)
    assert finished[:, 2].tolist()[:3] == [0.5, 4.0, 2.0]


def test_a_cross_is_finished_like_a_column() -> None:
    cross = Cross("x", "genres", 0, 1, divisor=10.0, prior=1.0, below=2.0)
    above, below = np.array([30, 0], np.int64), np.array([2, 0], np.int64)
    assert finish_cross(cross, above, below).tolist() == [1.0, 0.5]
    assert finish_cross(Cross("y", "genres", 0, divisor=10.0), above).tolist() == [3.0, 0.0]
    nothing = finish_cross(Cross("z", "genres", 0, 1, below=0.0), np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("k", [64, 1_024])
def test_distinct_estimates_are_as_close_as_promised(k: int) -> None:
    rng = np.random.default_rng(k)
    n, errors = 5_000, []
    for _ in range(60):
        hashes = np.sort(rng.integers(0, 2**63, n))
        errors.append(float(estimate_distinct(np.array([k]), hashes[k - 1 : k], k)[0]) / n - 1)
    assert abs(np.std(errors)) < 1.3 / math.sqrt(k - 2)
    assert abs(np.mean(errors)) < 0.5 / math.sqrt(k - 2)
