"""What every outbox keeps: subclass `OutboxContract` in a test module and give `open_outbox`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.core.clock import Clock, ManualClock
from penchant.core.errors import InvalidEvent, LogFull
from penchant.core.events import (
    Event,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    UserErased,
    UserUpdate,
)
from penchant.core.outbox import Outbox, Pending
from penchant.core.partitions import Layout, Place
from penchant.testing.contracts.log import LATENESS, NOW, click, served

LAYOUT = Layout(users=8, items=2)
DAY = 86_400_000


def read_all(outbox: Outbox, after: Place | None = None) -> list[Pending]:
    """Everything that waits past `after`, a few at a time."""
    events: list[Pending] = []
    while some := outbox.read(events[-1].place if events else after, 7):
        events.extend(some)
    return events


class OutboxContract:
    """Order, idempotency, the bound, confirmation, the lead, life after a restart, many writers and one poller."""

    def open_outbox(self, folder: Path, *, clock: Clock, max_events: int = 1_000_000) -> Outbox:
        """The outbox in `folder` (the same one for the same folder), with `SCHEMA`, `LAYOUT` and `LATENESS`.

        Ids are known for 48 hours after their events were confirmed.
        """
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(NOW)

    @pytest.fixture
    def outbox(self, tmp_path: Path, clock: ManualClock) -> Iterator[Outbox]:
        outbox = self.open_outbox(tmp_path, clock=clock)
        yield outbox
        outbox.close()

    def test_a_new_outbox_is_empty(self, outbox: Outbox) -> None:
        assert list(outbox.read(None, 10)) == []
        assert outbox.depth() == (0, 0)
        assert outbox.append([]).accepted == 0
        assert not outbox.wait(None, 0)
        assert 0 < len(outbox.name) <= 64

    def test_events_come_back_as_they_went_in_with_their_time(self, outbox: Outbox) -> None:
        events: list[Event] = [
            click(context={"device": "tv"}, request_id="r", ts=NOW - 5, id="a"),
            Interaction(user_id="ü", item_id="雪", action="watch", value=12.34, ts=NOW),
            served("r"),
            ItemUpdate(item_id="i1", attributes={"title": "Heat", "none": None}, listed=False, merge=True, ts=3),
            ItemRemoved(item_id="i1", ts=NOW + 1),
            UserUpdate(user_id="u1", attributes={"country": "se"}),
            UserErased(user_id="u2"),
        ]
        assert outbox.append(events).accepted == 7
        waiting = read_all(outbox)
        times = [NOW - 5, NOW, NOW, 3, NOW, NOW, NOW]
        assert [pending.event.ts for pending in waiting] == times
        assert [pending.accepted_at for pending in waiting] == [NOW] * 7
        kept = [_timed(event, ts) for event, ts in zip(events, times, strict=True)]
        assert [pending.event for pending in waiting] == kept

    def test_undeclared_actions_do_not_get_in(self, outbox: Outbox) -> None:
        with pytest.raises(InvalidEvent):
            outbox.append([click(), Interaction(user_id="u", item_id="i", action="dance")])
        assert outbox.depth().pending == 0

    def test_late_ones_are_told(self, outbox: Outbox) -> None:
        taken = outbox.append([click(ts=NOW - LATENESS), click(ts=NOW - LATENESS - 1)])
        assert (taken.accepted, taken.late) == (2, 1)

    def test_places_rise_and_reads_go_on_where_they_stopped(self, outbox: Outbox) -> None:
        for batch in range(10):
            outbox.append([click(item_id=f"i{batch}-{index}") for index in range(batch)])
        waiting = read_all(outbox)
        places = [pending.place for pending in waiting]
        assert [pending.event for pending in waiting] == [
            click(item_id=f"i{batch}-{index}", ts=NOW) for batch in range(10) for index in range(batch)
        ]
        assert places == sorted(set(places))
        assert min(min(places)) >= 0
        for cut in (0, 1, 44, 45):
            assert read_all(outbox, places[cut - 1] if cut else None) == waiting[cut:]
        assert list(outbox.read(places[3], 2)) == waiting[4:6]

    def test_an_id_counts_once(self, outbox: Outbox) -> None:
        first = outbox.append([click(id="a"), click(id="b"), click(item_id="other", id="a")])
        assert (first.accepted, first.duplicates) == (2, 1)
        again = outbox.append([click(id="b"), click(id="c"), click(id="a")])
        assert (again.accepted, again.duplicates) == (1, 2)
        assert [pending.event.id for pending in read_all(outbox)] == ["a", "b", "c"]
        assert outbox.append([click(), click()]).accepted == 2, "without an id each counts"

    def test_the_places_of_a_batch(self, outbox: Outbox) -> None:
        people = [f"u{index}" for index in range(20)]
        taken = outbox.append([*(click(user, id=user) for user in people), ItemRemoved(item_id="i")])
        expected: dict[object, Place] = {}
        for pending in read_all(outbox):
            event = pending.event
            where = LAYOUT.item("i") if isinstance(event, ItemRemoved) else LAYOUT.user(event.user_id)  # type: ignore[union-attr]
            expected[where] = pending.place
        assert dict(taken.places) == expected
        first = read_all(outbox)[0]
        again = outbox.append([click("u0", id="u0")])
        assert dict(again.places) == {LAYOUT.user("u0"): first.place}, "that of the event that came first"
        newer = outbox.append([click("u0"), click("u0", id="u0")])
        assert dict(newer.places) == {LAYOUT.user("u0"): read_all(outbox)[-1].place}, "never the lower one"

    def test_confirmed_events_are_forgotten_and_their_ids_are_not(self, outbox: Outbox, clock: ManualClock) -> None:
        outbox.append([click(id=str(index)) for index in range(10)])
        waiting = read_all(outbox)
        outbox.confirm(waiting[3].place)
        assert read_all(outbox) == waiting[4:]
        outbox.confirm(waiting[3].place)
        assert outbox.depth().pending == 6
        clock.advance(DAY)
        again = outbox.append([click(id="2"), click(id="7")])
        assert (again.accepted, again.duplicates) == (0, 2)
        assert dict(again.places) == {LAYOUT.user("u1"): waiting[7].place}
        outbox.confirm(waiting[9].place)
        assert read_all(outbox) == []
        assert outbox.depth() == (0, 0)

    def test_ids_are_forgotten_in_the_end(self, outbox: Outbox, clock: ManualClock) -> None:
        outbox.append([click(id="a"), click(id="b")])
        clock.advance(3 * DAY)
        outbox.append([click(id="c")])
        assert outbox.append([click(id="a")]).duplicates == 1, "what waits is known however old it is"
        first, second, third = read_all(outbox)
        outbox.confirm(first.place)
        clock.advance(2 * DAY - 60_000)
        outbox.confirm(second.place)
        assert outbox.append([click(id="a"), click(id="b"), click(id="c")]).duplicates == 3
        clock.advance(180_000)
        outbox.confirm(second.place)
        again = outbox.append([click(id="a"), click(id="b"), click(id="c")])
        assert (again.accepted, again.duplicates) == (1, 2)
        places = [pending.place for pending in read_all(outbox)]
        assert places[0] == third.place
        assert places == sorted(places)

    def test_the_depth(self, outbox: Outbox, clock: ManualClock) -> None:
        outbox.append([click(), click()])
        clock.advance(700)
        outbox.append([click()])
        clock.advance(300)
        assert outbox.depth() == (3, 1_000)
        outbox.confirm(read_all(outbox)[1].place)
        assert outbox.depth() == (1, 300)

    def test_a_full_outbox_takes_nothing_of_the_batch(self, tmp_path: Path, clock: ManualClock) -> None:
        outbox = self.open_outbox(tmp_path, clock=clock, max_events=10)
        outbox.append([click(id=str(index)) for index in range(8)])
        with pytest.raises(LogFull, match="8 events wait"):
            outbox.append([click(id="x"), click(id="y"), click(id="z")])
        assert outbox.append([click(id="x"), click(id="y")]).accepted == 2
        with pytest.raises(LogFull, match="outbox full"):
            outbox.append([click(id="z")])
        outbox.confirm(read_all(outbox)[0].place)
        assert outbox.append([click(id="z")]).accepted == 1
        assert [pending.event.id for pending in read_all(outbox)] == [*"1234567", *"xyz"]
        outbox.close()

    def test_waiting(self, outbox: Outbox) -> None:
        outbox.append([click()])
        assert outbox.wait(None, 0)
        end = read_all(outbox)[-1].place
        assert not outbox.wait(end, 0.02)
        waited: list[bool] = []
        waiter = threading.Thread(target=lambda: waited.append(outbox.wait(end, 10)))
        waiter.start()
        outbox.append([click()])
        waiter.join(5)
        assert waited == [True]

    def test_a_reopened_outbox_is_the_same(self, tmp_path: Path, clock: ManualClock) -> None:
        outbox = self.open_outbox(tmp_path, clock=clock)
        outbox.append([click(id="a"), served("r"), click(id="b")])
        waiting, name = read_all(outbox), outbox.name
        outbox.confirm(waiting[0].place)
        outbox.close()
        outbox = self.open_outbox(tmp_path, clock=clock)
        assert outbox.name == name
        assert read_all(outbox) == waiting[1:]
        assert outbox.append([click(id="a"), click(id="b"), click(id="c")]).duplicates == 2
        outbox.confirm(read_all(outbox)[-1].place)
        outbox.close()
        outbox = self.open_outbox(tmp_path, clock=clock)
        taken = outbox.append([click()])
        (place,) = taken.places.values()
        assert place > waiting[-1].place, "a place is never given again"
        assert [pending.place for pending in read_all(outbox)] == [place]
        outbox.close()

    def test_outboxes_have_names_of_their_own(self, tmp_path: Path, clock: ManualClock) -> None:
        folders = [tmp_path / "one", tmp_path / "two"]
        names = set()
        for folder in folders:
            folder.mkdir()
            outbox = self.open_outbox(folder, clock=clock)
            names.add(outbox.name)
            outbox.close()
        assert len(names) == 2

    def test_one_leads(self, tmp_path: Path, clock: ManualClock) -> None:
        one, two = (self.open_outbox(tmp_path, clock=clock) for _ in range(2))
        assert one.lead()
        assert one.lead()
        assert not two.lead()
        one.resign()
        assert two.lead()
        assert not one.lead()
        two.close()
        assert one.lead()
        one.close()

    def test_two_outboxes_on_one_folder_are_one(self, tmp_path: Path, clock: ManualClock) -> None:
        one, two = (self.open_outbox(tmp_path, clock=clock) for _ in range(2))
        assert one.name == two.name
        one.append([click(id="a")])
        assert two.append([click(id="a"), click(id="b")]).duplicates == 1
        assert read_all(one) == read_all(two)
        end = read_all(one)[-1].place
        threading.Timer(0.05, lambda: two.append([click()])).start()
        started = time.monotonic()
        assert one.wait(end, 5)
        assert time.monotonic() - started < 2
        one.close()
        two.close()

    def test_many_threads_each_id_once_and_batches_stay_in_order(self, outbox: Outbox) -> None:
        batches = [[click(id=str(index)) for index in range(start, start + 20)] for start in range(0, 200, 10)] * 3
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(outbox.append, batches))
        waiting = read_all(outbox)
        assert sorted(int(pending.event.id or "") for pending in waiting) == list(range(210))
        assert sum(result.accepted for result in results) == 210
        assert all(result.accepted + result.duplicates == 20 for result in results)
        places = {pending.event.id: pending.place for pending in waiting}
        for batch, result in zip(batches, results, strict=True):
            assert result.places[LAYOUT.user("u1")] == max(places[event.id] for event in batch)

    def test_a_poller_beside_eight_writers_loses_nothing(self, tmp_path: Path, clock: ManualClock) -> None:
        """Half of the writers have an outbox object of their own, as other processes do."""
        outboxes = [self.open_outbox(tmp_path, clock=clock) for _ in range(3)]
        accepted: list[str] = []
        done = threading.Event()
        seen: list[Pending] = []

        def write(writer: int) -> None:
            for turn in range(25):
                events = [click(f"u{writer}", id=f"{writer}-{turn}-{index}") for index in range(1 + turn % 3)]
                outboxes[1 + writer % 2].append(events)
                accepted.extend(event.id or "" for event in events)

        def poll() -> None:
            while True:
                last = done.is_set()
                some = outboxes[0].read(seen[-1].place if seen else None, 50)
                seen.extend(some)
                if some and len(seen) % 3 == 0:
                    outboxes[0].confirm(seen[-1].place)
                if last and not some:
                    return

        poller = threading.Thread(target=poll)
        poller.start()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        done.set()
        poller.join(60)
        assert sorted(pending.event.id or "" for pending in seen) == sorted(accepted)
        assert [pending.place for pending in seen] == sorted({pending.place for pending in seen})
        for writer in range(8):
            own = [p.event.id or "" for p in seen if (p.event.id or "").startswith(f"{writer}-")]
            assert own == sorted(own, key=lambda id: [int(part) for part in id.split("-")]), "a writer's own order"
        for outbox in outboxes:
            outbox.close()


def _timed(event: Event, ts: int) -> Event:
    from msgspec.structs import replace

    return replace(event, ts=ts)
