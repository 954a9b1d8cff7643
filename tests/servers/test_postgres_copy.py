"""The contracts of state on the durable copy in a real PostgreSQL."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penchant.core.errors import PenchantError, SettingsError, StateUnavailable
from penchant.core.log import START
from penchant.core.partitions import Commit, Partition, View
from penchant.core.postgres import migrate
from penchant.core.state import StateStore
from penchant.stores.copier import Copier
from penchant.stores.postgres import PostgresCopy
from penchant.stores.redis import RedisState
from penchant.testing.contracts.partitioned_state import LAYOUT, PartitionedStateContract
from penchant.testing.contracts.store import StateStoreContract
from penchant.testing.servers import Postgres, Redis

ZERO = Partition("users", 0)


class _Opened:
    """Opens copies that are closed after the test."""

    url: str
    opened: list[PostgresCopy]

    @pytest.fixture(autouse=True)
    def _on_postgres(self, database: str) -> Iterator[None]:
        self.url, self.opened = database, []
        yield
        for copy in self.opened:
            copy.close()

    def open(self, folder: Path, fingerprint: str) -> PostgresCopy:
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        self.opened.append(PostgresCopy(self.url, name=name, fingerprint=fingerprint, layout=LAYOUT))
        return self.opened[-1]


class TestStoreInPostgres(_Opened, StateStoreContract):
    def open_store(self, folder: Path, *, fingerprint: str = "f1") -> StateStore:
        return self.open(folder, fingerprint).partition(Partition("items", 2))


class TestCopyInPostgres(_Opened, PartitionedStateContract):
    def open_state(self, folder: Path, *, fingerprint: str = "f1") -> PostgresCopy:
        return self.open(folder, fingerprint)


def opened(url: str) -> PostgresCopy:
    return PostgresCopy(url, name="t", fingerprint="f1", layout=LAYOUT, timeout_ms=5_000)


def test_killed_and_restarted_it_has_all_that_was_committed(database: str, postgres: Postgres) -> None:
    copy = opened(database)
    assert list(copy.commit([Commit(ZERO, START, 5, {b"ua": b"1"})])) == [None]
    held = copy.partition(ZERO).snapshot()
    postgres.kill()
    with pytest.raises(StateUnavailable, match="PostgreSQL at"):
        copy.read([(ZERO, [b"ua"])])
    with pytest.raises(StateUnavailable):
        held.get_many([b"ua"])
    with pytest.raises(StateUnavailable):
        held.close()
    postgres.start()
    assert copy.read([(ZERO, [b"ua"])]) == [View(5, [b"1"])]
    assert list(copy.commit([Commit(ZERO, 5, 6, {b"ua": None})])) == [None]
    copy.close()


def test_definitions_lie_beside_each_other_until_dropped(database: str) -> None:
    one, two = opened(database), PostgresCopy(database, name="t", fingerprint="f2", layout=LAYOUT)
    for copy in (one, two):
        assert list(copy.commit([Commit(ZERO, START, 5, {b"ua": b"1"})])) == [None]
    two.drop(one.gid)
    assert one.read([(ZERO, [b"ua"])]) == [View(START, [None])]
    assert two.read([(ZERO, [b"ua"])]) == [View(5, [b"1"])]
    assert list(one.commit([Commit(ZERO, START, 2, {b"ua": b"2"})])) == [None]
    one.close()
    two.close()


def test_tables_of_a_later_release_are_refused(database: str) -> None:
    from psycopg import connect

    copy = opened(database)
    copy.read([(ZERO, [])])
    copy.close()
    with connect(database, autocommit=True) as db:
        assert migrate(db, "copy", "penchant.stores") == 1
        db.execute("UPDATE penchant.versions SET version = 9 WHERE part = 'copy'")
    copy = opened(database)
    with pytest.raises(PenchantError, match="version 9"):
        copy.read([(ZERO, [])])
    copy.close()


def test_a_wrong_url_names_the_setting_and_no_password() -> None:
    with pytest.raises(SettingsError, match=r"\[copy\] url") as caught:
        opened("postgresql://me:secret@h:1/d?nonsense=1")
    assert "secret" not in str(caught.value)


def test_many_start_at_once_on_an_empty_database(database: str) -> None:
    copies = [opened(database) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda copy: copy.commit([Commit(ZERO, START, 5, {b"ua": b"1"})])[0], copies))
    assert sorted(found, key=str) == [5] * 5 + [None]
    for copy in copies:
        copy.close()


def test_a_redis_that_lost_everything_is_restored(database: str, redis_url: str, redis_server: Redis) -> None:
    state = RedisState(redis_url, name="t", fingerprint="f1", layout=LAYOUT)
    copy, rng = opened(database), random.Random(8)
    copier = Copier(state, copy)
    keys = [kind + b"%d" % number for kind in (b"u", b"p", b"i", b"c", b"#") for number in range(40)]
    position = START
    for _ in range(30):
        after = position + rng.randint(1, 4)
        writes = {key: rng.choice([None, rng.randbytes(rng.randint(0, 3_000))]) for key in rng.sample(keys, 12)}
        commit = Commit(ZERO, position, after, writes)
        assert list(state.commit([commit])) == [None]
        if rng.random() < 0.9:
            copier.note([commit])
        if rng.random() < 0.3:
            copier.flush(ZERO)
        position = after
    assert copier.flush(ZERO) or copier.flush(ZERO)
    before = dict(state.partition(ZERO).snapshot().scan(b""))
    snapshot = copy.partition(ZERO).snapshot()
    assert (snapshot.position, dict(snapshot.scan(b""))) == (position, before)
    snapshot.close()
    redis_server.ask("FLUSHALL")
    assert copier.restore(ZERO) == position
    assert dict(state.partition(ZERO).snapshot().scan(b"")) == before
    state.close()
    copy.close()
