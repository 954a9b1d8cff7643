from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import DOCS, blocks
from penchant.core.clock import Clock, ManualClock
from penchant.core.errors import LogFull, LogUnavailable, PenchantError, SettingsError
from penchant.core.events import Interaction, ItemRemoved, ItemUpdate
from penchant.log.outbox_postgres import PostgresOutbox
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA, click
from penchant.testing.contracts.outbox import LAYOUT, OutboxContract, read_all
from penchant.testing.servers import Postgres

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.pg


class Killed(BaseException):
    """Stands for the end of the process."""


def open_outbox(url: str, **options) -> PostgresOutbox:
    options = {"clock": ManualClock(NOW), "rng": random.Random(1), **options}
    return PostgresOutbox(url, schema=SCHEMA, layout=LAYOUT, lateness_ms=LATENESS, **options)


@pytest.fixture
def outbox(database: str) -> Iterator[PostgresOutbox]:
    outbox = open_outbox(database)
    assert outbox.name
    yield outbox
    outbox.close()


class TestPostgresOutbox(OutboxContract):
    @pytest.fixture(autouse=True)
    def _databases(self, postgres: Postgres) -> Iterator[None]:
        self.postgres = postgres
        self.names: dict[Path, str] = {}
        postgres.start()
        yield
        for name in self.names.values():
            postgres.drop_database(name)

    def open_outbox(self, folder: Path, *, clock: Clock, max_events: int = 1_000_000) -> PostgresOutbox:
        if folder not in self.names:
            self.names[folder] = f"outbox_{time.monotonic_ns()}"
            self.postgres.create_database(self.names[folder])
        return open_outbox(self.postgres.database_url(self.names[folder]), clock=clock, max_events=max_events)


def emit(db: object, event: object) -> bool:
    return db.execute("SELECT penchant.emit(%s)", (json.dumps(event),)).fetchone()[0]


PLAY = {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click"}


def test_an_application_writes_in_its_own_transaction(outbox, database):
    with psycopg.connect(database) as db:
        db.execute("CREATE TABLE orders (id int)")
        db.commit()
        db.execute("INSERT INTO orders VALUES (1)")
        assert emit(db, {**PLAY, "id": "a", "ts": "2023-11-14T22:13:20Z"})
        db.rollback()
        assert read_all(outbox) == []
        assert emit(db, {**PLAY, "id": "a", "ts": "2023-11-14T22:13:20Z"}), "what was rolled back never was"
        assert not emit(db, {**PLAY, "id": "a"})
        assert emit(db, {"type": "item_removed", "item_id": "i1"})
        assert read_all(outbox) == [], "not before the commit"
        db.commit()
        first, second = read_all(outbox)
        assert first.event == Interaction(user_id="u1", item_id="i1", action="click", id="a", ts=NOW)
        assert second.event == ItemRemoved(item_id="i1", ts=second.accepted_at)
        assert abs(second.accepted_at - time.time_ns() // 1_000_000) < 60_000
        assert outbox.append([click(id="a")]).duplicates == 1
        outbox.append([click(id="b")])
        assert not emit(db, {**PLAY, "id": "b"})


def test_two_lines_of_python(outbox, database):
    import penchant as pc
    from penchant.client import emit as client_emit

    with psycopg.connect(database) as db:
        assert client_emit(db.cursor(), pc.Interaction(user_id="u1", item_id="i1", action="click", id="a")).fetchone()[
            0
        ]
        assert not client_emit(db, {**PLAY, "id": "a"}).fetchone()[0]

    async def later() -> None:
        async with await psycopg.AsyncConnection.connect(database) as db:
            await client_emit(db, pc.ItemRemoved(item_id="i1"))

    asyncio.run(later())
    assert [type(pending.event) for pending in read_all(outbox)] == [Interaction, ItemRemoved]


def test_what_the_page_says_works(outbox, database):
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("CREATE TABLE orders (id int, buyer text, film text)")
        for block in blocks(DOCS / "how-to" / "outbox.md"):
            if block.language == "sql" and "SHOP" not in block.text.upper() and "SYSTEM" not in block.text:
                db.execute(block.text)
            elif block.language == "py":
                exec(block.text, {"psycopg": psycopg, "url": database})
        assert db.execute("SELECT id FROM orders ORDER BY id").fetchall() == [(812,), (813,)]
        assert db.execute("SELECT count(*) FROM penchant.outbox").fetchone() == (2,)


def test_an_application_needs_to_see_the_schema_only(outbox, database):
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("DROP ROLE IF EXISTS shop")
        db.execute("CREATE ROLE shop")
        try:
            db.execute("GRANT USAGE ON SCHEMA penchant TO shop")
            db.execute("SET ROLE shop")
            assert emit(db, PLAY)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute("SELECT * FROM penchant.outbox")
            db.execute("RESET ROLE")
        finally:
            db.execute("REVOKE USAGE ON SCHEMA penchant FROM shop")
            db.execute("DROP ROLE shop")
    assert len(read_all(outbox)) == 1


BAD = [
    [],
    7,
    {},
    {"type": "interaction"},
    {**PLAY, "action": "dance", "id": "bad"},
    {**PLAY, "value": 10**5000},
    {"type": "item", "item_id": "i1", "attributes": {"colour": "red"}},
    {**PLAY, "id": 7},
]


def test_what_is_no_event_is_put_aside_and_never_blocks(outbox, database):
    with psycopg.connect(database, autocommit=True) as db:
        for bad in BAD:
            if bad == {**PLAY, "value": 10**5000}:
                db.execute(
                    """SELECT penchant.emit(('{"type": "interaction", "n": 1' || repeat('0', 5000) || '}')::jsonb)"""
                )
            else:
                assert emit(db, bad)
        assert emit(db, PLAY)
        assert len(outbox.read(None, 3)) == 1
        assert outbox.depth().pending == 1
        refused = db.execute("SELECT field, reason, message FROM penchant.outbox_refused ORDER BY id").fetchall()
        assert len(refused) == len(BAD)
        assert refused[4][:2] == ("action", "unknown_action")
        assert refused[5][1] == "invalid_json"
        assert all(message for _, _, message in refused)
        assert emit(db, {**PLAY, "id": "bad"}), "mended, it is taken under the same id"


@pytest.mark.parametrize("where", ["before_commit", "after_commit", "before_confirm"])
def test_killed_anywhere_a_batch_is_there_or_not(database, where):
    def die(name: str) -> None:
        if name == where:
            raise Killed

    def take_and_confirm() -> None:
        outbox.append([click(id="a"), click(id="b")])
        outbox.confirm(read_all(outbox)[0].place)

    outbox = open_outbox(database, failpoint=die)
    with pytest.raises(Killed):
        take_and_confirm()
    outbox.close()
    outbox = open_outbox(database)
    assert len(read_all(outbox)) == (0 if where == "before_commit" else 2)
    assert outbox.append([click(id="a"), click(id="b")]).accepted == (2 if where == "before_commit" else 0)
    outbox.close()


def test_an_open_transaction_holds_up_what_comes_after_it(outbox, database):
    with psycopg.connect(database) as db:
        emit(db, {**PLAY, "id": "early"})
        outbox.append([click(id="late")])
        assert read_all(outbox) == []
        assert not outbox.wait(None, 0.05)
        db.commit()
        assert outbox.wait(None, 5)
        assert [pending.event.id for pending in read_all(outbox)] == ["early", "late"]


def _until_taken(outbox, events) -> int:
    """How many were accepted, once it takes anything again."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return outbox.append(events).accepted
        except LogFull:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_that_was_away_comes_back(database, postgres):
    """Killed and started again: 503 in the meantime, at once, and then everything is there."""
    outbox = open_outbox(database)
    outbox.append([click(id="a")])
    assert outbox.lead()
    name = outbox.name
    postgres.kill()
    with pytest.raises(LogFull, match="PostgreSQL"):
        outbox.append([click(id="b")])
    with pytest.raises(LogUnavailable):
        outbox.read(None, 10)
    assert not outbox.lead(), "the lock went with the connection"
    with pytest.raises(LogUnavailable):
        outbox.lead()
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(LogFull):
            outbox.append([click(id="b")])
    assert time.monotonic() - started < 2
    postgres.start()
    assert _until_taken(outbox, [click(id="b")]) == 1
    assert [pending.event.id for pending in read_all(outbox)] == ["a", "b"]
    assert outbox.lead()
    assert outbox.name == name
    outbox.close()


def test_a_server_that_hangs_costs_a_while_and_no_more(database):
    outbox = open_outbox(database, timeout_ms=400)
    outbox.append([click(id="a")])
    assert outbox.lead()
    with psycopg.connect(database, autocommit=True) as db:
        found = db.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'penchant outbox' AND datname = current_database()"
        ).fetchall()
        assert len(found) == 2
        for (pid,) in found:
            os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(LogFull):
                outbox.append([click(id="b")])
            assert not outbox.lead()
            assert time.monotonic() - started < 10
        finally:
            for (pid,) in found:
                os.kill(pid, signal.SIGCONT)
    _until_taken(outbox, [click(id="b"), click(id="c")])
    assert sorted(pending.event.id for pending in read_all(outbox)) == ["a", "b", "c"]
    outbox.close()


def test_it_starts_before_its_server(postgres):
    outbox = open_outbox("postgresql://penchant@127.0.0.1:1/nothing")
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1"):
        _ = outbox.name
    with pytest.raises(LogFull):
        outbox.append([click()])
    outbox.close()
    with pytest.raises(SettingsError):
        open_outbox("postgresql://%zz")


def test_another_history_is_another_source(outbox, database):
    """A promoted standby or a restored copy may give places a second time."""
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("UPDATE penchant.outbox_name SET name = 'of another history'")
    other = open_outbox(database)
    assert other.name != outbox.name
    other.close()


def test_migrations_are_applied_once_and_newer_ones_refused(database):
    boxes = [open_outbox(database) for _ in range(6)]
    threads = [threading.Thread(target=lambda box=box: box.append([click()])) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert boxes[0].depth().pending == 6
    for box in boxes:
        box.close()
    with psycopg.connect(database, autocommit=True) as db:
        assert db.execute("SELECT part, version FROM penchant.versions").fetchall() == [("outbox", 1)]
        db.execute("UPDATE penchant.versions SET version = 9")
    outbox = open_outbox(database)
    with pytest.raises(PenchantError, match="version 9"):
        _ = outbox.name
    outbox.close()


def test_many_waiting_are_estimated_and_held_to_the_bound(database, monkeypatch):
    monkeypatch.setattr("penchant.log.outbox_postgres._COUNT_AT_MOST", 50)
    outbox = open_outbox(database, max_events=300)
    outbox.append([ItemUpdate(item_id=str(index), attributes={}) for index in range(200)])
    assert outbox.depth().pending == 200
    outbox.confirm(read_all(outbox)[99].place)
    assert outbox.depth().pending == 100
    outbox.append([click()] * 200)
    with pytest.raises(LogFull):
        outbox.append([click()])
    outbox.close()
