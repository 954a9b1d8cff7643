"""Served equals recomputed: the online fold, DuckDB over the records, and the oracle agree to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from features.world import DAY, HOUR, MINUTE, PLAN, READER, SCHEMA, SETTINGS, Dict, clock_at, fold, random_records
from penchant.core.items import Keyed
from penchant.core.log import Record
from penchant.core.state import item_key, user_key
from penchant.features.blob import concatenate, words_of
from penchant.features.finalise import finish_cross
from penchant.features.offline import OfflineFeatures, Recomputed
from penchant.features.plan import Cross
from penchant.features.reader import last_rows, top_pairs
from penchant.features.spec import Side
from penchant.testing.oracles.features import Answer, FeatureOracle

REQUESTS = 2_400
STARTS = {"now": 1_700_000_000_000, "epoch": 0}
"""The second has records before 1970, where division rounds the other way in SQL."""


class Asked(NamedTuple):
    entities: list[str]
    positions: list[int]
    now: list[int]


class World:
    """One log, and the state as it was at each position asked for."""

    def __init__(self, start: int, step: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.records = random_records(rng, 700, start=start, step=step)
        self.oracle = FeatureOracle(SETTINGS, SCHEMA, self.records)
        self.offline = OfflineFeatures(PLAN, SCHEMA, self.records)
        indexes = sorted(int(i) for i in rng.choice(len(self.records), 40, replace=False))
        self.states: dict[int, dict[bytes, bytes]] = {0: {}}
        state, done = Dict(), 0
        for index in indexes:
            fold(self.records[done : index + 1], state=state)
            done = index + 1
            self.states[self.records[index].position] = dict(state)
        self.asked = {side: self._ask(rng, side) for side in ("user", "item")}

    def _ask(self, rng: np.random.Generator, side: str) -> Asked:
        asked = Asked([], [], [])
        positions = list(self.states)
        for _ in range(REQUESTS // 4):
            position = positions[int(rng.integers(len(positions)))]
            now = clock_at(self.records, position) + int(rng.choice([0, 1, HOUR, DAY]) * rng.random())
            kind = rng.random()
            if kind < 0.2:
                now += int(rng.integers(40 * DAY))
            elif kind < 0.4:
                edge = int(rng.choice([MINUTE, 5 * MINUTE, HOUR, 6 * HOUR, DAY]))
                now = -(-now // edge) * edge + int(rng.integers(0, 2))
            asked.entities.append(f"{side[0]}{int(rng.integers(11))}")
            asked.positions.append(position)
            asked.now.append(now)
        return asked

    def blobs(self, side: str) -> list[bytes | None]:
        key = user_key if side == "user" else item_key
        asked = self.asked[side]
        return [self.states[p].get(key(e)) for e, p in zip(asked.entities, asked.positions, strict=True)]


@pytest.fixture(scope="module", params=[("now", 5 * MINUTE), ("epoch", 40 * MINUTE)], ids=lambda p: p[0])
def world(request: pytest.FixtureRequest) -> World:
    start, step = request.param
    return World(STARTS[start], step, seed=7)


@pytest.fixture(params=["user", "item"])
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


def test_online_integers_equal_offline(world: World, side: Side) -> None:
    asked = world.asked[side]
    recomputed = world.offline.evaluate(side, *asked)
    reader = READER._user if side == "user" else READER._item
    for row, (blob, now) in enumerate(zip(world.blobs(side), asked.now, strict=True)):
        words, at = concatenate([blob])
        online, _ = reader.scalars(words, at, now)
        assert online[0].tolist() == recomputed.integers[row].tolist(), (asked.entities[row], asked.positions[row], now)


def test_online_equals_offline(world: World, side: Side) -> None:
    asked = world.asked[side]
    recomputed = world.offline.evaluate(side, *asked)
    evaluate = READER.evaluate_users if side == "user" else READER.evaluate_items
    for row, (blob, now) in enumerate(zip(world.blobs(side), asked.now, strict=True)):
        online = evaluate([blob], now)
        assert _bits(online.features[0]) == _bits(recomputed.features[row])
        assert online.keyed.keys() == recomputed.keyed.keys()
        for name, keyed in online.keyed.items():
            assert _pairs(keyed, 0) == _pairs(recomputed.keyed[name], row), name
        _check_lists(side, blob, now, recomputed, row)


def _check_lists(side: Side, blob: bytes | None, now: int, recomputed: Recomputed, row: int) -> None:
    words = words_of(blob)
    reader = READER._user if side == "user" else READER._item
    lists = reader.lists(words)
    for mine, theirs in zip(lists, recomputed.lists, strict=True):
        assert mine.tolist() == theirs[row].tolist()
    pairs = reader.pairs(words, now, tops=True)
    for listing in reader.side.listings:
        if listing.agg == "top":
            mine = top_pairs(*pairs[listing.index], listing.n)
            assert mine == recomputed.tops[listing.name][row]
        else:
            assert (
                last_rows(lists[listing.index], listing, now).tolist() == recomputed.lasts[listing.name][row].tolist()
            )


def test_online_equals_the_oracle(world: World, side: Side) -> None:
    asked = world.asked[side]
    evaluate = READER.evaluate_users if side == "user" else READER.evaluate_items
    names = PLAN.user_names if side == "user" else PLAN.item_names
    crosses = PLAN.cross if side == "user" else PLAN.keyed
    ask = world.oracle.user if side == "user" else world.oracle.item
    for entity, position, now, blob in zip(*asked, world.blobs(side), strict=True):
        expected: Answer = ask(entity, position, now)
        online = evaluate([blob], now)
        assert _bits(online.features[0]) == _bits([expected.scalars[name] for name in names])
        for cross in crosses:
            finished = _finished(cross, online.keyed)
            assert {key: _bits(value) for key, value in finished.items()} == {
                key: _bits(value) for key, value in expected.crosses[cross.name].items()
            }, cross.name
        if side == "user":
            state = READER.user(position, blob, None, now)
            assert _bits(state.features) == _bits(online.features[0])
            assert list(zip(state.history.ts, state.history.items, strict=True)) == [
                (ts, item) for ts, _, item in expected.history
            ]
            assert state.seen.tolist() == expected.seen
            assert state.hidden.tolist() == expected.hidden


def test_offline_lists_equal_the_oracle(world: World, side: Side) -> None:
    asked = world.asked[side]
    recomputed = world.offline.evaluate(side, *asked)
    ask = world.oracle.user if side == "user" else world.oracle.item
    for row in range(0, len(asked.now), 3):
        expected = ask(asked.entities[row], asked.positions[row], asked.now[row])
        assert {name: tops[row] for name, tops in recomputed.tops.items()} == expected.tops
        assert {
            name: [tuple(line[:3]) for line in rows[row].tolist()] for name, rows in recomputed.lasts.items()
        } == expected.lasts


def test_batching_items_changes_no_bit(world: World) -> None:
    blobs, now = world.blobs("item"), max(world.asked["item"].now)
    together = READER.evaluate_items(blobs, now)
    for start in range(0, len(blobs), 7):
        some = READER.evaluate_items(blobs[start : start + 7], now)
        assert _bits(some.features) == _bits(together.features[start : start + 7])
        assert some.next_change.tolist() == together.next_change[start : start + 7].tolist()
        for name, keyed in some.keyed.items():
            for row in range(len(blobs[start : start + 7])):
                assert _pairs(keyed, row) == _pairs(together.keyed[name], start + row)


def test_nothing_changes_before_next_change(world: World) -> None:
    blobs = list(world.states[max(world.states)].values())
    items = [blob for key, blob in world.states[max(world.states)].items() if key[:1] == b"i"]
    assert len(items) < len(blobs)
    now = clock_at(world.records, max(world.states))
    moved = 0
    for blob in items:
        before = READER.evaluate_items([blob], now)
        due = int(before.next_change[0])
        just_before = READER.evaluate_items([blob], due - 1)
        assert _bits(just_before.features) == _bits(before.features)
        assert int(just_before.next_change[0]) == due
        assert all(_pairs(just_before.keyed[name], 0) == _pairs(keyed, 0) for name, keyed in before.keyed.items())
        moved += _bits(READER.evaluate_items([blob], due).features) != _bits(before.features)
    assert moved > 0


def _bits(values: object) -> list[int]:
    return np.atleast_1d(np.asarray(values, np.float32)).ravel().view(np.uint32).tolist()


def _pairs(keyed: Keyed, row: int) -> list[tuple[int, int]]:
    rows = slice(keyed.offsets[row], keyed.offsets[row + 1])
    return list(zip(keyed.keys[rows].tolist(), keyed.values[rows].tolist(), strict=True))


def _finished(cross: Cross, keyed: dict[str, Keyed]) -> dict[int, np.float32]:
    above = dict(_pairs(keyed[cross.name], 0))
    below = dict(_pairs(keyed[cross.per_name], 0)) if cross.per >= 0 else {}
    keys = sorted({*above, *below})
    values = finish_cross(
        cross,
        np.array([above.get(key, 0) for key in keys], np.int64),
        np.array([below.get(key, 0) for key in keys], np.int64),
    )
    return dict(zip(keys, values, strict=True))


def _records_are_varied(records: Sequence[Record]) -> bool:
    return len({type(record.event) for record in records}) == 6


def test_the_world_has_everything(world: World) -> None:
    assert _records_are_varied(world.records)
