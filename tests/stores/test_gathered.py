from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from penchant.core.errors import StateUnavailable
from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.core.state import Key
from penchant.stores.gathered import GatheredReads
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores

LAYOUT = Layout(users=4, items=1)


class Counting(SeparateStores):
    away = False
    sizes: list[int]

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        self.sizes.append(len(wanted))
        if self.away:
            raise StateUnavailable("away")
        return super().read(wanted)


@pytest.fixture
def state() -> Counting:
    state = Counting(lambda _: MemoryStore(fingerprint="f"), LAYOUT)
    state.sizes = []
    state.commit([Commit(Partition("users", n), 0, n + 1, {b"ua": b"%d" % n}) for n in range(4)])
    return state


def wanted(number: int) -> list[tuple[Partition, list[Key]]]:
    return [(Partition("users", (number + more) % 4), [b"ua"]) for more in range(number % 3)]


def test_calls_of_one_turn_are_one_read(state: Counting) -> None:
    async def ask() -> None:
        reads = GatheredReads(state, most=10)
        for _ in range(2):
            answers = await asyncio.gather(*(reads.read(wanted(number)) for number in range(25)))
            for number, views in enumerate(answers):
                assert list(views) == [View(p.number + 1, [b"%d" % p.number]) for p, _ in wanted(number)]

    asyncio.run(ask())
    assert len(state.sizes) == 6


def test_all_hear_that_the_state_is_away_and_those_who_left_are_no_bother(state: Counting) -> None:
    async def ask() -> None:
        reads = GatheredReads(state)
        state.away = True
        told = await asyncio.gather(*(reads.read(wanted(1)) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in told] == [StateUnavailable] * 5
        state.away = False
        gone = asyncio.create_task(reads.read(wanted(1)))
        stays = asyncio.create_task(reads.read(wanted(2)))
        await asyncio.sleep(0)
        gone.cancel()
        assert len(await stays) == 2

    asyncio.run(ask())
