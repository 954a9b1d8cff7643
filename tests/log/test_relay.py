from __future__ import annotations

import random
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from log.relaying import (
    LAYOUT,
    NOW,
    SCHEMA,
    HarshSender,
    ItemState,
    counted,
    joined,
    make_broker,
    random_event,
)
from penchant.core.clock import ManualClock
from penchant.core.errors import LogUnavailable, StateUnavailable
from penchant.core.events import Event, Interaction, ItemUpdate
from penchant.core.outbox import entity_of, partition_of
from penchant.core.partitions import Sent
from penchant.log.joins import Joins
from penchant.log.outbox_sqlite import SqliteOutbox
from penchant.log.relay import Relay
from penchant.telemetry import OUTBOX_PENDING, RELAYED


class Killed(BaseException):
    """Stands for the end of the process."""


class World:
    """An outbox, a broker and an item state, with relays that are killed anywhere."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder, rng
        self.broker = make_broker()
        self.state = ItemState(self.broker)
        self.accepted: list[Event] = []
        self.number = 0
        self.outbox = self.open_outbox()

    def open_outbox(self) -> SqliteOutbox:
        outbox = SqliteOutbox(
            self.folder / "outbox.sqlite", schema=SCHEMA, layout=LAYOUT, clock=ManualClock(NOW), lateness_ms=10**9
        )
        outbox._writer.execute("PRAGMA synchronous = OFF")
        return outbox

    def relay(self, *, fail: float = 0.0, failpoint=lambda _: None, batch: int | None = None) -> Relay:
        return Relay(
            self.outbox,
            lambda: HarshSender(self.broker, self.rng, fail),
            LAYOUT,
            Joins(self.state, LAYOUT, SCHEMA, reader=self.broker.reader()),
            batch=batch or self.rng.randint(1, 8),
            rng=random.Random(1),
            failpoint=failpoint,
        )

    def take(self, count: int) -> None:
        events = [random_event(self.rng, self.number + index) for index in range(count)]
        self.number += count
        self.outbox.append(events)
        self.accepted += [type(event)(**{**_fields(event), "ts": NOW}) for event in events]

    def fold_some(self) -> None:
        for partition in LAYOUT.all():
            if partition.side == "items" and self.rng.random() < 0.5:
                self.state.fold(partition, self.rng.randint(0, 5))

    def check(self) -> None:
        """Every event is counted once, in the order of the outbox."""
        for partition in LAYOUT.all():
            mine = [event for event in self.accepted if partition_of(event, LAYOUT) == partition]
            assert [message.body.event for message in counted(self.broker, partition)] == mine

    def check_joins(self) -> None:
        for partition in LAYOUT.all():
            mine = [sent for sent in joined(self.accepted) if partition_of(sent.event, LAYOUT) == partition]
            assert [message.body for message in counted(self.broker, partition)] == mine

    def drain(self) -> None:
        relay = self.relay()
        while relay.step():
            pass
        relay.close()


def _fields(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def worlds(seed: int, play) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), random.Random(seed))
        try:
            play(world)
        finally:
            world.outbox.close()


def test_what_a_message_carries(tmp_path):
    world = World(tmp_path, random.Random(1))
    world.outbox.append(
        [
            ItemUpdate(item_id="i1", attributes={"genre": "a", "title": "Heat"}, id="x"),
            Interaction(user_id="u1", item_id="i1", action="click", id="y", ts=5),
        ]
    )
    before = RELAYED._value.get()
    sent = []

    class Sender(HarshSender):
        def send(self, messages):
            sent.extend(messages)

    relay = Relay(
        world.outbox,
        lambda: Sender(world.broker, world.rng),
        LAYOUT,
        Joins(world.state, LAYOUT, SCHEMA),
        rng=random.Random(1),
    )
    assert relay.step() == 2
    assert relay.step() == 0
    item, click = sent
    assert item[:5] == (LAYOUT.item("i1"), "i1", world.outbox.name, (0, 1), "x")
    assert item.body.attributes == []
    assert click[:5] == (LAYOUT.user("u1"), "u1", world.outbox.name, (0, 2), "y")
    assert click.body == Sent(Interaction(user_id="u1", item_id="i1", action="click", id="y", ts=5), [{"genre": "a"}])
    assert entity_of(click.body.event) == "u1"
    assert world.outbox.depth().pending == 0
    assert RELAYED._value.get() == before + 2
    world.outbox.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_every_event_counts_once_and_in_order_whatever_fails(seed):
    def play(world: World) -> None:
        rng = world.rng

        def die(name: str) -> None:
            if rng.random() < 0.15:
                raise Killed(name)

        for _ in range(rng.randint(1, 8)):
            world.take(rng.randint(0, 12))
            relay = world.relay(fail=0.3, failpoint=die)
            try:
                for _ in range(rng.randint(1, 6)):
                    with suppress(LogUnavailable):
                        relay.step()
                    world.fold_some()
            except Killed:
                # Another process starts; nothing of this one is left but the file.
                world.outbox.close()
                world.outbox = world.open_outbox()
            else:
                relay.close()
        world.drain()
        world.check()

    worlds(seed, play)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_zombies_that_think_they_lead_change_nothing(seed):
    def play(world: World) -> None:
        rng = world.rng
        idle: list[Relay] = []

        def step() -> None:
            """One of those that are not in the middle of a step does one."""
            relay = idle.pop(rng.randrange(len(idle)))
            with suppress(LogUnavailable):
                relay.step()
            idle.append(relay)

        def meet(name: str) -> None:
            """At any point of one relay, others do whole steps."""
            while idle and rng.random() < 0.4:
                step()

        world.outbox.lead = lambda: True  # type: ignore[method-assign]
        for _ in range(rng.randint(1, 6)):
            world.take(rng.randint(1, 12))
            idle.append(world.relay(fail=0.2, failpoint=meet))
            for _ in range(rng.randint(1, 5)):
                step()
        world.drain()
        world.check()

    worlds(seed, play)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_the_join_is_that_of_the_outbox_order_however_far_behind_the_fold_is(seed):
    """Through crashes anywhere and a state put back to any older one, as long as sends come through whole."""

    def play(world: World) -> None:
        rng = world.rng

        def die(name: str) -> None:
            if rng.random() < 0.05:
                raise Killed(name)

        for _ in range(rng.randint(1, 8)):
            world.take(rng.randint(0, 15))
            relay = world.relay(failpoint=die)
            try:
                for _ in range(rng.randint(1, 6)):
                    relay.step()
                    world.fold_some()
                    if rng.random() < 0.1:
                        world.state.put_back(LAYOUT.item("i1"), rng.randint(0, 10))
            except Killed:
                world.outbox.close()
                world.outbox = world.open_outbox()
            else:
                relay.close()
        world.drain()
        world.check()
        world.check_joins()

    worlds(seed, play)


def test_what_is_sent_and_not_folded_is_bounded(tmp_path):
    world = World(tmp_path, random.Random(1))
    joins = Joins(world.state, LAYOUT, SCHEMA, max_waiting=5)
    relay = Relay(
        world.outbox,
        lambda: HarshSender(world.broker, world.rng),
        LAYOUT,
        joins,
        batch=5,
        rng=random.Random(1),
    )
    world.outbox.append([ItemUpdate(item_id=f"i{index}", attributes={}) for index in range(6)])
    assert relay.step() == 5
    with pytest.raises(StateUnavailable):
        relay.step()
    for partition in LAYOUT.all():
        world.state.fold(partition, 10)
    assert relay.step() == 1
    world.outbox.close()


def test_without_attributes_to_join_the_state_is_not_asked(tmp_path):
    class Down:
        def read(self, wanted):
            raise StateUnavailable("Redis is away")

    world = World(tmp_path, random.Random(1))
    world.outbox.append([Interaction(user_id="u1", item_id="i1", action="click")])
    from penchant.core.schema import Action, Schema

    for schema, able in ((SCHEMA, False), (Schema(actions={"click": Action("click", 0)}), True)):
        relay = Relay(
            world.outbox,
            lambda: HarshSender(world.broker, world.rng),
            LAYOUT,
            Joins(Down(), LAYOUT, schema),  # type: ignore[arg-type]
            rng=random.Random(1),
        )
        if able:
            assert relay.step() == 1
        else:
            with pytest.raises(StateUnavailable):
                relay.step()
        relay.close()
    world.outbox.close()


def test_it_runs_through_an_outage_and_stops(tmp_path):
    world = World(tmp_path, random.Random(1))
    relay = Relay(
        world.outbox,
        world.broker.sender,
        LAYOUT,
        Joins(world.state, LAYOUT, SCHEMA, reader=world.broker.reader()),
        rng=random.Random(1),
    )
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        world.take(10)
        _until(lambda: world.outbox.depth().pending == 0)
        world.broker.down()
        world.take(10)
        _until(lambda: relay.error)
        assert "broker" in relay.error
        _until(lambda: OUTBOX_PENDING._value.get() == 10)
        world.broker.up()
        _until(lambda: world.outbox.depth().pending == 0)
        _until(lambda: relay.error is None)
        world.check()
        # Another one stands by and goes on when this one ends.
        second = world.open_outbox()
        assert not second.lead()
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert second.lead()
    second.close()
    world.outbox.close()


def _until(true, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
