"""Spark, DuckDB and the online fold give the same features, to the last bit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from cli import made
from features.world import DAY, HOUR, MINUTE, PLAN, READER, SCHEMA, TOML, _random_event, random_records
from penchant.assembly.history import LogPrefix
from penchant.assembly.parts import Definition
from penchant.assembly.spark_log import archived
from penchant.catalog.fold import CatalogFold
from penchant.cli import app
from penchant.core.clock import ManualClock
from penchant.core.events import Event, UserErased
from penchant.core.log import Record
from penchant.core.partitions import Partition
from penchant.core.state import item_key, user_key
from penchant.features.blob import concatenate, words_of
from penchant.features.fold import FeatureFold
from penchant.features.offline import OfflineFeatures, Recomputed
from penchant.features.reader import last_rows, top_pairs
from penchant.features.spark import SparkFeatures, session
from penchant.features.spec import Side
from penchant.log.archive import Archive
from penchant.log.archive_rows import row_of, row_of_record
from penchant.log.memory import MemoryLog
from penchant.settings import parse
from penchant.stores.memory import MemoryStore
from penchant.stream.extracting import visible
from penchant.stream.runner import StreamRunner
from stream.test_extracting import LAYOUT, Cluster

pytestmark = pytest.mark.spark

FIGURES = Path(__file__).resolve().parents[2] / ".figures" / "spark.json"
EVENTS = int(os.environ.get("PENCHANT_SPARK_EVENTS", "300000"))
REQUESTS = 4_200
USERS, ITEMS = 3_000, 1_500
STEP = 250
"""Events between two appends; the clock moves once an append."""
START = 1_700_000_000_000
SIDES: tuple[Side, Side] = ("user", "item")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """One session for all tests: starting one takes longer than a test."""
    running = session()
    yield running
    running.stop()


class Online(NamedTuple):
    """What the state said of one entity when it was asked."""

    integers: list[int]
    features: bytes
    keyed: dict[str, list[tuple[int, int]]]
    lists: list[list[list[int]]]
    tops: dict[str, list[tuple[int, int]]]
    lasts: dict[str, list[list[int]]]


@dataclass
class Asked:
    """Requests of one side, and what they were answered."""

    entities: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    now: list[int] = field(default_factory=list)
    online: list[Online] = field(default_factory=list)


def online(side: Side, blob: bytes | None, now: int) -> Online:
    """Everything that the plan reads from one blob."""
    reader = READER._user if side == "user" else READER._item
    evaluated = (READER.evaluate_users if side == "user" else READER.evaluate_items)([blob], now)
    words, at = concatenate([blob])
    lists, pairs = reader.lists(words_of(blob)), reader.pairs(words_of(blob), now, tops=True)
    listings = reader.side.listings
    return Online(
        integers=reader.scalars(words, at, now)[0][0].tolist(),
        features=evaluated.features[0].tobytes(),
        keyed={name: _pairs(keyed, 0) for name, keyed in evaluated.keyed.items()},
        lists=[rows.tolist() for rows in lists],
        tops={one.name: top_pairs(*pairs[one.index], one.n) for one in listings if one.agg == "top"},
        lasts={one.name: last_rows(lists[one.index], one, now).tolist() for one in listings if one.agg == "last"},
    )


def offline(recomputed: Recomputed, row: int) -> Online:
    """The same, of one request that an engine worked out."""
    return Online(
        integers=recomputed.integers[row].tolist(),
        features=recomputed.features[row].tobytes(),
        keyed={name: _pairs(keyed, row) for name, keyed in recomputed.keyed.items()},
        lists=[rows[row].tolist() for rows in recomputed.lists],
        tops={name: rows[row] for name, rows in recomputed.tops.items()},
        lasts={name: rows[row].tolist() for name, rows in recomputed.lasts.items()},
    )


def _pairs(keyed: Any, row: int) -> list[tuple[int, int]]:
    rows = slice(keyed.offsets[row], keyed.offsets[row + 1])
    return list(zip(keyed.keys[rows].tolist(), keyed.values[rows].tolist(), strict=True))


def differences(one: Online, other: Online) -> tuple[int, int]:
    """How many integers (counts, keys, list rows) and how many float32 differ."""
    integers = int(np.count_nonzero(np.array(one.integers) != np.array(other.integers)))
    for mine, theirs in zip(one[2:], other[2:], strict=True):
        integers += mine != theirs
    bits = (np.frombuffer(blob, np.uint32) for blob in (one.features, other.features))
    return integers, int(np.count_nonzero(np.not_equal(*bits)))


class Traffic:
    """A log with late, repeated and unordered events, folded behind its end, asked while that goes on."""

    def __init__(self, events: int, requests: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.clock = ManualClock(START)
        self.log = MemoryLog(schema=SCHEMA, clock=self.clock, lateness_ms=2 * DAY)
        store = MemoryStore(fingerprint="")
        prefix = LogPrefix(self.log)
        runner = StreamRunner(prefix, store, (CatalogFold(SCHEMA), FeatureFold(PLAN, SCHEMA)))
        self.asked = {side: Asked() for side in SIDES}
        self.duplicates = self.late = self.lag = self.hours = 0
        recent: list[Event] = []
        steps = -(-events // STEP)
        each = -(-requests // 2 // (steps // 12))
        for step in range(steps):
            self.clock.advance(int(rng.exponential(60 * DAY / steps)))
            batch = [self._event(rng, step * STEP + index) for index in range(STEP)]
            batch += [recent[int(i)] for i in rng.integers(0, len(recent), STEP // 80)] if recent else []
            recent = [*recent[-2_000:], *batch]
            appended = self.log.append(batch)
            self.duplicates += appended.duplicates
            self.late += appended.late
            if step % 12 == 11:
                lag = int(rng.integers(0, 2_000))
                self.lag = max(self.lag, lag)
                prefix.upto = max(prefix.upto, self.log.end() - lag)
                while runner.step():
                    pass
                self._ask(rng, store, each)
        self.records = [record for record in self.log.read(0, self.log.end()) if isinstance(record, Record)]

    def _event(self, rng: np.random.Generator, number: int) -> Event:
        event = _random_event(rng, USERS, ITEMS)
        while isinstance(event, UserErased):  # the log forgets what they did; a smaller log has them
            event = _random_event(rng, USERS, ITEMS)
        draw = rng.random()
        lag = int(rng.exponential(2 * MINUTE)) if draw < 0.95 else int(rng.exponential(8 * HOUR)) + HOUR
        self.hours += lag >= HOUR
        if draw > 0.995:
            lag = 2 * DAY + int(rng.integers(0, DAY))
        # The generator prefers few people and items; most of these get another, so that many have some.
        changes: dict[str, Any] = {"id": f"e{number}", "ts": max(0, self.clock.now() - lag)}
        if rng.random() < 0.8:
            if hasattr(event, "user_id"):
                changes["user_id"] = f"u{int(rng.integers(USERS))}"
            if hasattr(event, "item_id"):
                changes["item_id"] = f"i{int(rng.integers(ITEMS))}"
        return msgspec.structs.replace(event, **changes)

    def _ask(self, rng: np.random.Generator, store: MemoryStore, n: int) -> None:
        snapshot = store.snapshot()
        for side, count, key in (("user", USERS, user_key), ("item", ITEMS, item_key)):
            asked = self.asked["user" if side == "user" else "item"]
            now = self.clock.now() + int(rng.choice([0, 0, 0, HOUR, 20 * DAY]) * rng.random())
            entities = [f"{side[0]}{int(i)}" for i in rng.integers(0, int(count * 1.01), n)]
            for entity, blob in zip(entities, snapshot.get_many([key(entity) for entity in entities]), strict=True):
                asked.entities.append(entity)
                asked.positions.append(snapshot.position)
                asked.now.append(now)
                asked.online.append(online("user" if side == "user" else "item", blob, now))
        snapshot.close()


def test_spark_and_duckdb_recompute_what_was_served(spark: Any) -> None:
    started = time.perf_counter()
    traffic = Traffic(EVENTS, REQUESTS, seed=11)
    figures: dict[str, Any] = {
        "events": len(traffic.records),
        "an hour or more behind": traffic.hours,
        "too late to count": traffic.late,
        "duplicates": traffic.duplicates,
        "largest lag, records": traffic.lag,
        "requests": sum(len(asked.entities) for asked in traffic.asked.values()),
        "fold and answer, s": round(time.perf_counter() - started, 1),
    }
    engines: dict[str, Any] = {
        "DuckDB": lambda: OfflineFeatures(PLAN, SCHEMA, traffic.records),
        "Spark": lambda: SparkFeatures(PLAN, SCHEMA, spark, traffic.records),
    }
    integers = floats = 0
    for name, load in engines.items():
        started = time.perf_counter()
        features = load()
        for side in SIDES:
            asked = traffic.asked[side]
            recomputed = features.evaluate(side, asked.entities, asked.positions, asked.now)
            for row, served in enumerate(asked.online):
                found = differences(served, offline(recomputed, row))
                integers, floats = integers + found[0], floats + found[1]
        features.close()
        figures[f"{name}, s"] = round(time.perf_counter() - started, 1)
    answers = [one for asked in traffic.asked.values() for one in asked.online]
    figures |= {
        "integers compared": 2 * sum(_size(one) for one in answers),
        "float32 compared": 2 * sum(len(one.features) // 4 for one in answers),
        "integers that differ": integers,
        "float32 that differ": floats,
    }
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))
    assert (integers, floats) == (0, 0)
    assert figures["requests"] >= min(REQUESTS, 4_000)
    # What was compared was not empty: every aggregate kind gave something to most who had any events.
    for asked in traffic.asked.values():
        assert np.count_nonzero([sum(one.integers) > 0 for one in asked.online]) > len(asked.online) / 2
        for kind in ("keyed", "tops", "lasts"):
            for name in getattr(asked.online[0], kind):
                assert any(getattr(one, kind)[name] for one in asked.online), name


def _size(one: Online) -> int:
    pairs = sum(map(len, one.keyed.values())) + sum(map(len, one.tops.values()))
    rows = [row for rows in (*one.lists, *one.lasts.values()) for row in rows]
    return len(one.integers) + 2 * pairs + sum(map(len, rows))


def test_the_page_on_spark_is_true(spark: Any) -> None:
    assert spark
    text = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "spark.md").read_text()
    code = text.split("```py\n", 1)[1].split("```", 1)[0]
    exec(compile(code, "spark.md", "exec"), {})


def test_spark_makes_the_playlists_that_one_process_makes(spark: Any, tmp_path: Path) -> None:
    assert spark
    folder = made.folder(
        tmp_path / "lists", made.SETTINGS.replace('title = "text"', 'title = "text"\ncreator = "category"')
    )
    events = made.events(n=3_000, items=150, users=300)
    for event in events:
        if event["type"] == "item":
            event["attributes"]["creator"] = f"c{int(event['item_id'][1:]) % 40}"
    source = made.jsonl(folder / "events.jsonl", events)
    assert CliRunner().invoke(app, ["import", str(source), "--dir", str(folder)]).exit_code == 0
    for name, more in (("one", []), ("many", ["--spark", "local[2]"])):
        arguments = ["--out", str(tmp_path / f"{name}.jsonl"), "--dir", str(folder), "--surface", "home", *more]
        result = CliRunner().invoke(app, ["playlist", *arguments])
        assert result.exit_code == 0, result.output
    one, many = ((tmp_path / f"{name}.jsonl").read_bytes().splitlines() for name in ("one", "many"))
    assert len(one) == 300
    assert one == many
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", "many.jsonl", "one.jsonl"]


def test_spark_reads_the_archive_of_a_log_in_partitions(spark: Any, tmp_path: Path) -> None:
    cluster = Cluster(seed=5, events=1_200)
    archive = Archive(tmp_path / "archive")
    for partition in LAYOUT.all():
        clock, rows = 0, []
        for message in cluster.broker.read(partition, 0, 100_000):
            rows.append(row_of(message, clock, SCHEMA, 2 * DAY))
            clock = rows[-1].ingested_at
        for part in np.array_split(np.arange(len(rows)), 2):
            after = rows[part[0] - 1].message.position if part[0] else 0
            assert archive.append([rows[index] for index in part], {partition: after})
    archive.close()
    log = f'[log]\nurl = "kafka://127.0.0.1:1/t"\npartitions = {LAYOUT.users}\nitem_partitions = {LAYOUT.items}\n'
    text = TOML.replace("[sources]", "[sources]\npartners = 3")  # as the fold that made the deeds has it
    settings = parse(f'{log}[state]\nurl = "redis://127.0.0.1:1/0"\n{text}')
    assert Definition.of(settings).plan.state_fingerprint == PLAN.state_fingerprint
    features = SparkFeatures(PLAN, SCHEMA, spark, archived(spark, tmp_path, settings))
    for side in SIDES:
        entities, fences, now, blobs = (list(column) for column in zip(*cluster.asked[side], strict=True))
        recomputed = features.evaluate(side, entities, [visible(side, fence) for fence in fences], now)
        for row, blob in enumerate(blobs):
            assert differences(online(side, blob, now[row]), offline(recomputed, row)) == (0, 0)
    features.close()


def test_spark_reads_the_archive_of_a_log_in_one_file(spark: Any, tmp_path: Path) -> None:
    """With erasures, and with times before 1970, where division rounds the other way in SQL."""
    records = random_records(np.random.default_rng(7), 700, start=0, step=40 * MINUTE)
    rng, end = np.random.default_rng(8), records[-1]
    partition, archive = Partition("users", 0), Archive(tmp_path / "archive")
    assert archive.append([row_of_record(record, partition) for record in records], {partition: 0})
    archive.close()
    features = SparkFeatures(PLAN, SCHEMA, spark, archived(spark, tmp_path, parse(TOML)))
    duck = OfflineFeatures(PLAN, SCHEMA, records)
    for side in SIDES:
        entities = [f"{side[0]}{int(i)}" for i in rng.integers(0, 11, 300)]
        positions = rng.integers(0, end.position + 1, 300)
        now = rng.integers(0, end.ingested_at + DAY, 300)
        one, other = (engine.evaluate(side, entities, positions, now) for engine in (features, duck))
        assert all(differences(offline(one, row), offline(other, row)) == (0, 0) for row in range(300))
    features.close()
    duck.close()
