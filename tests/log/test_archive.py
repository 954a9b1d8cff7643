from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penchant.core.clock import ManualClock
from penchant.core.errors import Forgotten, LogUnavailable, SettingsError
from penchant.core.events import Impression, Interaction, ItemUpdate, ShownItem, UserErased, UserUpdate
from penchant.core.hashing import hash_id
from penchant.core.partitions import Deed, Deeds, Layout, Message, Outgoing, Partition, Sent
from penchant.log.archive import Archive
from penchant.log.archive_files import Files, open_files
from penchant.log.archive_manifest import load
from penchant.log.archive_reader import EMBEDDED, ArchivedReader, Archiver, archive_records
from penchant.log.memory import MemoryLog
from penchant.log.memory_partitions import MemoryBroker
from penchant.testing.contracts.archive import FilesContract
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA

DAY = 86_400_000
LAYOUT = Layout(users=3, items=2)


class Death(Exception):
    """The process died here."""


class Dying:
    """A failpoint that dies after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, name: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise Death(name)


class World:
    """A broker whose clock a test moves, and an archive of it."""

    def __init__(self, url: str | Path) -> None:
        self.url = url
        self.clock = ManualClock(NOW)
        self.broker = MemoryBroker(LAYOUT, self.clock)
        self.sender, self.reader = self.broker.sender(), self.broker.reader()
        self.sent = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.sender.send([message(self.sent, self.clock.now())])

    def archiver(self, *, batch: int = 50_000, failpoint=lambda name: None) -> Archiver:
        archive = Archive(self.url, failpoint=failpoint)
        return Archiver(
            self.reader, archive, LAYOUT.all(), self.clock, schema=SCHEMA, lateness_ms=LATENESS, batch=batch
        )

    def everything(self) -> dict[Partition, list[Message]]:
        return {p: list(self.reader.read(p, 0, 100_000)) for p in LAYOUT.all()}


def message(row: int, now: int) -> Outgoing:
    user_id, place = f"u{row % 11}", (0, row)
    events = [
        Interaction(user_id=user_id, item_id=f"i{row % 5}", action="watch", value=row / 2, ts=now - row),
        Impression(
            user_id=user_id, items=[ShownItem("i1", 1, 0.5), ShownItem("i2", 2)], ts=now - 3 * DAY, id=f"e{row}"
        ),
        UserUpdate(user_id=user_id, attributes={"country": "de"}),
    ]
    if row % 7 == 0:
        item_id = f"i{row % 5}"
        body = Sent(ItemUpdate(item_id=item_id, attributes={"title": "x"}, ts=now))
        return Outgoing(LAYOUT.item(item_id), item_id, "outbox", place, None, body)
    if row % 7 == 1:
        user, country = hash_id(user_id), {"country": "de"}
        deed = Deed(row, now, now, 0, "click", 0, False, user, country, ["i1"], [("i1", [4])])
        return Outgoing(LAYOUT.item("i1"), "i1", "x/u001", (row, 0), None, Deeds([deed]))
    event = events[row % 3]
    return Outgoing(LAYOUT.user(user_id), user_id, "outbox", place, event.id, Sent(event, [{"genre": "rock"}]))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "archive")


def archived(archive: Archive, limit: int = 7) -> dict[Partition, list[Message]]:
    found: dict[Partition, list[Message]] = {}
    for partition in LAYOUT.all():
        messages: list[Message] = []
        while some := archive.read(partition, messages[-1].position if messages else 0, limit):
            messages += some
        found[partition] = messages
        assert archive.end(partition) == (messages[-1].position if messages else 0)
    return found


class TestLocalFiles(FilesContract):
    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        return open_files(tmp_path / "a'rchive")


class TestRemoteFiles(FilesContract):
    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        pytest.importorskip("fsspec")
        return open_files(f"memory://{tmp_path}")


def test_what_was_archived_is_read_back_exactly(world: World) -> None:
    archiver = world.archiver(batch=40)
    for _ in range(4):
        world.send(60)
        while archiver.step():
            pass
        world.clock.advance(DAY // 2)
    archive = Archive(world.url)
    assert archived(archive) == archived(archive, 1_000) == world.everything()
    assert archiver.step() == 0
    archive.compact("2023-11-15")
    days = [file.day for file in archive.manifest().files]
    assert days.count("2023-11-14") == 1
    assert archived(archive) == world.everything()
    archive.compact("9999-12-31")
    assert [file.day for file in archive.manifest().files] == sorted(set(days))
    assert archived(archive) == archived(Archive(world.url)) == world.everything()


def test_an_archive_on_an_object_store(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    world = World(f"memory://{tmp_path}")
    archiver = world.archiver()
    for _ in range(3):
        world.send(50)
        assert archiver.step() == 0
    assert archived(Archive(world.url)) == world.everything()
    archiver.tidy()
    assert archived(Archive(world.url)) == world.everything()
    Archive(world.url).compact("9999-12-31")
    assert archived(Archive(world.url)) == world.everything()
    assert len(open_files(world.url).names("data")) == 1


def test_columns_that_others_read(world: World) -> None:
    world.send(70)
    world.archiver().step()
    files = [str(Path(world.url) / file.name) for file in Archive(world.url).manifest().files]
    rows = duckdb.sql(f"SELECT * FROM read_parquet({files}) WHERE partition[1] = 'u' ORDER BY partition, position")
    names = rows.columns
    for values in rows.fetchall():
        row = dict(zip(names, values, strict=True))
        one = world.reader.read(Partition.parse(row["partition"]), row["position"] - 1, 1)[0]
        event = one.body.event
        assert str(row["day"]) == "2023-11-14"
        assert (row["type"], row["user"]) == (event.__struct_config__.tag, hash_id(event.user_id))
        assert (row["ingested_at"], row["ts"]) == (NOW, NOW if event.ts is None else event.ts)
        assert row["verdict"] == (2 if isinstance(event, Impression) else 0)
        if isinstance(event, Interaction):
            assert (row["q"], row["present"], row["action"]) == (round(event.value * 10), True, "watch")
            assert row["items"] == [hash_id(event.item_id)]


def test_old_positions_come_from_the_archive(world: World) -> None:
    world.send(200)
    world.archiver().step()
    world.send(100)
    everything = world.everything()
    reader = ArchivedReader(Archive(world.url), world.reader)
    for partition, messages in everything.items():
        world.broker.forget(partition, messages[len(messages) // 2].position)
    for partition, messages in everything.items():
        read: list[Message] = []
        while some := reader.read(partition, read[-1].position if read else 0, 9):
            read += some
        assert read == messages
        assert reader.end(partition) == messages[-1].position
    assert reader.ends(LAYOUT.all()) == world.reader.ends(LAYOUT.all())


def test_what_was_forgotten_before_it_was_archived_is_a_hole_that_reading_tells(world: World, caplog) -> None:
    partition = LAYOUT.item("i1")
    deeds = Deeds([])
    world.sender.send([Outgoing(partition, "i1", "x", (n, 0), None, deeds) for n in range(30)])
    world.broker.forget(partition, 4)
    archiver = world.archiver()
    assert archiver.step() == 0
    archive = Archive(world.url)
    with pytest.raises(Forgotten):
        archive.read(partition, 3, 10)
    assert [m.position for m in archive.read(partition, 4, 3)] == [5, 6, 7]
    world.sender.send([Outgoing(partition, "i1", "x", (n, 0), None, deeds) for n in range(30, 60)])
    world.broker.forget(partition, 40)
    assert archiver.step() == 0
    archive.compact("9999-12-31")
    assert [m.position for m in archive.read(partition, 28, 10)] == [29, 30]
    with pytest.raises(Forgotten):
        archive.read(partition, 30, 10)
    with pytest.raises(Forgotten):
        ArchivedReader(archive, world.reader).read(partition, 30, 10)
    assert [m.position for m in archive.read(partition, 40, 100)] == list(range(41, 61))
    world.broker.lose(partition, 50)
    assert archiver.step() == 0
    assert "not archived" in caplog.text


def test_a_person_is_taken_out_and_files_that_name_them_are_gone(world: World) -> None:
    world.send(100)
    partition = LAYOUT.user("u3")
    world.sender.send([Outgoing(partition, "u3", "outbox", (0, 101), "e-u3", Sent(UserErased(user_id="u3", ts=NOW)))])
    erased_at = world.reader.end(partition)
    world.send(50)
    archiver = world.archiver()
    archiver.step()
    before = archived(Archive(world.url))
    archiver.tidy()
    archive = Archive(world.url)
    after, changed = archived(archive), 0
    for name, messages in before.items():
        assert [m.position for m in after[name]] == [m.position for m in messages]
        for old, new in zip(messages, after[name], strict=True):
            if isinstance(old.body, Deeds):
                gone = old.body.deeds[0].user == hash_id("u3") and old.body.deeds[0].position <= erased_at
                assert new.body.deeds[0].user == (hash_id("") if gone else old.body.deeds[0].user)
                assert (new == old) != gone
            elif getattr(old.body.event, "user_id", "") == "u3" and old.position <= erased_at:
                changed += 1
                assert new.body.event.user_id == ""
                assert new.event_id is None
                assert type(new.body.event) is type(old.body.event)
            else:
                assert new == old
    assert changed > 5
    named = {file.name for file in archive.manifest().files}
    files = open_files(world.url)
    assert set(files.names("data")) == named
    assert files.names("tmp") == []
    users = f"SELECT count(*) FROM read_parquet({[str(Path(world.url) / name) for name in named]}) WHERE "
    clause = f"(\"user\" = {hash_id('u3')} AND position <= {erased_at}) OR event_id = 'e-u3'"
    assert duckdb.sql(users + clause).fetchall() == [(0,)]
    assert archive.erase_asked() == 0


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), steps=st.integers(4, 9))
def test_whoever_dies_or_writes_at_the_same_time_there_is_one_truth(tmp_path_factory, seed: int, steps: int) -> None:
    rng = random.Random(seed)
    world = World(tmp_path_factory.mktemp("archive"))
    names: dict[int, set[str]] = defaultdict(set)
    for _ in range(steps):
        world.send(rng.randint(0, 30))
        world.clock.advance(rng.choice([0, 1_000, DAY // 3]))
        # Two writers at once: the second works at a moment that the first's failpoint chooses.
        rival = world.archiver(batch=rng.choice([5, 40, 1_000]), failpoint=Dying(rng.choice([3, 10, 99])))
        meddles = [rng.random() < 0.3]
        dies = Dying(rng.randint(0, 14))

        def failpoint(name: str, rival=rival, meddles=meddles, dies=dies) -> None:
            if meddles[0] and rng.random() < 0.5:
                meddles[0] = False
                work(rival, rng)
            dies(name)

        work(world.archiver(batch=rng.choice([5, 40, 1_000]), failpoint=failpoint), rng)
        manifest = load(open_files(world.url))
        names[manifest.number].add(repr(manifest))
        assert len(names[manifest.number]) == 1
        found = archived(Archive(world.url), 1_000)
        for partition, messages in world.everything().items():
            assert found[partition] == messages[: len(found[partition])]
    last = world.archiver()
    while last.step():
        pass
    last.tidy()
    Archive(world.url).compact("9999-12-31")
    archive = Archive(world.url)
    assert archived(archive) == world.everything()
    files = open_files(world.url)
    assert set(files.names("data")) == {file.name for file in archive.manifest().files}
    assert files.names("tmp") == []
    assert len(files.names("manifest")) <= 20


def work(archiver: Archiver, rng: random.Random) -> None:
    try:
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.8:
                archiver.step()
            else:
                archiver._archive.compact("9999-12-31")
    except Death:
        pass


def test_a_log_in_one_file_is_archived_too(tmp_path: Path) -> None:
    log = MemoryLog(schema=SCHEMA, clock=ManualClock(NOW), lateness_ms=LATENESS)
    events = [
        Interaction(user_id="a", item_id="i", action="watch", value=1.5, id="x"),
        Interaction(user_id="a", item_id="i", action="click", ts=NOW - 3 * DAY),
        ItemUpdate(item_id="i", attributes={}),
    ]
    log.append(events)
    archive = Archive(tmp_path)
    assert archive_records(log, archive) == 3
    log.append(events)
    assert archive_records(log, archive, batch=1) == 2
    assert archive_records(log, archive) == 0
    rows = archive.rows(EMBEDDED, 0, 100)
    assert [(r.message.position, r.ingested_at, r.ts, r.verdict, r.q, r.message.body.event) for r in rows] == [
        (r.position, r.ingested_at, r.ts, r.verdict, r.q, r.event) for r in log.read(0, 100)
    ]
    assert archive.erase({"a": 1}) == 1
    assert [getattr(m.body.event, "user_id", None) for m in archive.read(EMBEDDED, 0, 9)] == ["", "a", None, "a", None]


def test_archives_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        open_files("nosuch://bucket/x")
    (tmp_path / "file").write_text("")
    archive = Archive(tmp_path / "file")
    with pytest.raises(LogUnavailable):
        archive.append([], {}) or archive._files.scratch()
