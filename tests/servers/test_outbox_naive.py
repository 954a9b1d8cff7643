"""What the outbox is for: two usual ways around it, and how many events each loses or doubles where ours does neither.

The figures go to `.figures/outbox.json`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from log.relaying import LAYOUT, NOW, ItemState, counted, make_broker
from penchant.client import emit
from penchant.core.clock import ManualClock
from penchant.core.events import Interaction
from penchant.core.partitions import Outgoing, Sent
from penchant.core.schema import Action, Schema
from penchant.log.joins import Joins
from penchant.log.outbox_postgres import PostgresOutbox
from penchant.log.relay import Relay

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.pg
SCHEMA = Schema(actions={"click": Action("click", 0)})
FIGURES = Path(__file__).resolve().parents[2] / ".figures" / "outbox.json"
WRITERS = 8


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Keeps what was counted, and prints it."""

    def tell(name: str, **figures: int) -> None:
        FIGURES.parent.mkdir(exist_ok=True)
        kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        FIGURES.write_text(json.dumps({**kept, name: figures}, indent=2) + "\n")
        with capsys.disabled():
            print(f"\n{name}: " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in figures.items()))

    return tell


def open_outbox(url: str) -> PostgresOutbox:
    return PostgresOutbox(
        url, schema=SCHEMA, layout=LAYOUT, clock=ManualClock(NOW), lateness_ms=10**12, rng=random.Random(1)
    )


def test_a_poller_by_id_loses_rows_and_ours_none(database, tell):
    """Eight writers, one event a transaction, each held open for 0 to 5 ms: commits are not in the order of ids."""
    outbox = open_outbox(database)
    assert outbox.name
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("CREATE TABLE naive (id bigserial PRIMARY KEY, event_id text NOT NULL)")
    stop = threading.Event()
    committed: list[str] = []

    def write(writer: int) -> None:
        rng, number = random.Random(writer), 0
        with psycopg.connect(database) as db:
            while not stop.is_set():
                name = f"{writer}-{number}"
                db.execute("INSERT INTO naive (event_id) VALUES (%s)", (name,))
                emit(db, {"type": "interaction", "user_id": "u", "item_id": "i", "action": "click", "id": name})
                time.sleep(rng.uniform(0, 0.005))
                if rng.random() < 0.05:
                    db.rollback()
                else:
                    db.commit()
                    committed.append(name)
                number += 1

    naive: list[str] = []
    ours: list[str] = []

    def poll_naive() -> None:
        last = 0
        with psycopg.connect(database, autocommit=True) as db:
            while True:
                ending = stopped.is_set()
                rows = db.execute("SELECT id, event_id FROM naive WHERE id > %s ORDER BY id", (last,)).fetchall()
                naive.extend(name for _, name in rows)
                last = rows[-1][0] if rows else last
                if ending:
                    return
                time.sleep(0.002)

    def poll_ours() -> None:
        after = None
        while True:
            ending = stopped.is_set()
            rows = outbox.read(after, 1_000)
            ours.extend(pending.event.id or "" for pending in rows)
            if rows:
                after = rows[-1].place
                outbox.confirm(after)
            elif ending:
                return
            time.sleep(0.002)

    stopped = threading.Event()
    pollers = [threading.Thread(target=poll_naive), threading.Thread(target=poll_ours)]
    for poller in pollers:
        poller.start()
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, writer) for writer in range(WRITERS)]
        time.sleep(4)
        stop.set()
        for writer in writers:
            writer.result()
    stopped.set()
    for poller in pollers:
        poller.join(60)
    lost = set(committed) - set(naive)
    tell(
        "id_poller",
        events=len(committed),
        lost_by_id_poller=len(lost),
        lost_by_outbox=len(set(committed) - set(ours)),
        doubled_by_outbox=len(ours) - len(set(ours)),
        never_committed_seen_by_outbox=len(set(ours) - set(committed)),
    )
    assert lost, "the naive poller was lucky"
    assert sorted(ours) == sorted(committed)
    assert outbox.depth().pending == 0
    outbox.close()


CRASHES = 0.05


def test_a_dual_write_loses_or_doubles_and_ours_neither(database, tell):
    """2,000 events; the process dies at one point in twenty. Who is not answered sends again, with the same id.

    The two naive ways write the row of the application and send to the broker themselves: send after the commit
    loses what was committed and never sent (whoever tries again finds the row there); send before the commit
    doubles, and tells of rows that never were.
    """
    rng = random.Random(7)
    names = [f"e{number}" for number in range(2_000)]
    with psycopg.connect(database, autocommit=True) as db:
        for table in ("after_commit", "before_commit", "ours"):
            db.execute(f"CREATE TABLE {table} (event_id text PRIMARY KEY)")
        figures: dict[str, int] = {"events": len(names)}
        for table in ("after_commit", "before_commit"):
            broker = make_broker()
            crashes = _each(names, rng, lambda name, die, t=table, b=broker: _dual_write(db, b.sender(), t, name, die))
            figures |= _told(table, _rows(db, table), _sent(broker), crashes)
        outbox = open_outbox(database)
        assert outbox.name
        crashes = _each(names, rng, lambda name, die: _transactional(db, name, die))
        broker = make_broker()
        crashes += _relayed(outbox, broker, rng)
        outbox.close()
        seen = [message.body.event.id for p in LAYOUT.all() for message in counted(broker, p)]
        figures |= _told("outbox", _rows(db, "ours"), Counter(seen), crashes)
        figures["resent_to_broker_by_outbox_and_not_counted"] = sum(_sent(broker).values()) - len(seen)
        tell("dual_write", **figures)
    assert figures["lost_by_after_commit"] > 0
    assert figures["doubled_by_before_commit"] > 0
    assert figures["phantoms_by_before_commit"] > 0
    assert figures["lost_by_outbox"] == figures["doubled_by_outbox"] == figures["phantoms_by_outbox"] == 0


def _each(names, rng, write) -> int:
    """Write each until it is acknowledged or given up (one in four who got no answer does); returns the crashes."""
    crashes = 0

    def die() -> None:
        if rng.random() < CRASHES:
            raise Killed

    for name in names:
        while True:
            try:
                write(name, die)
                break
            except Killed:
                crashes += 1
                if rng.random() < 0.25:
                    break
    return crashes


def _dual_write(db, sender, table, name, die) -> None:
    message = _message(name)
    with db.transaction():
        new = db.execute(f"INSERT INTO {table} VALUES (%s) ON CONFLICT DO NOTHING", (name,)).rowcount
        if new and table == "before_commit":
            sender.send([message])
        die()
    die()
    if new and table == "after_commit":
        sender.send([message])


def _transactional(db, name, die) -> None:
    with db.transaction():
        new = db.execute("INSERT INTO ours VALUES (%s) ON CONFLICT DO NOTHING", (name,)).rowcount
        if new:
            emit(db, {"type": "interaction", "user_id": "u", "item_id": "i", "action": "click", "id": name})
        die()
    die()


def _relayed(outbox, broker, rng) -> int:
    crashes = 0

    def die(name: str) -> None:
        if rng.random() < CRASHES:
            raise Killed

    while outbox.depth().pending:
        joins = Joins(ItemState(broker), LAYOUT, SCHEMA)
        relay = Relay(outbox, broker.sender, LAYOUT, joins, batch=20, rng=random.Random(1), failpoint=die)
        try:
            while relay.step():
                pass
        except Killed:
            crashes += 1
        relay.close()
    return crashes


def _message(name: str) -> Outgoing:
    event = Interaction(user_id="u", item_id="i", action="click", id=name, ts=NOW)
    return Outgoing(LAYOUT.user("u"), "u", "naive", (0, 0), name, Sent(event, [{}]))


def _rows(db, table: str) -> list[str]:
    return sorted(name for (name,) in db.execute(f"SELECT event_id FROM {table}"))


def _sent(broker) -> Counter[str]:
    return Counter(m.body.event.id for p in LAYOUT.all() for m in broker.reader().read(p, 0, 10**6))


def _told(way: str, rows: list[str], sent: Counter[str], crashes: int) -> dict[str, int]:
    return {
        f"crashes_of_{way}": crashes,
        f"lost_by_{way}": len(set(rows) - set(sent)),
        f"doubled_by_{way}": sum(count - 1 for count in sent.values()),
        f"phantoms_by_{way}": len(set(sent) - set(rows)),
    }
