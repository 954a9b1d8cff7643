"""A log in partitions under every fault at once: each state is what its log says, and all agree with one log."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from flow.partitioned import POINTS, Cluster, Flaky, compared, differing, drawn, plain
from flow.world import HOUR, MINUTE, settings_of
from penchant.assembly.parts import Definition
from penchant.core.log import START
from penchant.core.partitions import Commit, Deeds, Partition, Sent, View
from penchant.core.state import Key
from penchant.stores.separate import SeparateStores
from penchant.stream.worker import Worker

USERS, ITEMS = 40, 60
FAULTS = {"fail": 0.1, "duplicate": 0.05, "gap": 0.05, "delay": 0.1, "redeliver": 0.1}


@pytest.fixture(scope="module")
def definition() -> Definition:
    return Definition.of(settings_of('[surfaces.next]\nsources = [{ name = "session", n = 100 }]'))


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("PENCHANT_SEED", int.from_bytes(os.urandom(4), "big")))


def feed(cluster: Cluster, seed: int, count: int, prefix: str, *, resend: float = 0.0, **options: Any) -> None:
    now = cluster.clock.now()
    cluster.relay.take(drawn(seed, count, now, users=USERS, items=ITEMS, prefix=prefix, **options))
    cluster.relay.send(resend)


def test_a_quiet_day_is_folded_as_one_log_is(definition: Definition, seed: int) -> None:
    print(f"PENCHANT_SEED={seed}")
    cluster = Cluster(definition, seed)
    cluster.workers = [cluster.worker()]
    for number in range(8):
        feed(cluster, seed + number, 60, f"b{number}:")
        cluster.settle()
        cluster.clock.advance(3 * HOUR)
    records = cluster.records()
    told = compared(definition, cluster.contents(), cluster.layout, records, records, cluster.clock.now())
    assert told.wrong == []
    assert told.cells > 1_000
    assert differing(cluster.contents(), cluster.folded_again()) == 0


def disaster(cluster: Cluster, seed: int, rounds: int, *, put_back: float = 0.15, idle: bool = False) -> int:
    """Rounds of events in which workers die, compete, come and go, and stores are put back; returns how many were."""
    rng = cluster.rng
    old: dict[Partition, list[Any]] = {}
    rewound = 0
    for number in range(rounds):
        cluster.armed = (POINTS[rng.randrange(4)], rng.randrange(4))
        feed(cluster, seed + number, rng.randrange(4, 30), f"b{number}:", resend=0.1)
        cluster.clock.advance(rng.choice([0, 1, 900, MINUTE, HOUR, 6 * HOUR]))
        for _ in range(rng.randrange(6)):
            cluster.step(rng.randrange(len(cluster.workers)))
        for _ in range(3):
            partition = rng.choice(cluster.layout.all())
            old.setdefault(partition, []).append(cluster.store(partition).copy())
        if rng.random() < put_back:
            partition = rng.choice(sorted(old))
            cluster.store(partition).put_back(rng.choice(old[partition]))
            rewound += 1
        if rng.random() < 0.05 and len(cluster.workers) < 5:
            cluster.workers.append(cluster.worker())
        elif rng.random() < 0.05 and len(cluster.workers) > 3:
            cluster.workers.pop().close()
    cluster.settle()
    if idle:
        # All is folded and nobody sends any more: a store put back now is found by looking only.
        for partition in sorted(old)[::2]:
            cluster.store(partition).put_back(old[partition][0])
            rewound += 1
        for _ in range(20):
            cluster.clock.advance(1_000)
            for which in range(len(cluster.workers)):
                cluster.step(which)
    return rewound


def test_nothing_that_fails_changes_the_state(
    definition: Definition, seed: int, figures: Callable[[str], None]
) -> None:
    print(f"PENCHANT_SEED={seed}")
    cluster = Cluster(definition, seed, faults=FAULTS, state=lambda state: Flaky(state, random.Random(seed), 0.02))
    # Two in one group, and two more that each believe all partitions their own.
    cluster.workers = [cluster.worker(), cluster.worker(), cluster.worker(lone=True), cluster.worker(lone=True)]
    rewound = disaster(cluster, seed, 120, idle=True)
    cluster.settle()
    records = cluster.records()
    contents = cluster.contents()
    told = compared(definition, contents, cluster.layout, records, records, cluster.clock.now())
    again = differing(contents, cluster.folded_again())
    kinds = [type(message.body) for p in cluster.layout.all() for message in cluster.messages(p)]
    figures(
        f"seed {seed}: {sum(cluster.kills.values())} kills, {rewound} partitions put back, {len(records)} events sent"
        f" as {kinds.count(Sent)} messages, {kinds.count(Deeds)} messages of deeds,"
        f" {told.cells} cells compared, {len(told.wrong)} wrong, {again} not as their log says"
    )
    assert told.wrong == []
    assert again == 0
    assert set(cluster.kills) == set(POINTS)


class Unfenced:
    """State as somebody writes who trusts the group's offsets: whoever commits last is right."""

    def __init__(self, state: SeparateStores) -> None:
        self._state = state

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        return self._state.read(wanted)

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        for partition, _, position, writes in commits:
            store = self._state.partition(partition)
            fence = store.position()
            store.commit(fence, max(position, fence + 1), writes)
        return [None] * len(commits)

    def partition(self, partition: Partition) -> Any:
        return self._state.partition(partition)


class Trusting(Worker):
    """Goes on where its group's offset says, which it notes after the commit, and looks at no fence in between."""

    def check(self) -> None:
        """Nothing."""

    def _batches(self, messages: Mapping[Partition, Sequence[Any]]) -> list[Any]:
        fences = {p: held.fence for p, held in self._held.items()}
        read, self._state = self._state, _Agreeing(self._state, fences)  # type: ignore[assignment]
        try:
            return super()._batches(messages)
        finally:
            self._state = read


class _Agreeing:
    def __init__(self, state: Any, fences: Mapping[Partition, int]) -> None:
        self._state, self._fences = state, fences

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        views = self._state.read(wanted)
        return [View(self._fences[p], view.values) for (p, _), view in zip(wanted, views, strict=True)]


class Blind(Worker):
    """Folds as it should and never looks at the fences of partitions that nothing comes for."""

    def check(self) -> None:
        """Nothing."""


def test_without_the_fence_the_same_faults_make_wrong_cells(
    definition: Definition, figures: Callable[[str], None]
) -> None:
    seed = 11
    cluster = Cluster(definition, seed, faults=FAULTS, make=Trusting, state=Unfenced)
    cluster.workers = [cluster.worker(lone=True), cluster.worker(lone=True)]
    for number in range(60):
        cluster.armed = (POINTS[cluster.rng.randrange(4)], cluster.rng.randrange(4))
        feed(cluster, seed + number, cluster.rng.randrange(4, 30), f"b{number}:", resend=0.1)
        cluster.clock.advance(cluster.rng.choice([0, 1, MINUTE, HOUR]))
        for _ in range(cluster.rng.randrange(6)):
            cluster.step(cluster.rng.randrange(2))
    cluster.armed = None
    for _ in range(200):
        cluster.step(0)
        cluster.step(1)
    records = cluster.records()
    told = compared(definition, cluster.contents(), cluster.layout, records, records, cluster.clock.now())
    figures(f"seed {seed}: {told.cells} cells compared, {len(told.wrong)} wrong")
    assert len(told.wrong) > told.cells / 100


def test_without_the_heartbeat_a_store_put_back_stays_wrong(
    definition: Definition, figures: Callable[[str], None]
) -> None:
    seed = 12
    cluster = Cluster(definition, seed, make=Blind)
    cluster.workers = [cluster.worker(), cluster.worker()]
    feed(cluster, seed, 200, "a:")
    cluster.settle()
    old = {partition: cluster.store(partition).copy() for partition in cluster.layout.all()}
    feed(cluster, seed + 1, 200, "b:")
    cluster.settle()
    right = cluster.contents()
    for partition in list(old)[::2]:
        cluster.store(partition).put_back(old[partition])
    for _ in range(20):
        cluster.clock.advance(1_000)
        for which in range(2):
            cluster.step(which)
    wrong = differing(right, cluster.contents())
    cluster.workers = [cluster.worker()]
    cluster._make = Worker
    cluster.workers = [cluster.worker(lone=True)]
    cluster.settle()
    figures(f"seed {seed}: {wrong} cells wrong, {differing(right, cluster.contents())} once somebody looked")
    assert wrong > 20
    assert differing(right, cluster.contents()) == 0


def test_a_log_that_lost_people_s_messages_is_folded_as_it_is_now(definition: Definition, seed: int) -> None:
    print(f"PENCHANT_SEED={seed}")
    cluster = Cluster(definition, seed)
    cluster.workers = [cluster.worker(), cluster.worker()]
    feed(cluster, seed, 300, "a:", erase=False)
    cluster.settle()
    before = {row.place for row in cluster.relay.rows}
    all_records = cluster.records()
    lost = max((p for p in cluster.layout.all() if p.side == "users"), key=cluster.broker.reader().end)
    end = cluster.broker.reader().end(lost)
    cluster.broker.lose(lost, end // 2)
    cluster.clock.advance(1_000)
    cluster.settle()
    feed(cluster, seed + 1, 300, "b:", erase=False)
    cluster.settle()
    assert cluster.broker.reader().end(lost) > end, "positions were given again"
    records = cluster.records()
    # Those that were lost stay counted where they were told, and nothing counts twice or is passed over.
    kept = {record.position for record in records}
    items = sorted([*records, *(r for r in all_records if r.position not in kept)], key=lambda r: r.position)
    now = cluster.clock.now()
    told = compared(definition, cluster.contents(), cluster.layout, records, items, now, joined=False)
    assert told.wrong == []
    assert len(items) > len(records)
    assert len(before) < len(cluster.relay.rows)
    assert differing(plain(cluster.contents()), plain(cluster.folded_again())) == 0


def test_deeds_that_an_item_partition_lost_are_told_again(definition: Definition, seed: int) -> None:
    print(f"PENCHANT_SEED={seed}")
    cluster = Cluster(definition, seed)
    cluster.workers = [cluster.worker(), cluster.worker()]
    feed(cluster, seed, 300, "a:")
    cluster.settle()
    lost = Partition("items", cluster.rng.randrange(cluster.layout.items))
    last = max(message.position for message in cluster.messages(lost) if type(message.body) is Sent)
    assert last < cluster.broker.reader().end(lost)
    cluster.broker.lose(lost, last)
    cluster.clock.advance(1_000)
    cluster.settle()
    feed(cluster, seed + 1, 100, "b:")
    cluster.settle()
    records = cluster.records()
    told = compared(definition, cluster.contents(), cluster.layout, records, records, cluster.clock.now())
    assert told.wrong == []
    assert differing(cluster.contents(), cluster.folded_again()) == 0


class Archive:
    """All messages, also those that the log has forgotten."""

    def __init__(self, cluster: Cluster) -> None:
        self._kept = {partition: cluster.messages(partition) for partition in cluster.layout.all()}

    def read(self, partition: Partition, after: int, limit: int) -> Sequence[Any]:
        return [message for message in self._kept[partition] if message.position > after][:limit]

    def end(self, partition: Partition) -> int:
        return self._kept[partition][-1].position if self._kept[partition] else START

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return {partition: self.end(partition) for partition in partitions}

    def close(self) -> None:
        """Nothing."""


def test_what_the_log_has_forgotten_comes_from_the_archive(definition: Definition, seed: int) -> None:
    print(f"PENCHANT_SEED={seed}")
    cluster = Cluster(definition, seed)
    cluster.workers = [cluster.worker()]
    feed(cluster, seed, 300, "a:")
    cluster.settle()
    records, right = cluster.records(), cluster.contents()
    archive = Archive(cluster)
    for partition in cluster.layout.all():
        cluster.broker.forget(partition, cluster.broker.reader().end(partition) * 2 // 3)
        cluster.store(partition).clear()
    cluster.workers = [cluster.worker(lone=True, history=archive)]
    cluster.settle()
    assert differing({p: right[p] for p in right if p.side == "users"}, cluster.contents()) == 0
    told = compared(definition, cluster.contents(), cluster.layout, records, records, cluster.clock.now())
    assert told.wrong == []
