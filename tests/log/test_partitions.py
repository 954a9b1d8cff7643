from __future__ import annotations

import random

import pytest

from penchant.core.clock import ManualClock, Millis
from penchant.core.errors import LogUnavailable
from penchant.core.partitions import Assigned, Partition, Revoked
from penchant.log.memory_partitions import (
    Faults,
    MemoryBroker,
    MemoryMembership,
    MemoryPartitionReader,
    MemorySender,
)
from penchant.testing.contracts.partitioned_log import PartitionedLogContract
from penchant.testing.contracts.partitioned_world import LAYOUT, Worker, by_partition, clicks

NOW: Millis = 1_700_000_000_000


class InMemory:
    def __init__(self) -> None:
        self._broker = MemoryBroker(LAYOUT, ManualClock(NOW))
        self.forget, self.down, self.up = self._broker.forget, self._broker.down, self._broker.up

    def sender(self, timeout: float = 10.0) -> MemorySender:
        return self._broker.sender()

    def reader(self, timeout: float = 10.0) -> MemoryPartitionReader:
        return self._broker.reader()

    def join(self, assigned: Assigned, revoked: Revoked) -> MemoryMembership:
        return self._broker.join(assigned, revoked)

    def lose(self) -> None:
        for partition in LAYOUT.all():
            self._broker.lose(partition, 0)

    def now(self) -> Millis:
        return NOW


class TestMemoryBroker(PartitionedLogContract):
    @pytest.fixture
    def broker(self) -> InMemory:
        return InMemory()


@pytest.mark.parametrize("seed", range(8))
def test_faults_lose_nothing_and_keep_the_first_of_each_in_order(seed: int) -> None:
    rng = random.Random(seed)
    broker = MemoryBroker(
        LAYOUT, ManualClock(NOW), Faults(rng, fail=0.2, duplicate=0.1, gap=0.1, delay=0.3, redeliver=0.2)
    )
    sender, outgoing = broker.sender(), clicks(300)
    state: dict[Partition, list] = {}
    workers, sent = [Worker(broker, state)], 0
    while sent < len(outgoing) or any(state.get(p, [None])[-1] != kept[-1] for p, kept in everything(broker).items()):
        try:
            sender.send(outgoing[sent : sent + 20])
            sent += 20
        except LogUnavailable:
            pass
        if rng.random() < 0.1:
            workers.append(Worker(broker, state))
        if rng.random() < 0.1 and len(workers) > 1:
            workers.pop(rng.randrange(len(workers))).member.close()
        if rng.random() < 0.1:
            broker.expel(rng.choice(workers).member)
        for worker in workers:
            worker.step(timeout=0)
    assert state == everything(broker)
    for partition, out in by_partition(outgoing).items():
        highest, firsts = (-1, 0), []
        for message in state[partition]:
            if message.place > highest:
                highest = message.place
                firsts.append(message.place)
        assert firsts == [o.place for o in out]


def everything(broker: MemoryBroker) -> dict[Partition, list]:
    reader = broker.reader()
    return {p: kept for p in LAYOUT.all() if (kept := list(reader.read(p, 0, 10_000)))}
