"""What every event log keeps: subclass `EventLogContract` in a test module and give `open_log`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.core.clock import Clock, EventClock, ManualClock, Millis
from penchant.core.events import (
    Event,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    Served,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.log import ACCEPTED, LATE, START, EventLog, Record
from penchant.core.schema import Action, Attribute, Schema

NOW: Millis = 1_700_000_000_000
LATENESS: Millis = 48 * 3_600_000
SCHEMA = Schema(
    actions={"click": Action("click", 0, 1.0), "watch": Action("watch", 1, 2.0, "seconds", 1)},
    item={"title": Attribute("title", "text")},
    user={"country": Attribute("country", "category")},
    context={"device": Attribute("device", "category")},
)


def click(user_id: str = "u1", item_id: str = "i1", **fields: object) -> Interaction:
    """A click."""
    return Interaction(user_id=user_id, item_id=item_id, action="click", **fields)  # type: ignore[arg-type]


def served(request_id: str, user_id: str = "u1") -> Impression:
    """An impression of the engine's own."""
    facts = Served(
        now=NOW,
        request=b'{"user_id": "%s"}' % user_id.encode(),
        position=0,
        items_position=0,
        items_time=NOW,
        artifact="a",
        surface="home",
        columns="c",
        features=b"",
        scores=b"",
    )
    items = [ShownItem("i1", 1, 0.5), ShownItem("i2", 2, 1.0)]
    return Impression(
        user_id=user_id, items=items, surface="home", request_id=request_id, served=facts, id=f"impression-{request_id}"
    )


def read_all(log: EventLog) -> list[Record]:
    """Every record, a few at a time."""
    records: list[Record] = []
    while some := log.read(records[-1].position if records else START, 7):
        records.extend(some)
    return records


class EventLogContract:
    """Order, idempotency, stamps, waiting, erasure and (where `durable`) life after a restart."""

    durable = True
    """Whether a log opened again, or a second time, on the same folder is the same log."""

    def open_log(self, folder: Path, *, clock: Clock) -> EventLog:
        """The log in `folder`, with `SCHEMA` and `LATENESS`."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(NOW)

    @pytest.fixture
    def log(self, tmp_path: Path, clock: ManualClock) -> Iterator[EventLog]:
        log = self.open_log(tmp_path, clock=clock)
        yield log
        log.close()

    def test_a_new_log_is_empty(self, log: EventLog) -> None:
        assert log.end() == START
        assert list(log.read(START, 10)) == []
        assert log.impression("r") is None
        assert list(log.erasures(100)) == []
        assert log.append([]).position == START
        assert not log.wait(START, 0)

    def test_events_come_back_as_they_went_in(self, log: EventLog) -> None:
        events: list[Event] = [
            click(context={"device": "tv"}, request_id="r", ts=NOW - 5, id="a"),
            Interaction(user_id="ü", item_id="雪", action="watch", value=12.34),
            served("r"),
            ItemUpdate(item_id="i1", attributes={"title": "Heat", "none": None}, listed=False, merge=True),
            ItemRemoved(item_id="i1"),
            UserUpdate(user_id="u1", attributes={"country": "se"}),
            UserErased(user_id="u2"),
        ]
        appended = log.append(events)
        records = read_all(log)
        assert [record.event for record in records] == events
        assert [record.q for record in records] == [0, 123, 0, 0, 0, 0, 0]
        assert (appended.accepted, appended.duplicates, appended.late) == (7, 0, 0)
        assert appended.position == log.end() == records[-1].position

    def test_positions_rise_and_reads_go_on_where_they_stopped(self, log: EventLog) -> None:
        for batch in range(10):
            log.append([click(item_id=f"i{batch}-{index}") for index in range(batch)])
        records = read_all(log)
        positions = [record.position for record in records]
        assert len(records) == 45
        assert positions == sorted(set(positions))
        assert positions[0] > START
        for cut in (0, 1, 44, 45):
            after = positions[cut - 1] if cut else START
            assert list(log.read(after, 1_000)) == records[cut:]
        assert list(log.read(positions[3], 2)) == records[4:6]

    def test_an_id_counts_once(self, log: EventLog) -> None:
        first = log.append([click(id="a"), click(id="b"), click(item_id="other", id="a")])
        assert (first.accepted, first.duplicates) == (2, 1)
        again = log.append([click(id="b"), click(id="c"), click(id="a")])
        assert (again.accepted, again.duplicates) == (1, 2)
        only = log.append([click(id="a")])
        assert (only.accepted, only.duplicates) == (0, 1)
        assert [record.event.id for record in read_all(log)] == ["a", "b", "c"]
        assert read_all(log)[0].position <= only.position <= log.end()

    def test_events_without_an_id_always_count(self, log: EventLog) -> None:
        assert log.append([click(), click()]).accepted == 2
        assert log.append([click()]).accepted == 1

    def test_the_stamps(self, log: EventLog) -> None:
        appended = log.append(
            [
                click(),
                click(ts=NOW + 1),
                click(ts=NOW - LATENESS),
                click(ts=NOW - LATENESS - 1),
                Impression(user_id="u1", items=[ShownItem("i1")], ts=0),
                ItemUpdate(item_id="i1", attributes={}, ts=0),
                UserUpdate(user_id="u1", attributes={}, ts=0),
            ]
        )
        records = read_all(log)
        assert [record.ts - NOW for record in records] == [0, 0, -LATENESS, -LATENESS - 1, -NOW, -NOW, -NOW]
        assert [record.verdict for record in records] == [ACCEPTED] * 3 + [LATE] * 2 + [ACCEPTED] * 2
        assert {record.ingested_at for record in records} == {NOW}
        assert (appended.accepted, appended.late) == (7, 2)

    def test_the_arrival_never_goes_back(self, log: EventLog, clock: ManualClock) -> None:
        log.append([click()])
        clock.set(NOW - 60_000)
        log.append([click(ts=NOW - 1), click()])
        clock.set(NOW + 60_000)
        log.append([click()])
        assert [record.ingested_at - NOW for record in read_all(log)] == [0, 0, 0, 60_000]
        assert [record.ts - NOW for record in read_all(log)] == [0, -1, 0, 60_000]

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_a_clock_that_follows_the_events_stamps_the_same_however_they_are_batched(
        self, tmp_path: Path, size: int
    ) -> None:
        log = self.open_log(tmp_path, clock=EventClock(ceiling=ManualClock(NOW)))
        times = [1_000, 5_000, 3_000, None, LATENESS + 5_000, 4_000, NOW + 5, None]
        events = [click(ts=ts, id=str(index)) for index, ts in enumerate(times)]
        for start in range(0, len(events), size):
            log.append(events[start : start + size])
        ends = [1_000, 5_000, 5_000, 5_000, LATENESS + 5_000, LATENESS + 5_000, NOW, NOW]
        assert [record.ingested_at for record in read_all(log)] == ends
        assert [record.verdict for record in read_all(log)] == [ACCEPTED] * 5 + [LATE] + [ACCEPTED] * 2
        assert [record.ts for record in read_all(log)][3:7:3] == [5_000, NOW]
        log.close()

    def test_a_duplicate_does_not_move_the_clock(self, tmp_path: Path) -> None:
        clock = EventClock(ceiling=ManualClock(NOW))
        log = self.open_log(tmp_path, clock=clock)
        log.append([click(ts=1_000, id="a")])
        log.append([click(ts=9_000, id="a")])
        assert clock.now() == 1_000
        log.close()

    def test_waiting(self, log: EventLog) -> None:
        log.append([click()])
        assert log.wait(START, 0)
        assert not log.wait(log.end(), 0.02)
        waited: list[bool] = []
        waiter = threading.Thread(target=lambda: waited.append(log.wait(1, 10)))
        waiter.start()
        log.append([click()])
        waiter.join(5)
        assert waited == [True]

    def test_the_engines_impressions_are_found(self, log: EventLog) -> None:
        posted = Impression(user_id="u1", items=[ShownItem("i1")], request_id="theirs")
        log.append([served("r1"), click(request_id="r2"), served("r2"), posted])
        found = log.impression("r2")
        assert found == read_all(log)[2]
        assert log.impression("theirs") is None

    def test_many_threads_each_id_once(self, log: EventLog) -> None:
        batches = [[click(id=str(index)) for index in range(start, start + 20)] for start in range(0, 200, 10)] * 3
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(log.append, batches))
        records = read_all(log)
        assert sorted(int(record.event.id or "") for record in records) == list(range(210))
        assert sum(result.accepted for result in results) == 210
        assert all(result.accepted + result.duplicates == 20 for result in results)
        places = {record.event.id: record.position for record in records}
        for batch, result in zip(batches, results, strict=True):
            assert result.position >= max(places[event.id] for event in batch)

    def test_a_batch_stays_together_and_in_order(self, log: EventLog) -> None:
        batches = [[click(user_id=f"u{batch}", item_id=str(index)) for index in range(5)] for batch in range(40)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(log.append, batches))
        events = [record.event for record in read_all(log)]
        assert len(events) == 200
        for start in range(0, 200, 5):
            assert events[start : start + 5] in batches

    def test_erasure_leaves_what_counts_for_items(self, log: EventLog) -> None:
        log.append(
            [
                Interaction(user_id="eve", item_id="i1", action="watch", value=2.5, ts=NOW - 9, id="eve-1",
                            request_id="r1", context={"device": "tv"}),
                click("bob", id="bob-1"),
                served("r1", "eve"),
                UserUpdate(user_id="eve", attributes={"country": "se"}, id="eve-2"),
                ItemUpdate(item_id="i1", attributes={"title": "eve"}),
                UserErased(user_id="eve", id="eve-3"),
                click("eve", id="eve-4"),
            ]
        )  # fmt: skip
        before = read_all(log)
        assert list(log.erasures(5)) == []
        assert list(log.erasures(6)) == [(6, "eve")]
        assert log.erase("eve", 6) == 4
        assert list(log.erasures(100)) == []
        after = read_all(log)
        assert [record.event for record in after] == [
            Interaction(user_id="", item_id="i1", action="watch", value=2.5, ts=NOW - 9),
            before[1].event,
            Impression(user_id="", items=[ShownItem("i1", 1, 0.5), ShownItem("i2", 2, 1.0)], surface="home"),
            UserUpdate(user_id="", attributes={}),
            before[4].event,
            UserErased(user_id=""),
            before[6].event,
        ]
        assert [_facts(record) for record in after] == [_facts(record) for record in before]
        assert log.impression("r1") is None
        assert log.erase("eve", 6) == 0, "again changes nothing"
        assert log.erase("eve") == 1, "without a bound, all"
        assert log.append([click("eve", id="eve-1")]).duplicates == 1, "a redelivery brings nothing back"
        assert log.erase("") == 0

    def test_a_reopened_log_is_the_same(self, tmp_path: Path, clock: ManualClock) -> None:
        if not self.durable:
            pytest.skip("not durable")
        log = self.open_log(tmp_path, clock=clock)
        log.append([click(id="a"), served("r")])
        records = read_all(log)
        log.close()
        clock.set(NOW - 1_000)
        log = self.open_log(tmp_path, clock=clock)
        assert read_all(log) == records
        assert log.append([click(id="a"), click(id="b")]).duplicates == 1
        last = read_all(log)[-1]
        assert last.position > records[-1].position
        assert last.ingested_at == NOW
        assert log.impression("r") == records[1]
        log.close()

    def test_a_clock_that_follows_the_events_goes_on_after_a_restart(self, tmp_path: Path) -> None:
        if not self.durable:
            pytest.skip("not durable")
        log = self.open_log(tmp_path, clock=EventClock())
        log.append([click(ts=7_000)])
        log.close()
        clock = EventClock()
        log = self.open_log(tmp_path, clock=clock)
        assert clock.now() == 7_000
        log.close()

    def test_two_logs_on_one_folder_are_one(self, tmp_path: Path, clock: ManualClock) -> None:
        if not self.durable:
            pytest.skip("not durable")
        logs = [self.open_log(tmp_path, clock=clock) for _ in range(2)]
        batches = [[click(id=str(index)) for index in range(start, start + 10)] for start in range(0, 100, 5)]

        def append(numbered: tuple[int, Sequence[Event]]) -> int:
            return logs[numbered[0] % 2].append(numbered[1]).accepted

        with ThreadPoolExecutor(4) as pool:
            accepted = list(pool.map(append, enumerate(batches * 2)))
        assert sum(accepted) == 105
        assert read_all(logs[0]) == read_all(logs[1])
        assert sorted(int(record.event.id or "") for record in read_all(logs[0])) == list(range(105))
        end = logs[0].end()
        threading.Timer(0.05, lambda: logs[1].append([click()])).start()
        started = time.monotonic()
        assert logs[0].wait(end, 5)
        assert time.monotonic() - started < 1
        for log in logs:
            log.close()


def _facts(record: Record) -> tuple[int, ...]:
    return record.position, record.ingested_at, record.ts, record.verdict, record.q
