"""What every log in partitions keeps: subclass `PartitionedLogContract` in a test module, with a `broker` fixture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from penchant.core.errors import Forgotten, LogUnavailable, StateUnavailable
from penchant.core.events import AttributeValue, ItemRemoved
from penchant.core.log import START
from penchant.core.partitions import (
    Deed,
    Deeds,
    Message,
    Outgoing,
    Partition,
    PartitionReader,
    Sender,
    Sent,
)
from penchant.testing.contracts.partitioned_world import (
    LAYOUT,
    PATIENCE_S,
    Broker,
    Worker,
    by_partition,
    click,
    clicks,
    eventually,
    read_all,
    told,
)


class PartitionedLogContract:
    """Order, positions, retention, groups, and life after the broker was killed."""

    def test_each_partition_gives_what_was_sent_in_order(self, broker: Broker) -> None:
        outgoing = [click(row % 23, row, event_id=f"e{row}" if row % 2 else None) for row in range(1, 201)]
        before = broker.now()
        sender, reader = broker.sender(), broker.reader()
        for start in range(0, len(outgoing), 60):
            sender.send(outgoing[start : start + 60])
        sender.send([])
        for partition, sent in by_partition(outgoing).items():
            messages = read_all(reader, partition)
            assert [(m.source, m.place, m.event_id, m.body) for m in messages] == [
                (o.source, o.place, o.event_id, o.body) for o in sent
            ]
            positions = [message.position for message in messages]
            assert positions[0] > START
            assert positions == sorted(set(positions))
            assert positions[-1] == reader.end(partition)
            arrivals = [message.appended_at for message in messages]
            assert arrivals == sorted(arrivals)
            assert abs(arrivals[0] - before) < 60_000
        assert reader.ends(LAYOUT.all()) == {partition: reader.end(partition) for partition in LAYOUT.all()}
        sender.close()
        reader.close()

    def test_nothing_was_ever_sent(self, broker: Broker) -> None:
        reader = broker.reader()
        assert reader.end(Partition("items", 1)) == START
        assert not reader.read(Partition("items", 1), START, 10)
        reader.close()

    def test_deeds_travel_like_events(self, broker: Broker) -> None:
        attributes: dict[str, AttributeValue] = {"country": "de", "age": 1.5}
        pairs = [("i1", [2**64 - 1, 3])]
        deed = Deed(7, 99, 100, 0, "click", -3, True, 2**63 + 5, attributes, ["i1"], pairs)
        partition = Partition("items", 1)
        bodies: list[Sent | Deeds] = [Sent(ItemRemoved(item_id="i1", ts=4), [], 17), Deeds([deed, deed])]
        sender, reader = broker.sender(), broker.reader()
        sender.send([Outgoing(partition, "i1", "x/u003", (n, 0), None, body) for n, body in enumerate(bodies)])
        assert [message.body for message in reader.read(partition, START, 10)] == bodies
        sender.close()
        reader.close()

    def test_reading_begins_anywhere(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        sender.send([click(1, row) for row in range(1, 41)])
        partition = click(1, 1).partition
        messages = read_all(reader, partition)
        for index in (0, 1, 20, 39, 38, 5):
            after = messages[index].position
            assert read_all(reader, partition, after, 7) == messages[index + 1 :]
            assert list(reader.read(partition, after - 1, 1)) == messages[index : index + 1]
        assert not reader.read(partition, reader.end(partition), 10)
        sender.send([click(1, 99)])
        assert told(reader.read(partition, messages[-1].position, 10)) == [("outbox-1", (0, 99))]
        sender.close()
        reader.close()

    def test_several_threads_read(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        outgoing = clicks(300)
        sender.send(outgoing)
        parts = by_partition(outgoing)

        def check(partition: Partition) -> bool:
            return told(read_all(reader, partition, limit=9)) == [(o.source, o.place) for o in parts[partition]]

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(check, sorted(parts) * 2))
        sender.close()
        reader.close()

    def test_what_retention_took_is_forgotten(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        sender.send([click(1, row) for row in range(1, 11)])
        partition = click(1, 1).partition
        messages = read_all(reader, partition)
        broker.forget(partition, messages[3].position)
        with pytest.raises(Forgotten):
            reader.read(partition, START, 10)
        with pytest.raises(Forgotten):
            reader.read(partition, messages[2].position, 10)
        assert list(reader.read(partition, messages[3].position, 10)) == messages[4:]
        assert reader.end(partition) == messages[-1].position
        sender.close()
        reader.close()

    def test_a_member_gets_all_from_where_it_said(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        outgoing = clicks(200)
        sender.send(outgoing)
        partition = click(1, 1).partition
        first = read_all(reader, partition)
        state = {partition: first[:3]}
        worker = Worker(broker, state)
        worker.until(lambda: sum(map(len, state.values())) == 200, "all folded")
        assert state == {p: read_all(reader, p) for p in by_partition(outgoing)}
        assert worker.mine == set(LAYOUT.all())
        sender.send(clicks(50, 201))
        worker.until(lambda: sum(map(len, state.values())) == 250, "the news folded")
        ends = worker.member.ends(LAYOUT.all())
        assert all(ends[p] == reader.end(p) for p in state)
        worker.member.close()
        assert not worker.mine
        sender.close()
        reader.close()

    def test_a_member_goes_back(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        outgoing = clicks(120)
        sender.send(outgoing)
        state: dict[Partition, list[Message]] = {}
        worker = Worker(broker, state)
        worker.until(lambda: sum(map(len, state.values())) == 120, "all folded")
        for kept in (0, 5, 2):
            for partition in list(state):
                before = state[partition]
                state[partition] = before[:kept]
                worker.member.seek(partition, before[kept - 1].position if kept else START)
            worker.until(lambda: sum(map(len, state.values())) == 120, "folded again")
            assert state == {p: read_all(reader, p) for p in by_partition(outgoing)}
        worker.member.close()
        sender.close()
        reader.close()

    def test_members_share_and_nothing_is_lost_as_they_come_and_go(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        state: dict[Partition, list[Message]] = {}
        one = Worker(broker, state)
        sender.send(clicks(100))
        one.until(lambda: len(one.mine) == 8, "one has all")
        two = Worker(broker, state)
        sender.send(clicks(100, 101))
        one.until(lambda: len(one.mine) == 4 and len(two.mine) == 4, "they share", two)
        assert not one.mine & two.mine
        sender.send(clicks(100, 201))
        one.until(lambda: sum(map(len, state.values())) == 300, "both fold", two)
        two.member.close()
        sender.send(clicks(100, 301))
        one.until(lambda: len(one.mine) == 8, "one has all again")
        one.until(lambda: sum(map(len, state.values())) == 400, "all folded")
        assert state == {p: read_all(reader, p) for p in by_partition(clicks(400))}
        one.member.close()
        sender.close()
        reader.close()

    def test_a_worker_that_cannot_say_where_to_go_on_is_asked_again(self, broker: Broker) -> None:
        sender = broker.sender()
        sender.send(clicks(100))
        state: dict[Partition, list[Message]] = {}
        worker = Worker(broker, state)
        worker.troubles = 2
        seen = 0
        deadline = time.monotonic() + PATIENCE_S
        while sum(map(len, state.values())) < 100:
            assert time.monotonic() < deadline
            try:
                worker.step()
            except StateUnavailable:
                seen += 1
        assert seen == 2
        worker.member.close()
        sender.close()

    def test_a_member_is_asked_again_where_the_log_has_not_its_position(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        sender.send([click(1, row) for row in range(1, 31)])
        partition = click(1, 1).partition
        messages = read_all(reader, partition)
        broker.forget(partition, messages[9].position)
        state: dict[Partition, list[Message]] = {}
        worker = Worker(broker, state)

        def restored() -> bool:
            if worker.asked.count(partition) > 1:
                # What retention took comes from elsewhere: an archive, or a copy of the state.
                state.setdefault(partition, messages[:10])
            return len(state.get(partition, [])) == 30

        worker.until(restored, "asked again, and folded on")
        assert state[partition] == messages
        worker.member.close()
        sender.close()
        reader.close()

    def test_a_log_that_lost_everything_is_noticed(self, broker: Broker) -> None:
        sender, reader = broker.sender(), broker.reader()
        sender.send([click(1, row) for row in range(1, 31)])
        partition = click(1, 1).partition
        state: dict[Partition, list[Message]] = {}
        worker = Worker(broker, state)
        worker.until(lambda: len(state.get(partition, [])) == 30, "folded")
        asked = worker.asked.count(partition)
        broker.lose()

        def noticed() -> bool:
            if worker.asked.count(partition) > asked:
                state.clear()
            return not state

        worker.until(noticed, "asked again")
        eventually(lambda: _sends(sender, [click(1, row) for row in range(1, 6)]), "the log takes messages again")
        worker.until(lambda: len(state.get(partition, [])) >= 5, "folded anew")
        assert state[partition] == read_all(reader, partition)
        worker.member.close()
        sender.close()
        reader.close()

    def test_killed_the_broker_has_all_that_it_confirmed(self, broker: Broker) -> None:
        sender, reader = broker.sender(timeout=1.0), broker.reader(timeout=1.0)
        state: dict[Partition, list[Message]] = {}
        worker = Worker(broker, state)
        sender.send(clicks(200))
        worker.until(lambda: sum(map(len, state.values())) == 200, "folded")
        kept = {p: list(messages) for p, messages in state.items()}
        broker.down()
        started = time.monotonic()
        with pytest.raises(LogUnavailable):
            sender.send(clicks(50, 201))
        with pytest.raises(LogUnavailable):
            reader.read(click(1, 1).partition, START, 10)
        with pytest.raises(LogUnavailable):
            reader.ends(LAYOUT.all())
        assert worker.step() == 0
        assert time.monotonic() - started < 15
        broker.up()
        eventually(lambda: _sends(sender, clicks(100, 201)), "the log takes messages again")
        wanted = {p: [o.place for o in out] for p, out in by_partition(clicks(300)).items()}

        def complete() -> bool:
            return {p: sorted({m.place for m in messages}) for p, messages in state.items()} == wanted

        worker.until(complete, "all folded")
        for partition, messages in state.items():
            assert messages[: len(kept[partition])] == kept[partition]
            # Sent twice perhaps, but the first of each came in order: what is past the highest place is new.
            places = [message.place for message in messages]
            firsts = [place for index, place in enumerate(places) if place > max(places[:index], default=(-1, 0))]
            assert firsts == wanted[partition]
            eventually(partial(_reads, reader, partition, messages), "it reads the same")
        worker.member.close()
        sender.close()
        reader.close()


def _sends(sender: Sender, outgoing: Sequence[Outgoing]) -> bool:
    try:
        sender.send(outgoing)
    except LogUnavailable:
        return False
    return True


def _reads(reader: PartitionReader, partition: Partition, messages: list[Message]) -> bool:
    try:
        return read_all(reader, partition) == messages
    except LogUnavailable:
        return False
