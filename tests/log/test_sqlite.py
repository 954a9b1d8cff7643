from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.core.clock import ManualClock
from penchant.core.errors import InvalidEvent, LogFull, PenchantError
from penchant.core.events import Impression, Interaction, ItemUpdate, ShownItem, UserErased, UserUpdate
from penchant.log.group import Batch, GroupCommit
from penchant.log.sqlite import SqliteLog
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA, click, read_all, served


class Killed(BaseException):
    """Stands for the end of the process."""


def open_log(folder: Path, **options) -> SqliteLog:
    return SqliteLog(folder / "log.db", schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS, **options)


def test_accepted_means_synced(tmp_path):
    log = open_log(tmp_path)
    assert log._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert log._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    log.close()
    log.close()


def test_undeclared_actions_do_not_get_in(tmp_path):
    log = open_log(tmp_path)
    with pytest.raises(InvalidEvent):
        log.append([click(), Interaction(user_id="u", item_id="i", action="dance")])
    assert log.end() == 0
    log.close()


def test_a_log_of_another_format_is_refused(tmp_path):
    open_log(tmp_path).close()
    db = sqlite3.connect(tmp_path / "log.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(PenchantError, match="format 99"):
        open_log(tmp_path)


def test_the_epoch_stays_with_the_log(tmp_path):
    log = open_log(tmp_path)
    epoch = log.epoch
    log.close()
    log = open_log(tmp_path)
    assert log.epoch == epoch
    log.close()
    (tmp_path / "other").mkdir()
    log = open_log(tmp_path / "other")
    assert log.epoch != epoch
    log.close()


def test_callers_that_wait_share_a_transaction(tmp_path):
    commits: list[str] = []
    gate = threading.Event()

    def failpoint(name: str) -> None:
        if name == "before_commit":
            commits.append(name)
            gate.wait(10)

    log = open_log(tmp_path, failpoint=failpoint)
    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(log.append, [click(id=f"{index % 6}")]) for index in range(12)]
        while len(log._group._waiting) < 11:
            assert not any(future.done() for future in futures)
        gate.set()
        results = [future.result() for future in futures]
    assert len(commits) == 2
    assert sum(result.accepted for result in results) == 6
    assert sum(result.duplicates for result in results) == 6
    log.close()


def test_a_full_disk_takes_nothing_of_the_batch_and_the_others_go_through(tmp_path):
    gate = threading.Event()
    log = open_log(tmp_path, failpoint=lambda name: name == "before_commit" and gate.wait(10))
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
    log._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    large = [ItemUpdate(item_id=f"i{index}", attributes={"title": "x" * 9_000}, id=f"l{index}") for index in range(30)]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(log.append, [click(id="first")])
        while log._group._waiting or not log._group._led:
            pass
        futures = [pool.submit(log.append, [click(id="a")]), pool.submit(log.append, large)]
        futures += [pool.submit(log.append, [click(id=name)]) for name in "abc"]
        while len(log._group._waiting) < 5:
            pass
        gate.set()
        assert first.result().accepted == 1
        with pytest.raises(LogFull):
            futures[1].result()
        assert sum(future.result().accepted for future in futures[:1] + futures[2:]) == 3
    assert sorted(record.event.id for record in read_all(log)) == ["a", "b", "c", "first"]
    with pytest.raises(LogFull):
        log.append(large)
    log._writer.execute("PRAGMA max_page_count = 1000000")
    assert log.append(large).accepted == 30
    log.close()


def test_a_lock_held_by_another_is_told_as_full(tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.log.sqlite._BUSY_S", 0.05)
    log = open_log(tmp_path)
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogFull):
        log.append([click(id="a")])
    assert log.end() == 0
    other.execute("ROLLBACK")
    other.close()
    assert log.append([click(id="a")]).accepted == 1
    log.close()


@pytest.mark.parametrize(("step", "kept"), [("before_commit", 0), ("after_commit", 2)])
def test_killed_around_the_commit(tmp_path, step, kept):
    def failpoint(name: str) -> None:
        if name == step:
            raise Killed

    log = open_log(tmp_path, failpoint=failpoint)
    with pytest.raises(Killed):
        log.append([click(id="a"), click(id="b")])
    assert log.end() == kept
    log._failpoint = lambda name: None
    again = log.append([click(id="a"), click(id="b")])
    assert (again.accepted, again.duplicates) == (2 - kept, kept)
    log.close()


def test_whoever_waits_for_a_killed_leader_hears_of_it(tmp_path):
    group: GroupCommit[int, int]
    entered, gate = threading.Event(), threading.Event()
    calls: list[int] = []

    def commit(batches: list[Batch[int, int]]) -> None:
        calls.append(len(batches))
        if len(calls) == 1:
            entered.set()
            gate.wait(10)
        elif len(calls) == 2:
            raise Killed
        for batch in batches:
            batch.result = 1

    group = GroupCommit(commit, 100)

    def submit() -> str:
        try:
            return str(group.submit([1]))
        except (Killed, LogFull) as error:
            return type(error).__name__

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(submit)
        entered.wait(10)
        others = [pool.submit(submit) for _ in range(3)]
        while len(group._waiting) < 3:
            pass
        gate.set()
        assert first.result() == "1"
        assert sorted(other.result() for other in others) == ["Killed", "LogFull", "LogFull"]
    assert submit() == "1", "somebody leads again"


def test_groups_are_bounded():
    sizes: list[int] = []
    gate = threading.Event()

    def commit(batches: list[Batch[int, int]]) -> None:
        gate.wait(10)
        sizes.append(sum(len(batch.rows) for batch in batches))
        for batch in batches:
            batch.result = 1

    group: GroupCommit[int, int] = GroupCommit(commit, 10)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(group.submit, [0] * size) for size in (4, 4, 4, 25, 4, 4)]
        while len(group._waiting) < 5:
            pass
        gate.set()
        for future in futures:
            future.result()
    assert sum(sizes) == 45
    assert all(size <= 10 or size == 25 for size in sizes)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.endswith("-shm"))


@pytest.mark.parametrize("crashed", [False, True])
def test_no_byte_of_an_erased_person_is_left(tmp_path, crashed):
    log = open_log(tmp_path)
    people = [f"person-{index}-unmistakable" for index in range(7)]
    for batch in range(40):
        events = []
        for person in people:
            events += [
                click(person, f"i{batch}", id=f"{person}-{batch}", request_id=f"r-{person}"),
                served(f"r-{person}-{batch}", person),
                UserUpdate(user_id=person, attributes={"country": person * (batch % 3 * 30 + 1)}),
                Impression(user_id=person, items=[ShownItem(f"i{n}") for n in range(batch * 5)]),
            ]
        log.append(events)
    counts = [(record.position, getattr(record.event, "item_id", None)) for record in read_all(log)]
    for person in people[:3]:
        log.append([UserErased(user_id=person, id=f"erase-{person}")])
    upto = log.end()
    assert all(person.encode() in everything(tmp_path) for person in people)

    if crashed:

        def failpoint(name: str) -> None:
            if name == "before_checkpoint":
                raise Killed

        log._failpoint = failpoint
        for position, person in log.erasures(upto):
            with pytest.raises(Killed):
                log.erase(person, position)
        assert people[0].encode() in everything(tmp_path)
        log._writer.close()  # the WAL stays behind, as after a kill
        (tmp_path / "copy").mkdir()
        for name in ("log.db", "log.db-wal"):
            (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
        log.close()
        tmp_path /= "copy"
        log = open_log(tmp_path)
    else:
        for position, person in log.erasures(upto):
            assert log.erase(person, position) == 161
    left = everything(tmp_path)
    assert [person.encode() in left for person in people] == [False] * 3 + [True] * 4
    assert [(record.position, getattr(record.event, "item_id", None)) for record in read_all(log)][:-3] == counts
    log.close()


def test_an_erasure_in_pieces_can_be_cut_off_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.log.sqlite._ERASE_AT_ONCE", 3)
    log = open_log(tmp_path)
    log.append([click("eve") for _ in range(10)] + [UserErased(user_id="eve"), click("bob"), click("eve")])
    left = 0

    def failpoint(name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    log._failpoint = failpoint
    for left in range(6):  # noqa: B007 - the failpoint counts it down
        assert list(log.erasures(100)) == [(11, "eve")]
        try:
            log.erase("eve", 11)
        except Killed:
            continue
        break
    assert list(log.erasures(100)) == []
    assert [record.event.user_id for record in read_all(log)] == [""] * 11 + ["bob", "eve"]
    log.close()


def test_appends_go_on_while_someone_is_erased(tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.log.sqlite._ERASE_AT_ONCE", 10)
    log = open_log(tmp_path)
    log.append([click("eve") for _ in range(500)])
    with ThreadPoolExecutor(2) as pool:
        erasing = pool.submit(log.erase, "eve", 500)
        for index in range(50):
            log.append([click("bob", id=str(index))])
        assert erasing.result() == 500
    assert [record.event.user_id for record in read_all(log)] == [""] * 500 + ["bob"] * 50
    log.close()


WRITER = """
import sys
from penchant.core.clock import SystemClock
from penchant.log.sqlite import SqliteLog
from penchant.testing.contracts.log import SCHEMA, click
log = SqliteLog(sys.argv[1], schema=SCHEMA, clock=SystemClock(), lateness_ms=1)
for index in range(100_000):
    log.append([click(id=f"{index}-{n}") for n in range(3)])
    print(index, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    """Two processes append the same events; one is killed, its successor repeats what it had not heard of."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "log.db")]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    heard = 0
    for line in writers[0].stdout:
        heard = int(line)
        if heard >= 40:
            break
    for writer in writers:
        writer.kill()
        heard = max(heard, *(int(line) for line in writer.communicate()[0].splitlines()[:-1] or ["0"]))
    log = open_log(tmp_path)
    ids = [record.event.id for record in read_all(log)]
    assert len(ids) == len(set(ids))
    assert {f"{index}-{n}" for index in range(heard + 1) for n in range(3)} <= set(ids)
    assert len(ids) % 3 == 0, "batches are all or nothing"
    arrivals = [record.ingested_at for record in read_all(log)]
    assert arrivals == sorted(arrivals)
    log.close()
