from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.clock import ManualClock
from penchant.core.errors import StateUnavailable
from penchant.core.events import Event, Impression, Interaction, ItemUpdate, ShownItem, UserErased, UserUpdate
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LATE
from penchant.core.partitions import (
    META_KEY,
    Deed,
    Deeds,
    Layout,
    Message,
    Meta,
    Outgoing,
    Partition,
    Sent,
    decode_meta,
)
from penchant.core.schema import Schema
from penchant.core.state import user_key
from penchant.features.plan import compile_plan
from penchant.features.reader import Reader
from penchant.log.memory_partitions import MemoryBroker
from penchant.settings import parse
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores
from penchant.stream.deeds import MOST, Act, Telling, Visits
from penchant.stream.sequencing import BUCKET, Arrivals, Seen, fresh
from penchant.stream.sides import Sides
from penchant.stream.worker import Worker
from penchant.telemetry import RETRIES

NOW = 1_760_000_000_000
HOUR = 3_600_000
SETTINGS = parse(
    """
[actions]
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds", scale = 1 }
[attributes.item]
genres = "tags"
[attributes.user]
country = "category"
age = "number"
[sources]
segment = "country"
[features.genre_clicks]
entity = ["user", "genres"]
of = "click"
"""
)
SCHEMA = Schema.of(SETTINGS)
PLAN = compile_plan(SETTINGS, SCHEMA)
READER = Reader(PLAN)
LAYOUT = Layout(users=1, items=3)
U0 = Partition("users", 0)


def sides(layout: Layout = LAYOUT, **options: Any) -> Sides:
    return Sides(SCHEMA, PLAN, layout=layout, partners=3, lateness=48 * HOUR, **options)


def click(user: str = "u", item: str = "i", ts: int = NOW, **more: Any) -> Interaction:
    return Interaction(user_id=user, item_id=item, action="click", ts=ts, **more)


def messages(*events: Event, at: int = NOW, source: str = "box", start: int = 0) -> list[Message]:
    return [
        Message(U0, start + n, at, source, (0, start + n), event.id, Sent(event, [{}] * 9))
        for n, event in enumerate(events, 1)
    ]


def folded(
    fold: Sides, some: Sequence[Message], values: dict[bytes, bytes], fence: int = 0
) -> tuple[list[Outgoing], Meta]:
    batch, _ = fold.batch(U0, fence, decode_meta(values.get(META_KEY)), some)
    batch.values.update((key, values.get(key)) for key in fold.wanted(batch))
    told = fold.fold([batch])
    for key, value in batch.commit().writes.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    return told, decode_meta(values[META_KEY])


def deeds_of(told: Sequence[Outgoing]) -> list[tuple[int, Deed]]:
    return sorted(((one.partition.number, deed) for one in told for deed in one.body.deeds), key=_place)  # type: ignore[union-attr]


def _place(told: tuple[int, Deed]) -> tuple[int, int]:
    return told[0], told[1].position


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), max_size=60), st.sets(st.integers(0, 60)))
def test_an_id_is_known_in_its_bucket_and_the_next(steps: list[tuple[int, int]], cuts: set[int]) -> None:
    seen, clock = Seen(None), NOW
    past: list[tuple[int, int]] = []
    for number, (event, hours) in enumerate(steps):
        clock += hours * HOUR
        bucket = clock // BUCKET
        expected = not any(e == event and b in (bucket, bucket - 1) for e, b in past)
        assert seen.first(str(event), clock) == expected
        past.append((event, bucket))
        if number in cuts:
            seen = Seen(seen.pack())
    assert Seen(seen.pack()).pack() == seen.pack()


def events(rng: random.Random, count: int) -> list[Event]:
    def one() -> Event:
        user, item = f"u{rng.randrange(3)}", f"i{rng.randrange(12)}"
        ts = NOW - rng.randrange(60 * HOUR)
        what = rng.randrange(12)
        known = f"e{rng.randrange(200)}" if rng.random() < 0.5 else None
        if what == 0:
            return UserUpdate(user_id=user, attributes={"country": rng.choice("ab")}, merge=rng.random() < 0.5, ts=ts)
        if what == 1:
            return UserErased(user_id=user, ts=ts)
        if what < 4:
            return Impression(user_id=user, items=[ShownItem(f"i{rng.randrange(12)}") for _ in range(5)], ts=ts)
        return click(user, item, ts, id=known)

    return [one() for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sets(st.integers(1, 79)))
def test_state_and_deeds_are_the_same_however_messages_are_cut(seed: int, cuts: set[int]) -> None:
    some = messages(*events(random.Random(seed), 80))
    whole: dict[bytes, bytes] = {}
    at_once, _ = folded(sides(session=HOUR), some, whole)
    values: dict[bytes, bytes] = {}
    told: list[Outgoing] = []
    edges = [0, *sorted(cuts), 80]
    fold = sides(session=HOUR)
    for low, high in itertools.pairwise(edges):
        if high > low:
            told += folded(fold, some[low:high], values, low)[0]
    assert values == whole
    assert deeds_of(told) == deeds_of(at_once)
    counted = sum(key[:1] == b"u" for key in whole)
    assert decode_meta(whole[META_KEY]).entities == counted


def test_a_deed_tells_what_the_person_was_then() -> None:
    update = UserUpdate(user_id="u", attributes={"country": "de", "age": 7}, ts=NOW)
    late = click(ts=NOW - 49 * HOUR)
    told, meta = folded(sides(), messages(click(), update, click(item="j"), late), {})
    deeds = sorted((deed for _, deed in deeds_of(told) if deed.items), key=lambda deed: deed.position)
    assert [deed.attributes for deed in deeds] == [{}, {"country": "de"}, {"country": "de"}]
    assert [deed.verdict for deed in deeds] == [ACCEPTED, ACCEPTED, LATE]
    assert {deed.user for deed in deeds} == {hash_id("u")}
    pairs = sorted(pair for _, deed in deeds_of(told) for pair in deed.pairs)
    assert pairs == [("i", [hash_id("j")]), ("j", [hash_id("i")])]
    assert meta.entities == 1


def test_what_was_resent_is_passed_over_and_what_the_client_sent_again_counts_nothing() -> None:
    values: dict[bytes, bytes] = {}
    first = messages(click(id="a"), click(item="j", id="b"))
    resent = [Message(U0, 3 + n, NOW, m.source, m.place, m.event_id, m.body) for n, m in enumerate(first)]
    again = Message(U0, 5, NOW, "box", (0, 9), "a", Sent(click(id="a"), []))
    fold = sides()
    told, meta = folded(fold, [*first, *resent, again], values)
    assert {deed.position for _, deed in deeds_of(told)} == {1, 2}
    assert meta.sources == {"box": (0, 9)}
    assert READER.counters(values[user_key("u")])["click"] == 2


def test_erasure_drops_all_four_and_later_deeds_start_afresh() -> None:
    values: dict[bytes, bytes] = {}
    update = UserUpdate(user_id="u", attributes={"country": "de"})
    before = messages(click(id="a"), update, UserErased(user_id="u"))
    _, meta = folded(sides(session=HOUR), before, values)
    assert set(values) == {META_KEY}
    assert meta.entities == 0
    _, meta = folded(sides(), messages(click(id="a"), start=3), values, 3)
    assert READER.counters(values[user_key("u")])["click"] == 1
    assert meta.entities == 1


def test_an_erasure_that_the_client_sends_again_erases_nothing() -> None:
    values: dict[bytes, bytes] = {}
    erased = UserErased(user_id="u", id="x")
    folded(sides(), messages(click(), erased, click(), erased), values)
    folded(sides(), messages(click(), erased, start=4), values, 4)
    assert READER.counters(values[user_key("u")])["click"] == 2
    assert not any(b"u" in key for key in values if key[:1] == b"#")


def test_deeds_are_counted_from_where_they_were_known() -> None:
    deed = lambda position: Deed(position, NOW, NOW, ACCEPTED, "click", 0, False, 1, {}, ["i"], [])  # noqa: E731
    message = lambda position, *deeds: Message(  # noqa: E731
        Partition("items", 0), position, NOW, "abc/u000", (deeds[-1].position, 0), None, Deeds(list(deeds))
    )
    meta = Meta()
    new, known = fresh(
        [
            message(1, deed(1), deed(4)),
            message(2, deed(1), deed(4)),
            message(3, deed(4), deed(5), deed(9)),
            Message(Partition("items", 0), 4, NOW, "other/u000", (99, 0), None, Deeds([deed(99)])),
        ],
        meta,
        "abc/",
    )
    assert [[d.position for d in m.body.deeds] for m in new] == [[1, 4], [5, 9]]  # type: ignore[union-attr]
    assert known == 1
    assert meta.sources == {"abc/u000": (9, 0)}


def test_deeds_are_cut_between_positions_only() -> None:
    telling = Telling(Layout(users=1, items=1))
    acts = [Act(n, NOW, NOW, 0, "", 0, False, "u", {}, [f"i{k}" for k in range(MOST // 2)], -1) for n in range(1, 6)]
    acts.append(Act(6, NOW, NOW, 0, "", 0, False, "u", {}, [f"i{k}" for k in range(2 * MOST)], -1))
    told = list(telling.told(acts, Visits({}, np.empty(0, np.int64), np.empty(0, np.int64)), U0, "s"))
    assert [[deed.position for deed in one.body.deeds] for one in told] == [[1, 2], [3, 4], [5], [6]]  # type: ignore[union-attr]
    assert [one.place for one in told] == [(2, 0), (4, 0), (5, 0), (6, 0)]


def test_the_clock_follows_the_events_where_it_is_told_to() -> None:
    def at(clock: int, ts: int, ingested_at: int = 0, **options: bool) -> int:
        message = Message(U0, 1, NOW, "box", (0, 1), None, Sent(click(ts=ts), [], ingested_at))
        return Arrivals(0, **options).at(clock, message, ts)

    assert at(5, NOW - HOUR) == NOW
    assert at(NOW + 1, NOW) == NOW + 1
    assert at(5, NOW - HOUR, NOW - 7) == NOW - 7, "history arrived when the log it comes from took it"
    assert at(5, NOW - HOUR, follows_events=True) == NOW - HOUR
    assert at(NOW - 1, NOW - HOUR, follows_events=True) == NOW - 1
    assert at(5, NOW + HOUR, follows_events=True) == NOW, "never past the broker's clock"


def test_fingerprints_name_what_state_and_deeds_depend_on() -> None:
    one, same = sides(), sides()
    assert (one.fingerprint, one.deeds_fingerprint) == (same.fingerprint, same.deeds_fingerprint)
    listed = sides(implicit=True)
    assert listed.deeds_fingerprint == one.deeds_fingerprint
    assert listed.fingerprint != one.fingerprint
    assert sides(Layout(users=1, items=4)).deeds_fingerprint != one.deeds_fingerprint
    assert sides(follows_events=True).deeds_fingerprint != one.deeds_fingerprint
    gaps = {sides(session=gap).deeds_fingerprint for gap in (None, 1, 2)}
    assert len(gaps) == 3


class Away:
    """A state that answers or does not."""

    def __init__(self, state: SeparateStores) -> None:
        self.state, self.there = state, True

    def __getattr__(self, name: str) -> Any:
        if not self.there:
            raise StateUnavailable("away")
        return getattr(self.state, name)


@pytest.fixture
def running() -> Any:
    layout = Layout(users=2, items=2)
    clock = ManualClock(NOW)
    broker = MemoryBroker(layout, clock)
    state = Away(SeparateStores(lambda _: MemoryStore(fingerprint="f"), layout))
    worker = Worker(
        broker.join, broker.sender, broker.reader(), state, sides(layout), clock=clock, rng=random.Random(0)
    )
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    yield broker, state, worker
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert worker.held == frozenset()


def send(broker: MemoryBroker, place: int, event: Event) -> None:
    layout = broker.layout
    partition = layout.item(event.item_id) if isinstance(event, ItemUpdate) else layout.user(event.user_id)  # type: ignore[union-attr]
    broker.sender().send([Outgoing(partition, "k", "box", (0, place), event.id, Sent(event, [{}]))])


def until(true: Any) -> None:
    for _ in range(2_000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def test_what_fails_for_a_while_is_waited_for(running: Any) -> None:
    broker, state, worker = running
    for number in range(20):
        send(broker, number, click(f"u{number}", f"i{number % 3}"))
    everything = [Partition(side, n) for side in ("users", "items") for n in range(2)]  # type: ignore[arg-type]

    def done() -> bool:
        reader = broker.reader()
        return all(state.state.partition(p).position() == reader.end(p) for p in everything)

    until(done)
    tried = RETRIES.labels("state")._value.get()
    state.there = False
    send(broker, 99, click("late", "i0"))
    until(lambda: worker.error is not None)
    assert worker.error == "StateUnavailable: away"
    until(lambda: RETRIES.labels("state")._value.get() > tried)
    assert not done()
    state.there = True
    until(done)
    until(lambda: worker.error is None)
    broker.down()
    time.sleep(0.05)
    broker.up()
    send(broker, 100, click("later", "i1"))
    until(done)
    blobs = state.state.read([(Partition("items", n), [b"ii0", b"ii1", b"ii2"]) for n in range(2)])
    clicks = sum(READER.counters(blob)["click"] for view in blobs for blob in view.values)
    assert clicks == 22
