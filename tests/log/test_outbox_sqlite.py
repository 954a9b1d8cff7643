from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from penchant.core.clock import Clock, EventClock, ManualClock
from penchant.core.errors import LogFull, LogUnavailable, PenchantError
from penchant.core.events import ItemUpdate
from penchant.log.outbox_sqlite import SqliteOutbox
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA, click
from penchant.testing.contracts.outbox import LAYOUT, OutboxContract, read_all


class Killed(BaseException):
    """Stands for the end of the process."""


def open_outbox(folder: Path, **options) -> SqliteOutbox:
    options = {"clock": ManualClock(NOW), **options}
    return SqliteOutbox(folder / "outbox.sqlite", schema=SCHEMA, layout=LAYOUT, lateness_ms=LATENESS, **options)


class TestSqliteOutbox(OutboxContract):
    def open_outbox(self, folder: Path, *, clock: Clock, max_events: int = 1_000_000) -> SqliteOutbox:
        return open_outbox(folder, clock=clock, max_events=max_events)


def test_accepted_means_synced(tmp_path):
    outbox = open_outbox(tmp_path)
    assert outbox._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert outbox._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    outbox.close()
    outbox.close()


def test_an_outbox_of_another_format_is_refused(tmp_path):
    open_outbox(tmp_path).close()
    db = sqlite3.connect(tmp_path / "outbox.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(PenchantError, match="format 99"):
        open_outbox(tmp_path)


@pytest.mark.parametrize("where", ["before_commit", "after_commit", "before_confirm"])
def test_killed_anywhere_a_batch_is_there_or_not(tmp_path, where):
    open_outbox(tmp_path).close()

    def die(name: str) -> None:
        if name == where:
            raise Killed

    outbox = open_outbox(tmp_path, failpoint=die)

    def take_and_confirm() -> None:
        outbox.append([click(id="a"), click(id="b")])
        outbox.confirm(read_all(outbox)[0].place)

    with pytest.raises(Killed):
        take_and_confirm()
    outbox.close()
    outbox = open_outbox(tmp_path)
    assert len(read_all(outbox)) == (0 if where == "before_commit" else 2)
    assert outbox.append([click(id="a"), click(id="b")]).accepted == (2 if where == "before_commit" else 0)
    outbox.close()


def test_a_full_disk_takes_nothing_of_the_batch(tmp_path):
    outbox = open_outbox(tmp_path)
    pages = outbox._writer.execute("PRAGMA page_count").fetchone()[0]
    outbox._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    large = [ItemUpdate(item_id=f"i{index}", attributes={"title": "x" * 9_000}, id=f"l{index}") for index in range(30)]
    with pytest.raises(LogFull):
        outbox.append(large)
    assert outbox.append([click(id="a")]).accepted == 1
    assert [pending.event.id for pending in read_all(outbox)] == ["a"]
    outbox._writer.execute("PRAGMA max_page_count = 1000000")
    assert outbox.append(large).accepted == 30
    outbox.close()


def test_a_lock_held_by_another_is_told_as_full(tmp_path, monkeypatch):
    monkeypatch.setattr("penchant.log.outbox_sqlite._BUSY_S", 0.05)
    outbox = open_outbox(tmp_path)
    outbox.append([click()])
    other = sqlite3.connect(tmp_path / "outbox.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogFull):
        outbox.append([click()])
    with pytest.raises(LogUnavailable):
        outbox.confirm((0, 1))
    other.close()
    assert outbox.append([click()]).accepted == 1
    outbox.close()


def test_a_duplicate_does_not_move_the_clock(tmp_path):
    clock = EventClock(ceiling=ManualClock(NOW))
    outbox = open_outbox(tmp_path, clock=clock)
    outbox.append([click(ts=1_000, id="a")])
    outbox.append([click(ts=9_000, id="a")])
    assert clock.now() == 1_000
    outbox.close()


def test_the_lead_goes_with_its_process(tmp_path):
    outbox = open_outbox(tmp_path)
    script = f"""
        import sys
        from pathlib import Path
        from penchant.core.clock import ManualClock
        from penchant.core.partitions import Layout
        from penchant.core.schema import Schema
        from penchant.log.outbox_sqlite import SqliteOutbox
        outbox = SqliteOutbox({str(tmp_path / "outbox.sqlite")!r}, schema=Schema(actions={{}}), layout=Layout(),
                              clock=ManualClock(1), lateness_ms=0)
        print(outbox.lead(), flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "True\n"
        assert not outbox.lead()
        process.kill()
        process.wait()
    assert outbox.lead()
    outbox.close()


def test_the_file_does_not_grow_for_good(tmp_path):
    outbox = open_outbox(tmp_path)
    sizes = []
    for _ in range(6):
        outbox.append([click(user_id="x" * 100) for _ in range(1_000)])
        outbox.confirm(read_all(outbox)[-1].place)
        sizes.append(outbox._writer.execute("PRAGMA page_count").fetchone()[0])
    assert sizes[-1] <= sizes[0] + 2
    outbox.close()
