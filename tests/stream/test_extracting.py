"""What a log in partitions says again by SQL is what its folds kept, to the last bit, at any fence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from features.world import DAY, HOUR, MINUTE, PLAN, READER, SCHEMA, random_records
from penchant.core.clock import ManualClock
from penchant.core.events import Impression, Interaction, ItemRemoved, ItemUpdate
from penchant.core.partitions import META_KEY, Layout, Message, Meta, Outgoing, Partition, Sent, decode_meta
from penchant.core.state import item_key, user_key
from penchant.features.blob import concatenate
from penchant.features.offline import OfflineFeatures
from penchant.features.spec import Side
from penchant.log.memory_partitions import Faults, MemoryBroker
from penchant.stream.extracting import PartitionExtract, extract_partitions, visible
from penchant.stream.sides import Sides

START = 1_700_000_000_000
LAYOUT = Layout(users=3, items=2)


def sides() -> Sides:
    return Sides(SCHEMA, PLAN, layout=LAYOUT, partners=3, lateness=2 * DAY)


class Cluster:
    """A relay that sends things twice, and a worker that folds a little behind, each partition for itself."""

    def __init__(self, seed: int, events: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.clock = ManualClock(START)
        self.broker = MemoryBroker(LAYOUT, self.clock, Faults(gap=0.1, duplicate=0.05))
        self.sides = sides()
        self.state: dict[Partition, dict[bytes, bytes]] = {partition: {} for partition in LAYOUT.all()}
        self.fences = dict.fromkeys(LAYOUT.all(), 0)
        self.asked: dict[Side, list[tuple[str, int, int, bytes | None]]] = {"user": [], "item": []}
        sent: list[Outgoing] = []
        for number, record in enumerate(random_records(self.rng, events, start=START, users=8, items=10)):
            self.clock.set(max(self.clock.now(), record.ingested_at))
            sent.append(self.outgoing(number, record.event, record.ts))
            again = [sent[-1]]
            if self.rng.random() < 0.1:  # a relay that starts again, in the same order
                again = sent[-int(self.rng.integers(1, 20)) :]
            self.broker.sender().send(again)
            if number % 7 == 0:
                self.fold()
                self.ask()

    def outgoing(self, number: int, event: Any, ts: int) -> Outgoing:
        """Some events have the id of an earlier one, and then count for nothing."""
        earlier = self.rng.random() < 0.05
        event_id = None if self.rng.random() < 0.3 else f"e{max(0, number - 10 if earlier else number)}"
        event = type(event)(**{**{name: getattr(event, name) for name in event.__struct_fields__}, "ts": ts})
        if isinstance(event, ItemUpdate | ItemRemoved):
            return Outgoing(LAYOUT.item(event.item_id), "", "box", (0, number), event_id, Sent(event))
        items = 1 if isinstance(event, Interaction) else len(event.items) if isinstance(event, Impression) else 0
        attributes = [{"genres": [f"g{int(self.rng.integers(4))}"], "creator": "c"} for _ in range(items)]
        return Outgoing(LAYOUT.user(event.user_id), "", "box", (0, number), event_id, Sent(event, attributes))

    def fold(self) -> None:
        batches = []
        for partition in LAYOUT.all():
            messages: Sequence[Message] = self.broker.read(
                partition, self.fences[partition], int(self.rng.integers(1, 12))
            )
            if messages:
                state = self.state[partition]
                meta = decode_meta(state.get(META_KEY))
                batch, _ = self.sides.batch(partition, self.fences[partition], meta, messages)
                batch.values.update({key: state.get(key) for key in self.sides.wanted(batch)})
                batches.append(batch)
        deeds = self.sides.fold(batches)
        self.broker.sender().send(deeds)
        if self.rng.random() < 0.2:
            self.broker.sender().send(deeds)  # as after a crash before the commit
        for batch in batches:
            commit = batch.commit()
            self.fences[batch.partition] = commit.position
            for key, value in commit.writes.items():
                if value is None:
                    self.state[batch.partition].pop(key, None)
                else:
                    self.state[batch.partition][key] = value

    def ask(self) -> None:
        for side, place, key in (("user", LAYOUT.user, user_key), ("item", LAYOUT.item, item_key)):
            entity = f"{side[0]}{int(self.rng.integers(11))}"
            partition = place(entity)
            now = self.clock.now() + int(self.rng.choice([0, MINUTE, HOUR, 30 * DAY]))
            asked = self.asked["user" if side == "user" else "item"]
            asked.append((entity, self.fences[partition], now, self.state[partition].get(key(entity))))

    def extracts(self) -> list[PartitionExtract]:
        reader = self.broker.reader()
        return [PartitionExtract(sides(), SCHEMA, PLAN, partition).read(reader.read) for partition in LAYOUT.all()]


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(seed=3, events=2_500)


@pytest.mark.parametrize("side", ["user", "item"])
def test_what_is_recomputed_is_what_was_folded(cluster: Cluster, side: Side) -> None:
    offline = OfflineFeatures(PLAN, SCHEMA, extract_partitions(cluster.extracts()))
    asked = cluster.asked[side]
    entities, fences, now, blobs = (list(column) for column in zip(*asked, strict=True))
    recomputed = offline.evaluate(side, entities, [visible(side, fence) for fence in fences], now)
    reader = READER._user if side == "user" else READER._item
    evaluate = READER.evaluate_users if side == "user" else READER.evaluate_items
    for row, (blob, at) in enumerate(zip(blobs, now, strict=True)):
        words, where = concatenate([blob])
        assert reader.scalars(words, where, at)[0][0].tolist() == recomputed.integers[row].tolist(), asked[row][:3]
        online = evaluate([blob], at)
        assert online.features[0].tobytes() == recomputed.features[row].tobytes()
        for name, keyed in online.keyed.items():
            rows = slice(*recomputed.keyed[name].offsets[row : row + 2])
            assert keyed.keys.tolist() == recomputed.keyed[name].keys[rows].tolist(), name
            assert keyed.values.tolist() == recomputed.keyed[name].values[rows].tolist(), name
        for mine, theirs in zip(reader.lists(words), recomputed.lists, strict=True):
            assert mine.tolist() == theirs[row].tolist()
    offline.close()
    assert sum(blob is not None for blob in blobs) > len(blobs) / 2
    assert (recomputed.integers > 0).any(axis=0).mean() > 0.8


def test_reading_in_pieces_changes_nothing(cluster: Cluster) -> None:
    for whole in cluster.extracts():
        pieces = PartitionExtract(sides(), SCHEMA, PLAN, whole.partition)
        messages = cluster.broker.read(whole.partition, 0, 100_000)
        for start in range(0, len(messages), 3):
            pieces.take(messages[start : start + 3])
        assert list(pieces.rows()) == list(whole.rows())


def test_the_traffic_has_everything(cluster: Cluster) -> None:
    messages = [m for partition in LAYOUT.all() for m in cluster.broker.read(partition, 0, 100_000)]
    assert len({type(m.body.event) for m in messages if isinstance(m.body, Sent)}) == 6
    assert len({(m.source, m.place) for m in messages}) < len(messages) * 0.9
    assert Meta().clock == 0
