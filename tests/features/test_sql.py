"""The statements of a plan: text that DuckDB and Spark both run."""

from __future__ import annotations

import re

import duckdb
import numpy as np
import pytest

from features.world import PLAN, SCHEMA, SETTINGS, interaction
from penchant.core.events import ItemRemoved, ItemUpdate, UserErased, UserUpdate
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.features.history import extract
from penchant.features.offline import OfflineFeatures
from penchant.features.plan import Part, SidePlan, compile_plan
from penchant.features.sql import Statements
from penchant.settings import parse


def _texts(side: SidePlan) -> list[str]:
    statements = Statements(side, lambda left, right: f"({left} DIVIDED {right})")
    texts = [statements.seen(), statements.sums([part for part in side.parts if not part.k and not part.half_life])]
    texts += [statements.decayed(part) for part in side.parts if part.half_life]
    texts += [statements.distinct(part) for part in side.parts if part.k]
    texts += [statements.keyed(part) for part in side.keyed]
    return texts + [statements.newest(kept) for kept in side.lists]


@pytest.mark.parametrize("side", [PLAN.user, PLAN.item], ids=["user", "item"])
def test_statements_use_only_what_both_engines_mean_alike(side: SidePlan) -> None:
    for text in _texts(side):
        assert not re.search(r"QUALIFY|ASOF|MACRO|::|//|\bdiv\b|%", text), text
        assert not re.search(r"\d\.\d|DOUBLE|FLOAT|TIMESTAMP|/ ", text), text


@pytest.mark.parametrize("hop", [60_000, 3_600_000, 86_400_000])
def test_a_tile_is_the_floor_on_both_sides_of_1970(hop: int) -> None:
    statements = Statements(PLAN.user, lambda left, right: f"({left} // {right})")
    times = np.array([t + d for t in (-3 * hop, -hop, 0, hop, 5 * hop) for d in (-1, 0, 1)], np.int64)
    with duckdb.connect() as db:
        db.register("times", {"t": times})
        found = db.execute(f"SELECT {statements._tile('t', hop)} AS tile FROM times").fetchnumpy()["tile"]
    assert found.tolist() == [int(t) // hop for t in times.tolist()]


def _records() -> list[Record]:
    events = [
        ItemUpdate(item_id="i1", attributes={"genres": ["a", "b"]}),
        interaction("click", 1, 1),
        ItemUpdate(item_id="i1", attributes={"creator": "c"}, merge=True),
        interaction("click", 1, 1),
        ItemRemoved(item_id="i1"),
        ItemUpdate(item_id="i1", attributes={"genres": ["a"]}),
        interaction("click", 1, 1),
        UserUpdate(user_id="u1", attributes={"country": "k"}),
        interaction("click", 1, 2),
        UserErased(user_id="u1"),
        interaction("click", 1, 2),
    ]
    records = [Record(at, 1_000 + at, 1_000 + at, ACCEPTED, 0, event) for at, event in enumerate(events, start=1)]
    return [*records, Record(99, 2_000, 2_000, LATE, 0, interaction("click", 1, 2))]


def test_touches_have_the_attributes_of_their_position() -> None:
    data = extract(_records(), SCHEMA, PLAN)
    members: dict[int, set[int]] = {}
    for number, key in zip(data.item_keys["keys"].tolist(), data.item_keys["key"].tolist(), strict=True):
        members.setdefault(number, set()).add(key)
    found = [members.get(number, set()) for number in data.touches["item_keys"].tolist()]
    a, b, c = hash_id("a"), hash_id("b"), hash_id("c")
    assert found == [{a, b}, {a, b, c}, set(), set(), set()]
    users = {
        number: key for number, key in zip(data.user_keys["keys"].tolist(), data.user_keys["key"].tolist(), strict=True)
    }
    assert [users.get(number) for number in data.touches["user_keys"].tolist()] == [
        None,
        None,
        None,
        hash_id("k"),
        None,
    ]
    assert data.erased["position"].tolist() == [10]


def test_equal_attributes_are_one_set() -> None:
    records = [
        Record(at, at, at, ACCEPTED, 0, ItemUpdate(item_id=f"i{at}", attributes={"creator": f"c{at % 2}"}))
        for at in range(1, 100)
    ]
    assert sorted(extract(records, SCHEMA, PLAN).item_keys["keys"].tolist()) == [1, 2]


def test_nothing_asked_and_nothing_logged_answer_nothing() -> None:
    for records in ([], _records()):
        features = OfflineFeatures(PLAN, SCHEMA, records)
        assert features.evaluate("user", [], [], []).features.shape == (0, len(PLAN.user_names))
        one = features.evaluate("item", ["i1"], [0], [5_000])
        assert one.integers.sum() == 0
        features.close()


def test_a_plan_without_declared_features_is_recomputed() -> None:
    settings = parse("[actions]\nclick = { weight = 1.0 }")
    features = OfflineFeatures(compile_plan(settings, SCHEMA), SCHEMA, _records())
    assert features.evaluate("item", ["i2"], [9], [5_000]).integers.sum() > 0
    features.close()


def test_parts_of_no_action_count_nothing() -> None:
    assert SETTINGS.actions
    text = Statements(PLAN.user, lambda left, right: f"{left}{right}")
    assert "action IN (" in text._where(Part(cell=0))
