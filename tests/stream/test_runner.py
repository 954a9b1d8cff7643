from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.clock import ManualClock
from penchant.core.events import (
    Event,
    Impression,
    ItemRemoved,
    ItemUpdate,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.fold import Working
from penchant.core.log import Record
from penchant.core.state import StateStore
from penchant.log.memory import MemoryLog
from penchant.log.sqlite import SqliteLog
from penchant.stores.memory import MemoryStore
from penchant.stores.sqlite import SqliteStore
from penchant.stream.runner import StreamRunner, runs
from penchant.stream.working import Overlay, RawCache
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA, click, read_all

PROFILE_EVENTS = ItemUpdate | ItemRemoved | UserUpdate | UserErased


class Killed(BaseException):
    """Stands for the end of the process."""


class History:
    """A fold that notices everything: each key keeps the positions of its records in order, as text."""

    fingerprint = "history"

    def apply(self, records: Sequence[Record], state: Working) -> None:
        others = False
        for record in records:
            event = record.event
            if isinstance(event, PROFILE_EVENTS):
                assert not others, "a profile event after another one"
            else:
                others = True
            mark = b"%d " % record.position
            if isinstance(event, UserErased):
                if event.user_id:
                    state.put(b"u" + event.user_id.encode(), None)
                continue
            for kind, name in ((b"u", getattr(event, "user_id", "")), (b"i", getattr(event, "item_id", ""))):
                if name:
                    key = kind + name.encode()
                    state.put(key, (state.get_many([key, b"?"])[0] or b"") + mark)
            (rows,) = state.get_many([b"#rows"])
            state.put(b"#rows", b"%d" % (int(rows or b"0") + 1))


def memory_log() -> MemoryLog:
    return MemoryLog(schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)


def contents(store: StateStore) -> dict[bytes, bytes]:
    snapshot = store.snapshot()
    try:
        return {key: value for prefix in (b"u", b"i", b"#") for key, value in snapshot.scan(prefix)}
    finally:
        snapshot.close()


def drain(runner: StreamRunner) -> int:
    total = 0
    while done := runner.step():
        total += done
    return total


def random_events(rng: random.Random, count: int, *, erase: bool = True) -> list[Event]:
    def event() -> Event:
        user, item = f"u{rng.randrange(5)}", f"i{rng.randrange(8)}"
        kind = rng.randrange(10)
        if kind == 0:
            return ItemUpdate(item_id=item, attributes={})
        if kind == 1:
            return UserUpdate(user_id=user, attributes={})
        if kind == 2 and erase:
            return UserErased(user_id=user)
        if kind == 3:
            return Impression(user_id=user, items=[ShownItem(item)])
        return click(user, item)

    return [event() for _ in range(count)]


def folded_slowly(events: Sequence[Event]) -> dict[bytes, bytes]:
    """What the state must be: one record at a time, nothing cached, nothing erased from the log."""
    log, store = memory_log(), MemoryStore(fingerprint="f")
    log.append(events)
    position = 0
    for record in log.read(0, len(events)):
        snapshot = store.snapshot()
        working = Overlay(snapshot, RawCache(0))
        History().apply([record], working)
        store.commit(position, record.position, working.writes)
        position = record.position
        snapshot.close()
    return contents(store)


def test_runs_are_cut_before_a_profile_event_that_follows_another():
    log = memory_log()
    profile = [ItemUpdate(item_id="i", attributes={}), UserUpdate(user_id="u", attributes={}),
               ItemRemoved(item_id="i"), UserErased(user_id="u")]  # fmt: skip
    log.append([*profile, click(), click(), profile[0], profile[1], click(), profile[2]])
    records = log.read(0, 100)
    assert [len(run) for run in runs(records)] == [6, 3, 1]
    assert [record for run in runs(records) for record in run] == list(records)
    assert [len(run) for run in runs(records[:4])] == [4]
    assert [len(run) for run in runs(records[4:6])] == [2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([0, 400, 1 << 20]))
def test_how_records_are_batched_and_cached_does_not_matter(seed, batch, cache_bytes):
    rng = random.Random(seed)
    events = random_events(rng, 120)
    log, store = memory_log(), MemoryStore(fingerprint="f")
    runner = StreamRunner(log, store, [History()], batch=batch, cache_bytes=cache_bytes)
    start = 0
    while start < len(events):
        end = start + rng.randrange(1, 50)
        log.append(events[start:end])
        start = end
        drain(runner)
        assert (runner.position, runner.lag) == (log.end(), 0)
    assert contents(store) == folded_slowly(events)


STEPS = ("read", "folded", "before_commit", "after_commit")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 6)), max_size=12))
def test_a_death_anywhere_is_harmless(seed, deaths):
    """Runners die at drawn steps, sometimes two compete, sometimes one goes on with what it remembers."""
    rng = random.Random(seed)
    events = random_events(rng, 150)
    log, store = memory_log(), MemoryStore(fingerprint="f")
    log.append(events)
    plan = list(deaths)

    def failpoint(name: str) -> None:
        if plan and plan[0][0] == name:
            if plan[0][1] == 0:
                plan.pop(0)
                raise Killed
            plan[0] = (name, plan[0][1] - 1)

    def start() -> StreamRunner:
        return StreamRunner(log, store, [History()], batch=rng.randrange(1, 30), failpoint=failpoint)

    runners = [start(), start()]
    for _ in range(2_000):
        which = rng.randrange(2)
        try:
            if rng.random() < 0.1:
                runners[which].check()
            runners[which].step()
        except Killed:
            if rng.random() < 0.7:
                runners[which] = start()
        if store.position() == log.end():
            break
    plan.clear()
    runners[0].check()
    assert contents(store) == folded_slowly(events)
    assert list(log.erasures(log.end())) == [], "what a dead runner left to erase is erased"


class Flaky(MemoryLog):
    """A log whose `erase` dies before or after it did its work."""

    deaths: list[str]

    def erase(self, user_id: str, upto: int | None = None) -> int:
        death = self.deaths.pop() if self.deaths else ""
        if death == "before":
            raise Killed
        changed = super().erase(user_id, upto)
        if death == "after":
            raise Killed
        return changed


@pytest.mark.parametrize("deaths", [["before"], ["after"], ["before", "after", "before"]])
def test_an_erasure_cut_off_between_state_and_log_is_finished_by_the_next_start(deaths):
    log = Flaky(schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)
    log.deaths = list(deaths)
    store = MemoryStore(fingerprint="f")
    log.append([click("eve"), click("bob"), UserErased(user_id="eve"), click("eve"), UserErased(user_id="bob")])
    for _ in range(5):
        try:
            runner = StreamRunner(log, store, [History()])
            drain(runner)
            break
        except Killed:
            assert runner.position == 5
    assert [getattr(record.event, "user_id", None) for record in read_all(log)] == ["", "", "", "eve", ""]
    assert contents(store)[b"ueve"] == b"4 "
    assert b"ubob" not in contents(store)


def test_state_folded_again_from_an_erased_log_is_the_same():
    log, store = memory_log(), MemoryStore(fingerprint="f")
    log.append(random_events(random.Random(3), 300))
    drain(StreamRunner(log, store, [History()], batch=17))
    again = MemoryStore(fingerprint="f")
    drain(StreamRunner(log, again, [History()], batch=40))
    assert contents(again) == contents(store)


def test_a_state_ahead_of_its_log_is_folded_anew(caplog):
    caplog.set_level(logging.WARNING, "penchant")
    log, store = memory_log(), MemoryStore(fingerprint="f")
    events = random_events(random.Random(5), 50, erase=False)
    log.append(events)
    store.commit(0, 1_000, {b"uwrong": b"x"})
    runner = StreamRunner(log, store, [History()])
    drain(runner)
    assert contents(store) == folded_slowly(events)
    assert "folded anew" in caplog.text

    # The same while it runs idle: the heartbeat sees it.
    store.commit(50, 2_000, {b"uwrong": b"x"})
    assert runner.step() == 0
    runner.check()
    drain(runner)
    assert contents(store) == folded_slowly(events)


def test_a_store_put_back_to_an_older_copy_is_caught_up_by_the_heartbeat():
    log, store = memory_log(), MemoryStore(fingerprint="f")
    log.append(random_events(random.Random(6), 50, erase=False))
    runner = StreamRunner(log, store, [History()])
    drain(runner)
    before = contents(store)
    store.clear()
    assert runner.step() == 0
    runner.check()
    drain(runner)
    assert contents(store) == before


def test_a_heartbeat_during_which_another_runner_commits_leaves_nothing_stale(monkeypatch):
    log, store = memory_log(), MemoryStore(fingerprint="f")
    events = random_events(random.Random(8), 60, erase=False)
    runner, other = StreamRunner(log, store, [History()]), StreamRunner(log, store, [History()])
    log.append(events[:30])
    drain(runner)
    log.append(events[30:45])
    look = store.position

    def overtaken() -> int:
        position = look()
        monkeypatch.setattr(store, "position", look)
        other.step()
        return position

    monkeypatch.setattr(store, "position", overtaken)
    runner.check()
    log.append(events[45:])
    drain(runner)
    assert contents(store) == folded_slowly(events)


def test_run_follows_the_log_until_told_to_stop(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.db", schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)
    store = SqliteStore(tmp_path / "state.db", fingerprint="f")
    stop = threading.Event()
    runners = [StreamRunner(log, store, [History()], batch=20) for _ in range(2)]
    threads = [threading.Thread(target=runner.run, args=(stop,)) for runner in runners]
    for thread in threads:
        thread.start()
    events = random_events(random.Random(8), 400, erase=False)
    for start in range(0, 400, 10):
        log.append(events[start : start + 10])
    deadline = time.monotonic() + 20
    while store.position() < 400 and time.monotonic() < deadline:
        time.sleep(0.002)
    log.append([click("last")])
    started = time.monotonic()
    while store.position() < 401 and time.monotonic() < deadline:
        time.sleep(0.0005)
    assert time.monotonic() - started < 0.5
    stop.set()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert contents(store) == folded_slowly([*events, click("last")])
    log.close()
    store.close()


def test_run_never_skips_what_it_cannot_fold(monkeypatch, caplog):
    monkeypatch.setattr("penchant.stream.runner._BACKOFF_S", (0.001,))
    log, store = memory_log(), MemoryStore(fingerprint="f")
    log.append([click()])
    broken = True

    class Fold(History):
        def apply(self, records: Sequence[Record], state: Working) -> None:
            if broken:
                raise ZeroDivisionError("on purpose")
            super().apply(records, state)

    runner = StreamRunner(log, store, [Fold()])
    stop = threading.Event()
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 5
    while runner.error is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert runner.error == "ZeroDivisionError: on purpose"
    assert store.position() == 0
    broken = False
    while (store.position() < 1 or runner.error) and time.monotonic() < deadline:
        time.sleep(0.001)
    stop.set()
    thread.join(5)
    assert runner.error is None
    assert contents(store) == folded_slowly([click()])
    assert "stands still" in caplog.text


def test_the_cache_is_bounded_and_remembers_absence():
    cache = RawCache(2_000)
    for index in range(100):
        cache.put(b"u%d" % index, b"x" * index)
        assert cache.size <= 2_000
    assert 0 < len(cache) < 20
    assert cache.get(b"u99", b"?") == b"x" * 99
    assert cache.get(b"u0", b"?") == b"?"
    cache.put(b"u99", None)
    assert cache.get(b"u99", b"?") is None
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)


def test_an_overlay_reads_its_writes_and_the_store_only_once():
    store = MemoryStore(fingerprint="f")
    store.commit(0, 1, {b"ua": b"1", b"ub": b"2"})
    asked: list[list[bytes]] = []
    snapshot = store.snapshot()
    get_many = snapshot.get_many
    snapshot.get_many = lambda keys: asked.append(list(keys)) or get_many(keys)  # type: ignore[method-assign]
    overlay = Overlay(snapshot, RawCache(10_000))
    overlay.put(b"ub", None)
    assert list(overlay.get_many([b"ua", b"ub", b"uc", b"ua"])) == [b"1", None, None, b"1"]
    assert list(overlay.get_many([b"uc", b"ua", b"ub"])) == [None, b"1", None]
    assert asked == [[b"ua", b"uc", b"ua"]]
    assert overlay.writes == {b"ub": None}


WORKER = """
import sys
from penchant.core.clock import ManualClock
from penchant.log.sqlite import SqliteLog
from penchant.stores.sqlite import SqliteStore
from penchant.stream.runner import StreamRunner
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA
from stream.test_runner import History
log = SqliteLog(sys.argv[1] + "/log.db", schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)
store = SqliteStore(sys.argv[1] + "/state.db", fingerprint="f")
runner = StreamRunner(log, store, [History()], batch=10)
print("up", flush=True)
while runner.step():
    print(runner.position, flush=True)
"""


def test_real_kills_leave_the_state_exact(tmp_path: Path):
    """Two processes fold at once and are killed; what a third completes equals the slow fold."""
    events = random_events(random.Random(11), 1_500)
    log = SqliteLog(tmp_path / "log.db", schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)
    log.append(events)
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root / 'tests'}"}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environ)
        for _ in range(2)
    ]
    for worker, commits in zip(workers, (5, 12), strict=True):
        assert worker.stdout is not None
        for _ in range(commits):
            worker.stdout.readline()
        worker.kill()
    for worker in workers:
        worker.communicate()
    store = SqliteStore(tmp_path / "state.db", fingerprint="f")
    assert store.position() > 0
    runner = StreamRunner(log, store, [History()], batch=37)
    drain(runner)
    runner.check()
    assert contents(store) == folded_slowly(events)
    assert list(log.erasures(log.end())) == []
    for index in range(5):
        named = [r.position for r in read_all(log) if getattr(r.event, "user_id", "") == f"u{index}"]
        erased = [n for n, event in enumerate(events, 1) if event == UserErased(user_id=f"u{index}")]
        assert min(named, default=9_999) > max(erased, default=0)
    log.close()
    store.close()


def test_an_erased_person_is_in_no_byte_of_the_state(tmp_path: Path):
    log = SqliteLog(tmp_path / "log.db", schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)
    store = SqliteStore(tmp_path / "state.db", fingerprint="f")
    runner = StreamRunner(log, store, [History()], batch=50)
    eve, bob = "eve-unmistakable", "bob-unmistakable"
    for _ in range(20):
        log.append([click(name) for name in (eve, bob, "someone") for _ in range(30)])
    drain(runner)
    log.append([UserErased(user_id=eve)])
    reader = store.snapshot()  # holds the old pages
    drain(runner)
    reader.close()
    runner.check()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert eve.encode() not in left
    assert bob.encode() in left
    log.close()
    store.close()
