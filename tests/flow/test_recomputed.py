"""Served equals recomputed: features as served against the definition over the raw log, slates against the past."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

import penchant as pc
from flow.world import DAY, HOUR, MINUTE, NOW, bits, film, films, made_up, opened, records_of, viewer
from penchant.assembly import Embedded
from penchant.assembly.history import derive
from penchant.assembly.training import Trainer
from penchant.core.clock import ManualClock
from penchant.core.events import Event, Impression, ItemRemoved, ItemUpdate, Served
from penchant.core.hashing import hash_id
from penchant.core.log import LATE, Record
from penchant.features.finalise import finish_cross
from penchant.features.offline import OfflineFeatures
from penchant.stream.runner import StreamRunner
from penchant.testing.oracles.features import FeatureOracle

REQUESTS = 2_100
DERIVED = 260
USERS, ITEMS = 60, 150
SEED = 20_261_121
EXTRA = """
[training]
trees = 12
leaves = 7
"""


@dataclass
class Traffic:
    """What was asked and sent, and the engine that answered."""

    engine: Embedded
    duplicates: int
    late: int
    lag: list[int]
    ages: list[int]
    artifacts: list[str]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Thousands of requests while the fold lags and the pictures of the items are older still."""
    rng = np.random.default_rng(SEED)
    clock = ManualClock(NOW)
    engine = opened(tmp_path_factory.mktemp("recomputed") / "films", films(EXTRA), clock=clock)
    parts = engine.parts
    engine.runner = StreamRunner(parts.log, parts.store, parts.definition.folds(), batch=9)
    parts.log._writer.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]  # not what is tested here
    engine.send([film(number, rng) for number in range(ITEMS)])
    engine.send([viewer(number) for number in range(USERS)])
    engine.settle()
    told = Traffic(engine, 0, 0, [], [], [""])
    sent: list[Event] = []
    for number in range(REQUESTS):
        clock.advance(int(rng.choice([0, 1, 40, 20_000, 11 * MINUTE, 3 * HOUR], p=[0.15, 0.2, 0.3, 0.2, 0.12, 0.03])))
        if number % 97 == 0:
            hop = int(rng.choice([MINUTE, 5 * MINUTE, HOUR, DAY]))
            clock.set(-(-clock.now() // hop) * hop - int(rng.integers(0, 2)))
        now = clock.now()
        fresh = made_up(rng, now, users=USERS, items=ITEMS, prefix=f"r{number}:", erase=False)
        batch = list(itertools.islice(fresh, int(rng.integers(0, 6))))
        if sent and rng.random() < 0.2:
            batch += [sent[int(at)] for at in rng.integers(0, len(sent), 3)]
        if batch:
            appended = parts.log.append(batch)
            told.duplicates += appended.duplicates
            told.late += appended.late
            sent += batch
        for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))):
            engine.runner.step()
        if rng.random() < 0.15:
            engine.live.refresh()
        if number in (REQUESTS // 3, 2 * REQUESTS // 3):
            told.artifacts.append(_publish(engine))
        request = _request(rng, number)
        engine.recommend(request, f"request {number}")
        told.lag.append(parts.log.end() - parts.store.position())
        told.ages.append(parts.store.position() - engine.live.current.items.position)
        if number % 50 == 0:
            engine.engine.impressions.flush()
    engine.engine.impressions.flush()
    yield told
    engine.close()


def _publish(engine: Embedded) -> str:
    engine.engine.impressions.flush()
    trainer = Trainer(engine.parts)
    trained = trainer.train(simulate=0, force=True)
    assert trained.ranker is not None
    assert trainer.publish(trained)
    assert engine.renew_artifact()
    return trained.artifact


def _request(rng: np.random.Generator, number: int) -> pc.Request:
    user = f"u{int(rng.integers(USERS + 5))}"
    what = rng.random()
    n = int(rng.integers(1, 9))
    if what < 0.12:
        return pc.Request(user_id=user, items=[f"f{int(i)}" for i in rng.integers(0, ITEMS, n)])
    if what < 0.2:
        return pc.Request(user_id=user, n=n, where={"genres": ["crime", "war"], "year": {"gte": 1980}})
    if what < 0.25:
        return pc.Request(session_id=f"session {number}", n=n, context={"device": "tv"})
    if what < 0.32:
        return pc.Request(user_id=user, surface="because", n=n, exclude=["f1", "f2"])
    return pc.Request(user_id=user, n=n)


def test_features_as_served_are_recomputed_to_the_bit(traffic: Traffic, figures: Callable[[str], None]) -> None:
    engine = traffic.engine
    definition = engine.parts.definition
    plan, schema = definition.plan, definition.schema
    records = records_of(engine.parts.log)
    served = _served(records)
    assert len(served) >= 2_000
    names = engine.live.current.compiled.column_names
    at = {name: index for index, name in enumerate(names)}
    items_at = [at[f"item.{name}"] for name in plan.item_names]
    users_at = [at[f"user.{name}"] for name in plan.user_names]

    asked = [(shown.item_id, one.items_position, one.items_time) for _, event, one in served for shown in event.items]
    points = list(dict.fromkeys(asked))
    people = [(event.user_id, one.position, one.now) for _, event, one in served]
    offline = OfflineFeatures(plan, schema, records)
    of_items = offline.evaluate("item", *map(list, zip(*points, strict=True)))
    of_users = offline.evaluate("user", *map(list, zip(*people, strict=True)))
    offline.close()
    row_of = {point: row for row, point in enumerate(points)}
    attributes = Attributes(records)

    compared = wrong = rows = 0
    for number, (_, event, one) in enumerate(served):
        matrix = np.frombuffer(one.features, np.float32).reshape(len(event.items), len(names))
        for shown, row in zip(event.items, matrix, strict=True):
            rows += 1
            item = of_items.features[row_of[shown.item_id, one.items_position, one.items_time]]
            pairs = [(row[items_at], item), (row[users_at], of_users.features[number])]
            for cross in plan.cross:
                keys = attributes.keys(shown.item_id, cross.attribute, one.items_position)
                above = _sum(of_users.keyed[cross.name], number, keys)
                below = _sum(of_users.keyed[cross.per_name], number, keys) if cross.per >= 0 else 0
                pairs.append((row[at[f"cross.{cross.name}"]], finish_cross(cross, np.array([above], np.int64), below)))
            for mine, theirs in pairs:
                a, b = bits(mine), bits(theirs)
                compared += len(a)
                wrong += sum(x != y for x, y in zip(a, b, strict=True))
    lag = np.array(traffic.lag)
    figures(
        f"seed {SEED}: {len(served)} requests, {traffic.late} late and {traffic.duplicates} duplicate events,"
        f" fold behind by up to {lag.max()} records (in {np.mean(lag > 0):.0%} of requests), {rows} shown rows,"
        f" {compared} float32 compared, {wrong} differ"
    )
    assert wrong == 0
    assert min(traffic.late, traffic.duplicates) > 50
    assert np.mean(lag > 0) > 0.5
    assert np.mean(np.array(traffic.ages) > 0) > 0.2


def test_a_sample_is_what_the_definitions_say(traffic: Traffic, figures: Callable[[str], None]) -> None:
    """The same with the slow oracle, which shares nothing with the plan."""
    engine = traffic.engine
    definition = engine.parts.definition
    records = records_of(engine.parts.log)
    oracle = FeatureOracle(definition.settings, definition.schema, records)
    names = engine.live.current.compiled.column_names
    compared = wrong = 0
    for _, event, one in _served(records)[::15]:
        matrix = np.frombuffer(one.features, np.float32).reshape(len(event.items), len(names))
        user = oracle.user(event.user_id, one.position, one.now).scalars
        for shown, row in list(zip(event.items, matrix, strict=True))[:2]:
            item = oracle.item(shown.item_id, one.items_position, one.items_time).scalars
            for column, name in enumerate(names):
                side, _, feature = name.partition(".")
                known = {"item": item, "user": user}.get(side, {})
                if feature in known:
                    compared += 1
                    wrong += bits(row[column]) != bits(known[feature])
    figures(f"{compared} float32 compared with the oracle, {wrong} differ")
    assert wrong == 0
    assert compared > 5_000


def test_past_slates_are_derived_again(traffic: Traffic, figures: Callable[[str], None]) -> None:
    parts = traffic.engine.parts
    served = [record for record, _, one in _served(records_of(parts.log))]
    chosen = [served[int(at)] for at in np.linspace(0, len(served) - 1, DERIVED)]
    derived = list(derive(parts, chosen))
    differing = [(one.request_id, list(one.differences)) for one in derived if not one.equal]
    by_artifact: dict[str, int] = defaultdict(int)
    for one in derived:
        by_artifact[one.compiled.artifact[:8] or "none"] += 1
    told = ", ".join(f"{count} with artifact {name}" for name, count in by_artifact.items())
    figures(f"{len(derived)} past slates derived again ({told}), {len(differing)} differ")
    assert differing == []
    assert len(derived) >= 200
    assert len(by_artifact) == 3


def _served(records: Sequence[Record]) -> list[tuple[Record, Impression, Served]]:
    return [
        (record, record.event, record.event.served)
        for record in records
        if isinstance(record.event, Impression)
        and record.event.served is not None
        and record.event.items
        and record.event.served.features
    ]


class Attributes:
    """The items' attributes as of any position, from their events alone."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._versions: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for record in records:
            event = record.event
            if isinstance(event, ItemUpdate | ItemRemoved):
                versions = self._versions[event.item_id]
                if versions and versions[-1][1].get("removed"):
                    continue
                known = versions[-1][1] if versions and isinstance(event, ItemUpdate) and event.merge else {}
                new = {"removed": True} if isinstance(event, ItemRemoved) else {**known, **event.attributes}
                versions.append((record.position, new))

    def keys(self, item_id: str, attribute: str, position: int) -> set[int]:
        known = [attributes for at, attributes in self._versions[item_id] if at <= position]
        value = known[-1].get(attribute) if known else None
        return {hash_id(word) for word in ([value] if isinstance(value, str) else value or [])}


def _sum(keyed: Any, row: int, keys: set[int]) -> int:
    where = slice(keyed.offsets[row], keyed.offsets[row + 1])
    return sum(
        value
        for key, value in zip(keyed.keys[where].tolist(), keyed.values[where].tolist(), strict=True)
        if key in keys
    )


def test_late_records_are_there(traffic: Traffic) -> None:
    records = records_of(traffic.engine.parts.log)
    assert sum(record.verdict == LATE for record in records) == traffic.late
    out_of_order = sum(b.ts < a.ts for a, b in itertools.pairwise(records))
    assert out_of_order > 500
    assert msgspec.msgpack.encode([len(records)])
