"""Kills at drawn points of append, fold and commit, redelivery, competing runners: the state is what the log says."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.world import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    bits,
    contents,
    film,
    folded_at_once,
    made_up,
    records_of,
    settings_of,
    viewer,
)
from penchant.assembly.parts import Definition
from penchant.core.clock import ManualClock
from penchant.core.events import Event
from penchant.core.fold import Working
from penchant.core.log import Record
from penchant.features.finalise import finish_cross
from penchant.log.sqlite import SqliteLog
from penchant.stores.sqlite import SqliteStore
from penchant.stream.runner import StreamRunner
from penchant.testing.oracles.features import FeatureOracle

KILLS = 320
USERS, ITEMS = 40, 60
POINTS = {
    "append": ("log:before_commit", "log:after_commit"),
    "fold": ("runner:read", "fold:0", "fold:1", "fold:2", "runner:folded"),
    "commit": ("runner:before_commit", "store:written", "store:committed", "runner:after_commit"),
    "erase": ("log:before_erase", "log:before_checkpoint"),
}
RUNNER_POINTS = ("runner:read", "runner:folded", "runner:before_commit", "runner:after_commit")

Failpoint = Callable[[str], None]


class Killed(BaseException):
    """Stands for the end of a process."""


class MortalStore(SqliteStore):
    """A store that can die inside its transaction and just after it."""

    failpoint: Failpoint = staticmethod(lambda _: None)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with super()._transaction() as db:
            yield db
            self.failpoint("written")
        self.failpoint("committed")


class Dying:
    """A fold that may die after the work of another one."""

    def __init__(self, inner: Any, failpoint: Failpoint, name: str) -> None:
        self._inner, self._failpoint, self._name = inner, failpoint, name
        self.fingerprint = inner.fingerprint

    def apply(self, records: Sequence[Record], state: Working) -> None:
        self._inner.apply(records, state)
        self._failpoint(self._name)


class Process:
    """Log, store and runner on the files of a folder, as one process has them; `reach` hears of every step."""

    def __init__(self, folder: Path, definition: Definition, clock: ManualClock, batch: int, reach: Failpoint) -> None:
        self.log = SqliteLog(
            folder / "log.sqlite",
            schema=definition.schema,
            clock=clock,
            lateness_ms=2 * DAY,
            failpoint=lambda name: reach(f"log:{name}"),
        )
        # A process dies here, never the machine: what the kernel was given stays, and nobody need wait for the disk.
        self.log._writer.execute("PRAGMA synchronous = OFF")
        self.store = MortalStore(folder / "state.sqlite", fingerprint=definition.state_fingerprint)
        self.store.failpoint = lambda name: reach(f"store:{name}")
        folds = [Dying(fold, reach, f"fold:{number}") for number, fold in enumerate(definition.folds())]
        self.runner = StreamRunner(
            self.log, self.store, folds, batch=batch, failpoint=lambda name: reach(f"runner:{name}")
        )

    def close(self) -> None:
        self.log.close()
        self.store.close()


class Disaster:
    """Two processes on the same files, of which one dies at a drawn point again and again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.folder = folder
        self.definition = Definition.of(settings_of('[surfaces.next]\nsources = [{ name = "session", n = 100 }]'))
        self.clock = ManualClock(NOW)
        self.kills: dict[str, int] = {}
        self.conflicts = 0
        self.originals: list[Record] = []
        self._armed: str | None = None
        self._countdown = 0
        self._nested = False
        self._compete = 0.0
        self.alive = [self._born(0), self._born(1)]

    @property
    def killed(self) -> int:
        return sum(self.kills.values())

    def arm(self) -> None:
        """Draw the next death: a room, a point in it, and how often it is passed before."""
        room = ("append", "fold", "commit", "fold", "commit", "erase")[int(self.rng.integers(6))]
        points = POINTS[room]
        self._armed = points[int(self.rng.integers(len(points)))]
        self._countdown = int(self.rng.integers(3)) if room != "erase" else 0

    def disarm(self) -> None:
        self._armed = None

    def deliver(self, batch: Sequence[Event]) -> None:
        """Send a batch to whoever answers until it is acknowledged; sometimes once more."""
        acknowledged = 0
        while not acknowledged or self.rng.random() < 0.05:
            which = int(self.rng.integers(2))
            try:
                self.alive[which].log.append(batch)
                acknowledged += 1
            except Killed:
                self._reborn(which)

    def step(self, which: int, *, compete: float) -> None:
        self._remember()
        self._compete = compete
        try:
            if self.rng.random() < 0.1:
                self.alive[which].runner.check()
            self.alive[which].runner.step()
        except Killed:
            self._reborn(which)
        self._compete = 0.0

    def _born(self, which: int) -> Process:
        batch = int(self.rng.integers(3, 80))
        return Process(self.folder, self.definition, self.clock, batch, lambda name: self._reach(which, name))

    def _reborn(self, which: int) -> None:
        self.alive[which].close()
        self.alive[which] = self._born(which)

    def _reach(self, which: int, name: str) -> None:
        if not self._nested and name in RUNNER_POINTS and self.rng.random() < self._compete:
            # The other one gets ahead in the middle of this one's step, so that this one's fence is stale.
            self._nested = True
            try:
                self.conflicts += self.alive[1 - which].runner.step() > 0
            except Killed:
                self._reborn(1 - which)
            finally:
                self._nested = False
        if name == self._armed:
            self._countdown -= 1
            if self._countdown < 0:
                self._armed = None
                self.kills[name] = self.kills.get(name, 0) + 1
                raise Killed(name)

    def _remember(self) -> None:
        """Records as they were before an erasure takes names out of them."""
        after = self.originals[-1].position if self.originals else 0
        self.originals += records_of(self.alive[0].log, after)


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("PENCHANT_SEED", int.from_bytes(os.urandom(4), "big")))


def test_kills_everywhere_leave_the_state_equal(tmp_path: Path, seed: int, figures: Callable[[str], None]) -> None:
    print(f"PENCHANT_SEED={seed}")
    disaster = Disaster(tmp_path, seed)
    rng = disaster.rng
    first = [film(number, rng) for number in range(ITEMS)] + [viewer(number) for number in range(USERS)]
    sent: list[Event] = []
    delivered: list[Event] = []
    numbers = itertools.count()

    def deliver(batch: list[Event]) -> None:
        sent.extend(batch)
        disaster.deliver(batch)
        delivered.append(batch[0])

    deliver([_with_id(event, f"first{next(numbers)}") for event in first])
    batches = 0
    while disaster.killed < KILLS:
        disaster.arm()
        disaster.clock.advance(int(rng.choice([0, 1, MINUTE, HOUR, 6 * HOUR], p=[0.3, 0.3, 0.2, 0.15, 0.05])))
        fresh = made_up(rng, disaster.clock.now(), users=USERS, items=ITEMS, prefix=f"b{batches}:")
        deliver(list(itertools.islice(fresh, int(rng.integers(1, 14)))))
        batches += 1
        for _ in range(int(rng.integers(0, 4))):
            disaster.step(int(rng.integers(2)), compete=0.1)
    disaster.disarm()
    while disaster.alive[0].store.position() < disaster.alive[0].log.end():
        disaster.step(int(rng.integers(2)), compete=0.1)
    disaster.alive[0].runner.check()
    log, store = disaster.alive[0].log, disaster.alive[0].store
    disaster._remember()
    records = disaster.originals

    assert [record.position for record in records] == list(range(1, len(sent) + 1))
    assert [record.event for record in records] == sent, "each event once, in the order of delivery"
    assert list(log.erasures(log.end())) == []

    cells, wrong = compared(disaster.definition, records, store, disaster.clock.now())
    for one in disaster.alive:
        one.close()
    places = ", ".join(f"{name} {count}" for name, count in sorted(disaster.kills.items()))
    figures(
        f"seed {seed}: {disaster.killed} kills, {disaster.conflicts} steps of a competing runner inside another's step,"
        f" {len(records)} events, {cells} cells compared, {wrong} wrong ({places})"
    )
    assert wrong == 0
    assert len(disaster.kills) >= 12, "every point was hit"


def test_two_threads_compete_and_die(tmp_path: Path, seed: int, figures: Callable[[str], None]) -> None:
    print(f"PENCHANT_SEED={seed}")
    definition, clock = Definition.of(settings_of()), ManualClock(NOW)
    rng = np.random.default_rng(seed)
    source = made_up(rng, NOW, users=USERS, items=ITEMS, prefix="t", erase=False)
    events = list(itertools.islice(source, 2_000))
    kills = [0, 0]
    done = threading.Event()

    def life(which: int) -> None:
        mine = np.random.default_rng(seed + which + 1)

        def reach(name: str) -> None:
            if not done.is_set() and mine.random() < 0.02:
                kills[which] += 1
                raise Killed(name)

        process: Process | None = None
        while not done.is_set():
            try:
                process = process or Process(tmp_path, definition, clock, int(mine.integers(5, 60)), reach)
                if not process.runner.step():
                    process.log.wait(process.runner.position, 0.01)
            except Killed:
                if process is not None:
                    process.close()
                process = None
        if process is not None:
            process.close()

    last = Process(tmp_path, definition, clock, 100, lambda _: None)
    threads = [threading.Thread(target=life, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, len(events), 10):
        last.log.append(events[start : start + 10])
    for _ in range(3_000):
        if last.store.position() == len(events):
            break
        done.wait(0.01)
    done.set()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    while last.runner.step():
        pass
    records = records_of(last.log)
    assert [record.event for record in records] == events
    cells, wrong = compared(definition, records, last.store, NOW)
    last.close()
    figures(f"seed {seed}: {sum(kills)} kills of two runners in threads, {cells} cells compared, {wrong} wrong")
    assert wrong == 0
    assert sum(kills) > 20


def compared(definition: Definition, records: Sequence[Record], store: SqliteStore, now: int) -> tuple[int, int]:
    """Cells compared and wrong: every key byte for byte, every readable feature to the bit with the oracle."""
    expected, found = contents(folded_at_once(definition, records)), contents(store)
    cells = wrong = 0
    for key in expected.keys() | found.keys():
        cells += 1
        wrong += expected.get(key) != found.get(key)
    reader, plan = definition.reader, definition.plan
    oracle = FeatureOracle(definition.settings, definition.schema, records)
    end = records[-1].position
    for at in (now, now + 7 * HOUR, now + 20 * DAY):
        for side, evaluate, ask, names, crosses in (
            ("u", reader.evaluate_users, oracle.user, plan.user_names, plan.cross),
            ("i", reader.evaluate_items, oracle.item, plan.item_names, plan.keyed),
        ):
            entities = [key[1:].decode() for key in expected if key[:1] == side.encode()]
            for entity in entities:
                answer = ask(entity, end, at)
                online = evaluate([found.get(side.encode() + entity.encode())], at)
                pairs = list(zip(bits(online.features[0]), bits([answer.scalars[n] for n in names]), strict=True))
                for cross in crosses:
                    mine = _finished(cross, online.keyed)
                    theirs = answer.crosses[cross.name]
                    pairs += [
                        (bits(mine.get(key, np.nan))[0], bits(theirs.get(key, np.nan))[0])
                        for key in mine.keys() | theirs.keys()
                    ]
                cells += len(pairs)
                wrong += sum(a != b for a, b in pairs)
    return cells, wrong


def _finished(cross: Any, keyed: Any) -> dict[int, np.float32]:
    above = dict(zip(keyed[cross.name].keys.tolist(), keyed[cross.name].values.tolist(), strict=True))
    per = keyed[cross.per_name] if cross.per >= 0 else None
    below = dict(zip(per.keys.tolist(), per.values.tolist(), strict=True)) if per is not None else {}
    keys = sorted({*above, *below})
    values = finish_cross(
        cross,
        np.array([above.get(key, 0) for key in keys], np.int64),
        np.array([below.get(key, 0) for key in keys], np.int64),
    )
    return dict(zip(keys, values, strict=True))


def _with_id(event: Event, name: str) -> Event:
    import msgspec

    return msgspec.structs.replace(event, id=name)
