"""A log and a state in partitions on lists, everything that can go wrong with them, and what the state must be then."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from flow.test_crash import _finished
from flow.world import DAY, HOUR, NOW, bits, folded_at_once, made_up
from penchant.assembly.parts import Definition, session_gap
from penchant.core.clock import ManualClock
from penchant.core.errors import LogUnavailable, StateUnavailable
from penchant.core.events import Event, Impression, Interaction, ItemRemoved, ItemUpdate, UserErased
from penchant.core.log import START, Record
from penchant.core.partitions import (
    META_KEY,
    Commit,
    Layout,
    Message,
    Outgoing,
    Partition,
    Sent,
    decode_meta,
    encode_meta,
)
from penchant.core.profiles import decode_item
from penchant.core.stamping import is_timed, stamped
from penchant.log.memory_partitions import Faults, MemoryBroker, MemoryMembership
from penchant.log.sequence import quantised
from penchant.retrieval.covisit_fold import TABLE
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores
from penchant.stream.sides import Sides
from penchant.stream.worker import Worker
from penchant.testing.oracles.features import FeatureOracle

LATENESS = 2 * DAY
POINTS = ("read", "folded", "sent", "committed")


class Killed(BaseException):
    """Stands for the end of a process."""


class Rewindable(MemoryStore):
    """A store that can be put back to an older copy of itself."""

    def copy(self) -> Any:
        with self._lock:
            return self._position, dict(self._entries), list(self._tracked), self._tracked_keys

    def put_back(self, copy: Any) -> None:
        with self._lock:
            self._position, entries, tracked, self._tracked_keys = copy
            self._entries, self._tracked = dict(entries), list(tracked)


class Lone(MemoryMembership):
    """A member that believes that every partition is its own, whoever else there is."""

    def _rebalance(self) -> None:
        fresh = sorted(set(self._broker.layout.all()) - self._after.keys())
        if fresh:
            self._after.update(self._assigned(fresh))


def sides_of(definition: Definition, layout: Layout, *, follows_events: bool = False) -> Sides:
    settings = definition.settings
    return Sides(
        definition.schema,
        definition.plan,
        layout=layout,
        partners=settings.sources.partners,
        session=session_gap(settings),
        implicit=settings.catalog.implicit,
        lateness=LATENESS,
        follows_events=follows_events,
    )


class Flaky:
    """State behind a network: what it was asked may be done or not, and the answer is lost."""

    def __init__(self, state: SeparateStores, rng: random.Random, chance: float) -> None:
        self._state, self._rng, self._chance = state, rng, chance

    def read(self, wanted: Any) -> Any:
        self._fail()
        return self._state.read(wanted)

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        self._fail()
        if self._rng.random() < self._chance:
            self._state.commit(commits[: self._rng.randrange(len(commits) + 1)])
            raise StateUnavailable("no answer")
        return self._state.commit(commits)

    def partition(self, partition: Partition) -> Any:
        return self._state.partition(partition)

    def _fail(self) -> None:
        if self._rng.random() < self._chance:
            raise StateUnavailable("away")


class Relay:
    """Sends events in order, resends what it is not sure of, and decides the join with the catalogue."""

    def __init__(self, broker: MemoryBroker, rng: random.Random, source: str = "outbox") -> None:
        self._broker, self._rng, self._source = broker, rng, source
        self._sender = broker.sender()
        self._items: dict[str, dict[str, Any]] = {}
        self._removed: set[str] = set()
        self.rows: list[Outgoing] = []
        self._confirmed = 0

    def take(self, events: Iterable[Event]) -> None:
        layout = self._broker.layout
        for event in events:
            place = (0, len(self.rows) + 1)
            if isinstance(event, ItemUpdate | ItemRemoved):
                self._change(event)
                partition, key, body = layout.item(event.item_id), event.item_id, Sent(event)
            else:
                names = (
                    [event.item_id]
                    if isinstance(event, Interaction)
                    else [shown.item_id for shown in event.items]
                    if isinstance(event, Impression)
                    else []
                )
                partition, key = layout.user(event.user_id), event.user_id
                body = Sent(event, [self._items.get(name, {}) for name in names])
            self.rows.append(Outgoing(partition, key, self._source, place, event.id, body))

    def send(self, resend: float = 0.0) -> None:
        """Until all are confirmed."""
        while self._confirmed < len(self.rows):
            if self._rng.random() < resend:  # it died before it could note what was confirmed
                self._confirmed = max(0, self._confirmed - self._rng.randrange(30))
            some = self.rows[self._confirmed : self._confirmed + self._rng.randrange(1, 12)]
            try:
                self._sender.send(some)
                self._confirmed += len(some)
            except LogUnavailable:
                pass

    def _change(self, event: ItemUpdate | ItemRemoved) -> None:
        if isinstance(event, ItemRemoved):
            self._removed.add(event.item_id)
            self._items[event.item_id] = {}
        elif event.item_id not in self._removed:
            old = self._items.get(event.item_id, {}) if event.merge else {}
            new = {name: event.attributes[name] for name in event.attributes.keys() & {"genres", "creator", "country"}}
            self._items[event.item_id] = {**old, **new}


class Cluster:
    """A broker, a state, and workers that can be killed."""

    def __init__(
        self,
        definition: Definition,
        seed: int,
        *,
        layout: Layout | None = None,
        faults: Mapping[str, float] | None = None,
        make: Callable[..., Worker] = Worker,
        state: Callable[[SeparateStores], Any] = lambda state: state,
    ) -> None:
        self.definition = definition
        self.rng = random.Random(seed)
        self.layout = layout or Layout(users=7, items=3)
        self.clock = ManualClock(NOW)
        self.faults = Faults(rng=random.Random(seed + 1), **(faults or {}))  # type: ignore[arg-type]
        self.broker = MemoryBroker(self.layout, self.clock, self.faults)
        self.stores = SeparateStores(lambda _: Rewindable(fingerprint="f"), self.layout)
        self.relay = Relay(self.broker, self.rng)
        self.workers: list[Worker] = []
        self.kills: dict[str, int] = {}
        self.armed: tuple[str, int] | None = None
        self._make, self._state = make, state

    def worker(self, *, lone: bool = False, **options: Any) -> Worker:
        join = (lambda *told: Lone(self.broker, *told)) if lone else self.broker.join
        options = {"batch": self.rng.choice([3, 20, 250]), "poll": self.rng.choice([5, 60, 2_000]), **options}
        return self._make(
            join,
            self.broker.sender,
            self.broker.reader(),
            self._state(self.stores),
            sides_of(self.definition, self.layout),
            clock=self.clock,
            rng=self.rng,
            cache_bytes=self.rng.choice([0, 1 << 16, 1 << 24]),
            failpoint=self._reach,
            **options,
        )

    def step(self, which: int) -> int:
        """One step of a worker; one that dies is born again, one whose step fails tries again later."""
        worker = self.workers[which]
        try:
            return worker.step(0)
        except (LogUnavailable, StateUnavailable):
            return 1
        except Killed:
            membership: Any = worker._membership
            lone = isinstance(membership, Lone)
            if not lone and membership is not None:
                self.broker.expel(membership)
            self.workers[which] = self.worker(lone=lone)
            return 1

    def settle(self) -> None:
        """Until everything is folded and every fence has been looked at."""
        self.armed = None
        self.faults.fail = 0
        self.clock.advance(1_000)
        quiet = 0
        for _ in range(20_000):
            if self.faults.redeliver and self.is_folded():
                self.faults.redeliver = self.faults.delay = 0
            quiet = 0 if sum(self.step(which) for which in range(len(self.workers))) else quiet + 1
            if quiet >= 3 and self.is_folded():
                # Once more, as somebody may have gone by a fence that was put back.
                self.clock.advance(1_000)
                if not sum(self.step(which) for which in range(len(self.workers))) and self.is_folded():
                    return
                quiet = 0
            elif quiet >= 3:
                self.clock.advance(1_000)
        raise AssertionError("it never comes to rest")

    def is_folded(self) -> bool:
        reader = self.broker.reader()
        return all(self.store(p).position() == reader.end(p) for p in self.layout.all())

    def store(self, partition: Partition) -> Rewindable:
        return self.stores.partition(partition)  # type: ignore[return-value]

    def messages(self, partition: Partition) -> list[Message]:
        return list(self.broker.reader().read(partition, START, 1 << 30))

    def contents(self) -> dict[Partition, dict[bytes, bytes]]:
        found = {}
        for partition in self.layout.all():
            snapshot = self.store(partition).snapshot()
            found[partition] = dict(snapshot.scan(b""))
        return found

    def folded_again(self) -> dict[Partition, dict[bytes, bytes]]:
        """What the partitions' logs fold to when nothing happens: by one worker that knows nothing and tells nobody."""
        stores = SeparateStores(lambda _: Rewindable(fingerprint="f"), self.layout)
        saved, self.stores, faults, wrap = self.stores, stores, self.faults, self._state
        self.broker.faults = Faults()
        self._state = lambda state: state
        try:
            worker = self.worker(lone=True, emit=False, batch=1 << 20, poll=1 << 20)
            while worker.step(0):
                pass
            return self.contents()
        finally:
            self.stores, self.broker.faults, self._state = saved, faults, wrap

    def records(self) -> list[Record]:
        """What the relay sent, as one log would have it: in its order, each when it first arrived in its partition."""
        arrived: dict[tuple[int, int], int] = {}
        for partition in self.layout.all():
            for message in self.messages(partition):
                if isinstance(message.body, Sent):
                    arrived.setdefault(message.place, message.appended_at)
        schema, known, records = self.definition.schema, set(), []
        for number, row in enumerate(self.relay.rows, 1):
            event = row.body.event  # type: ignore[union-attr]
            if row.place not in arrived or event.id in known:
                continue
            known.add(event.id)
            at = arrived[row.place]
            ts, verdict = stamped(event.ts, at, is_timed(event), LATENESS)
            records.append(Record(number, at, ts, verdict, quantised(event, schema), event))
        return records

    def _reach(self, name: str) -> None:
        if self.armed is not None and self.armed[0] == name:
            if self.armed[1] == 0:
                self.armed = None
                self.kills[name] = self.kills.get(name, 0) + 1
                raise Killed(name)
            self.armed = name, self.armed[1] - 1


def drawn(
    seed: int, count: int, now: int, *, users: int, items: int, prefix: str, erase: bool = True, again: float = 0.02
) -> list[Event]:
    """Made-up events, each at a time of its own, of which some are sent by the client again."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    source = made_up(rng, now, users=users, items=items, prefix=prefix, erase=erase)
    while len(events) < count:
        event = next(source)
        if event.ts is not None:
            # Ties between people are broken by position, and items do not have those of one log.
            event = msgspec.structs.replace(event, ts=event.ts - int(rng.integers(0, HOUR)))
        events.append(event)
        if rng.random() < again and not isinstance(event, UserErased):
            person = getattr(event, "user_id", None)
            past = events[-int(rng.integers(1, 12)) :]
            if not any(isinstance(e, UserErased) and e.user_id == person for e in past):
                events.append(event)
    return events


def plain(contents: Mapping[Partition, Mapping[bytes, bytes]]) -> dict[Partition, dict[bytes, bytes]]:
    """Without what tells how often a log lost messages."""
    found = {}
    for partition, values in contents.items():
        found[partition] = dict(values)
        if META_KEY in values:
            meta = decode_meta(values[META_KEY])
            meta.epoch = meta.told = 0
            meta.sources = dict(sorted(meta.sources.items()))
            found[partition][META_KEY] = encode_meta(meta)
    return found


def differing(left: Mapping[Partition, Mapping[bytes, bytes]], right: Mapping[Partition, Mapping[bytes, bytes]]) -> int:
    """How many cells are not byte for byte the same."""
    return sum(
        left[partition].get(key) != right[partition].get(key)
        for partition in left
        for key in left[partition].keys() | right[partition].keys()
    )


class Comparison:
    """Cells compared and those that are wrong."""

    def __init__(self) -> None:
        self.cells = 0
        self.wrong: list[str] = []

    def equal(self, what: str, left: object, right: object) -> None:
        self.cells += max(1, len(right)) if isinstance(right, list | dict) else 1
        if left != right:
            self.wrong.append(f"{what}: {left!r} is not {right!r}")


def compared(
    definition: Definition,
    contents: Mapping[Partition, Mapping[bytes, bytes]],
    layout: Layout,
    people: Sequence[Record],
    items: Sequence[Record],
    now: int,
    *,
    joined: bool = True,
) -> Comparison:
    """The state against the embedded fold and the oracle over the same records: what people did, what items saw.

    Not `joined`: what items have of a person's other deeds and attributes is left out.
    """
    told = Comparison()
    found = {key: value for values in contents.values() for key, value in values.items() if key[:1] in b"uprsicnv"}
    for side, records, kinds in (("users", people, b"uprs"), ("items", items, b"icnv" if joined else b"ic")):
        store = folded_at_once(definition, records)
        expected = {k: v for k, v in dict(store.snapshot().scan(b"")).items() if k[:1] in kinds}
        mine = {k: v for k, v in found.items() if k[:1] in kinds}
        # `n` of the embedded fold can be there or not for the same pairs only.
        told.equal(f"keys of {side}", sorted(expected.keys() ^ mine.keys()), [])
        for key in expected.keys() & mine.keys():
            if joined or key[:1] != b"i":
                _same_entity(told, definition, key, mine[key], expected[key], now)
            else:
                told.equal(
                    f"{key!r} counters", *(definition.reader.counters(blob) for blob in (mine[key], expected[key]))
                )
    if joined:
        _same_as_oracle(told, definition, found, people, items, now)
    for partition, values in contents.items():
        counted = sum(key[:1] == (b"u" if partition.side == "users" else b"c") for key in values)
        told.equal(f"entities of {partition}", decode_meta(values.get(META_KEY)).entities, counted)
    for partition in layout.all():
        if partition.side == "items":
            rows = sorted(decode_item(v).row for k, v in contents[partition].items() if k[:1] == b"c")
            told.equal(f"rows of {partition}", rows, list(range(len(rows))))
    return told


def _same_entity(told: Comparison, definition: Definition, key: bytes, mine: bytes, other: bytes, now: int) -> None:
    reader, name = definition.reader, key.decode()
    match key[:1]:
        case b"u":
            a, b = (reader.user(1, blob, None, now) for blob in (mine, other))
            for field in ("items", "actions", "ts", "values"):
                told.equal(f"{name} history {field}", *(getattr(s.history, field).tolist() for s in (a, b)))
            told.equal(f"{name} seen", a.seen.tolist(), b.seen.tolist())
            told.equal(f"{name} hidden", a.hidden.tolist(), b.hidden.tolist())
            told.equal(f"{name} features", bits(a.features), bits(b.features))
            told.equal(f"{name} keyed", *([[x.tolist() for x in p] for p in s.keyed] for s in (a, b)))
            told.equal(f"{name} counters", reader.counters(mine), reader.counters(other))
        case b"i":
            a_all, b_all = (reader.evaluate_items([blob], now) for blob in (mine, other))
            told.equal(f"{name} features", bits(a_all.features), bits(b_all.features))
            for cross in a_all.keyed:
                told.equal(
                    f"{name} {cross}",
                    *((e.keyed[cross].keys.tolist(), e.keyed[cross].values.tolist()) for e in (a_all, b_all)),
                )
            told.equal(f"{name} counters", reader.counters(mine), reader.counters(other))
        case b"c":
            a_item, b_item = decode_item(mine), decode_item(other)
            told.equal(name, msgspec.structs.replace(a_item, row=0), msgspec.structs.replace(b_item, row=0))
        case b"r":
            (times, ids), (other_times, other_ids) = (msgspec.msgpack.decode(blob) for blob in (mine, other))
            told.equal(f"{name} newest", ids, other_ids)
            told.equal(f"{name} times", *(np.frombuffer(t, np.int64)[::2].tolist() for t in (times, other_times)))
        case b"n":
            if max(len(mine), len(other)) < 16 * TABLE:
                told.equal(name, mine, other)
        case _:
            told.equal(name, mine, other)


def _same_as_oracle(
    told: Comparison,
    definition: Definition,
    found: Mapping[bytes, bytes],
    people: Sequence[Record],
    items: Sequence[Record],
    now: int,
) -> None:
    reader, plan = definition.reader, definition.plan
    end = max((record.position for record in (*people, *items)), default=0)
    for kind, records, evaluate, names, crosses in (
        (b"u", people, reader.evaluate_users, plan.user_names, plan.cross),
        (b"i", items, reader.evaluate_items, plan.item_names, plan.keyed),
    ):
        oracle = FeatureOracle(definition.settings, definition.schema, records)
        ask = oracle.user if kind == b"u" else oracle.item
        for key, blob in found.items():
            if key[:1] != kind:
                continue
            answer, online = ask(key[1:].decode(), end, now), evaluate([blob], now)
            told.equal(f"{key!r} by the oracle", bits(online.features[0]), bits([answer.scalars[n] for n in names]))
            for cross in crosses:
                mine, theirs = _finished(cross, online.keyed), answer.crosses[cross.name]
                for value in mine.keys() | theirs.keys():
                    told.equal(f"{key!r} {cross.name}", bits(mine.get(value, np.nan)), bits(theirs.get(value, np.nan)))
