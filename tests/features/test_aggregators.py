"""Every aggregate is a commutative monoid, and the kernels compute the same."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from features.world import ACTIONS, HOUR, PLAN, READER, SCHEMA, fold, interaction
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, Record
from penchant.core.state import item_key, user_key
from penchant.features import tiles
from penchant.features.aggregators import Aggregator, Count, Decayed, Distinct, Last, Ratio, Sum, Tiled, TopKeys
from penchant.testing.contracts.aggregator import AggregatorContract


class TestCount(AggregatorContract):
    def make(self) -> Aggregator:
        return Count()


class TestSum(AggregatorContract):
    def make(self) -> Aggregator:
        return Sum()


class TestRatio(AggregatorContract):
    def make(self) -> Aggregator:
        return Ratio((1.0, 2.0))

    def value(self, rng: np.random.Generator) -> tuple[int, int]:
        return int(rng.integers(-9, 10)), int(rng.integers(0, 2))


class TestTiled(AggregatorContract):
    def make(self) -> Aggregator:
        return Tiled(60_000, tail=-2)


class TestDecayed(AggregatorContract):
    def make(self) -> Aggregator:
        return Decayed(60_000, tiles.decay_weights(24 * 60_000, 60_000), now=300_000)


class TestLast(AggregatorContract):
    def make(self) -> Aggregator:
        return Last(3)

    def value(self, rng: np.random.Generator) -> tuple[int, int]:
        return int(rng.integers(0, 10**9)), int(rng.integers(0, 4))


class TestLastDistinct(TestLast):
    def make(self) -> Aggregator:
        return Last(3, distinct=True)


class TestDistinct(AggregatorContract):
    def make(self) -> Aggregator:
        return Distinct(4)

    def value(self, rng: np.random.Generator) -> int:
        return int(rng.integers(0, 12))


class TestTopKeys(AggregatorContract):
    def make(self) -> Aggregator:
        return TopKeys(2)


def test_the_fold_computes_the_same_monoids() -> None:
    rng = np.random.default_rng(3)
    now = 1_700_000_000_000
    records = [
        Record(
            position,
            now,
            now - int(rng.integers(0, 40 * HOUR)),
            ACCEPTED,
            q := int(rng.integers(-300, 300)),
            interaction(ACTIONS[int(rng.integers(len(ACTIONS)))], 1, int(rng.integers(0, 30)), q / 10),
        )
        for position in range(1, 400)
    ]
    state = fold(records, cuts=range(0, 400, 17))
    user = READER.describe(state[user_key("u1")], "user", now)

    def total(aggregator: Aggregator, names: list[str], value: object) -> object:
        lifted = [aggregator.lift(value(r), r.ts) for r in records if r.event.action in names]
        return aggregator.finish(reduce(aggregator.merge, lifted, aggregator.zero()))

    assert user["total_view"] == total(Count(), ["view"], lambda _: None)
    window = Tiled(HOUR, tail=tiles.tail_tile(now, 24 * HOUR, HOUR))
    assert user["u_watch_sum_1d"] == np.float32(total(window, ["watch"], lambda r: r.q) / 10)
    mean = total(Ratio((150.0, 2.0)), ["buy"], lambda r: (r.q, 1))
    assert user["u_buy_mean"] == pytest.approx(mean / 100)
    decayed = Decayed(60_000, PLAN.user.weights[30 * 60_000, 60_000], now)
    assert user["u_watch_decayed"] == np.float32(total(decayed, ["watch"], lambda r: r.q) / (10 * tiles.ONE))
    last = total(Last(5), ACTIONS, lambda r: (r.position, hash_id(r.event.item_id)))
    assert [row["id"] for row in user["u_last_any"]] == [str(item) for item in last]
    seen = total(Last(2_000, distinct=True), ACTIONS, lambda r: (r.position, hash_id(r.event.item_id)))
    assert READER.user(0, state[user_key("u1")], None, now).seen.tolist() == list(seen)
    item = READER.describe(state[item_key("i3")], "item", now)
    users = {hash_id(r.event.user_id) for r in records if r.event.item_id == "i3"}
    assert item["i_users"] == len(users) == 1
    assert SCHEMA.actions["watch"].scale == 1
