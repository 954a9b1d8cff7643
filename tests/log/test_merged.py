"""The archive of a log in partitions as one log: what the folds count, each once, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from features.world import PLAN, SCHEMA
from penchant.core.clock import ManualClock
from penchant.core.errors import ContractError
from penchant.core.events import Impression, Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.core.partitions import Outgoing, Partition, Sent
from penchant.log.archive import Archive
from penchant.log.archive_reader import Archiver
from penchant.log.memory_partitions import MemoryBroker
from penchant.log.merged import MergedLog
from penchant.stream.extracting import PartitionExtract
from penchant.stream.records import PartitionRecords
from penchant.stream.sides import Sides
from stream.test_extracting import DAY, LAYOUT, START, Cluster, sides


def archived(broker: MemoryBroker, folder: Path) -> Archive:
    archive = Archive(folder / "archive")
    archiver = Archiver(
        broker.reader(), archive, LAYOUT.all(), ManualClock(START), schema=SCHEMA, lateness_ms=2 * DAY, batch=200
    )
    while archiver.step():
        pass
    return archive


def merged(archive: Archive, folder: Path, of: Sides | None = None) -> MergedLog:
    log = MergedLog(archive, lambda partition: PartitionRecords(of or sides(), SCHEMA, partition), folder)
    return log.gather(lambda *_: None)


def everything(log: MergedLog, limit: int = 100) -> list[Record]:
    records: list[Record] = []
    while some := log.read(len(records), limit):
        records += some
    return records


def touches(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """As `PartitionExtract` has them: ts, action, q, present, user, item."""
    found: list[tuple[Any, ...]] = []
    for record in records:
        event = record.event
        if record.verdict != ACCEPTED or not isinstance(event, Interaction | Impression) or not event.user_id:
            continue
        user = hash_id(event.user_id)
        if isinstance(event, Interaction):
            action = SCHEMA.actions.get(event.action)
            if action is not None:
                found.append((record.ts, action.code, record.q, event.value is not None, user, hash_id(event.item_id)))
        else:
            code = len(SCHEMA.actions)
            found += [(record.ts, code, 0, False, user, hash_id(shown.item_id)) for shown in event.items]
    return sorted(found)


@pytest.mark.parametrize("seed", range(3))
def test_it_has_what_the_folds_count(seed: int, tmp_path: Path) -> None:
    world = Cluster(seed, 700)
    log = merged(archived(world.broker, tmp_path), tmp_path)
    records = everything(log)
    assert [record.position for record in records] == list(range(1, log.end() + 1))
    arrived = [record.ingested_at for record in records]
    assert arrived == sorted(arrived)
    counted: list[tuple[int, ...]] = []
    for partition in LAYOUT.all():
        if partition.side == "users":
            extract = PartitionExtract(sides(), SCHEMA, PLAN, partition).read(world.broker.read)
            counted += extract.touches
    assert touches(records) == sorted(touch[1:7] for touch in counted)
    assert len(counted) > 300
    assert everything(log, 7) == records
    again = merged(Archive(tmp_path / "archive"), tmp_path)
    assert everything(again) == records, "the same archive, the same order"
    log.close()
    again.close()


class Sending:
    """Messages of one source, as a relay sends them."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.broker = MemoryBroker(LAYOUT, self.clock)
        self.place = 0

    def send(self, *events: Any, again: bool = False) -> None:
        for event in events:
            self.place += not again
            partition = LAYOUT.item(event.item_id) if not hasattr(event, "user_id") else LAYOUT.user(event.user_id)
            self.broker.sender().send([Outgoing(partition, "", "box", (0, self.place), event.id, Sent(event))])


def click(user: str, item: str = "i1", **more: Any) -> Interaction:
    return Interaction(user_id=user, item_id=item, action=next(iter(SCHEMA.actions)), **more)


def test_what_comes_again_counts_once(tmp_path: Path) -> None:
    sending = Sending()
    sending.send(click("u1", id="a"))
    sending.send(click("u1", id="a"), again=True)  # a relay that was not sure
    sending.send(click("u1", id="a"), click("u1", id="b"), UserErased(user_id="u1", id="gone"))
    sending.send(click("u1", "i2", id="a"))  # a stranger by now
    sending.send(UserErased(user_id="u1", id="gone"), click("u1", "i2", id="a"))
    sending.clock.advance(3 * DAY)
    sending.send(click("u1", "i3", ts=START))
    log = merged(archived(sending.broker, tmp_path), tmp_path)
    kinds = [(type(record.event).__name__, getattr(record.event, "id", None)) for record in everything(log)]
    assert kinds == [
        ("Interaction", "a"),
        ("Interaction", "b"),
        ("UserErased", "gone"),
        ("Interaction", "a"),
        ("Interaction", None),
    ]
    assert everything(log)[-1].verdict == LATE
    log.close()


def test_time_that_follows_the_events(tmp_path: Path) -> None:
    sending = Sending()
    sending.clock.advance(300 * DAY)
    for number in range(20):
        sending.send(click(f"u{19 - number}", ts=START + (19 - number) * DAY))
    following = Sides(SCHEMA, PLAN, layout=LAYOUT, partners=3, lateness=40 * DAY, follows_events=True)
    archive = archived(sending.broker, tmp_path)
    with closing(merged(archive, tmp_path, following)) as log:
        records = everything(log)
    assert {record.verdict for record in records} == {ACCEPTED}
    assert min(record.ingested_at for record in records) < START + 20 * DAY
    with closing(merged(Archive(tmp_path / "archive"), tmp_path)) as log:
        assert {record.verdict for record in everything(log)} == {LATE}


def test_it_is_read_only(tmp_path: Path) -> None:
    log = merged(Archive(tmp_path / "archive"), tmp_path)
    assert (log.end(), log.read(0, 10), log.wait(0, 1.0), log.impression("r")) == (0, [], False, None)
    with pytest.raises(ContractError):
        log.append([click("u1")])
    assert log.erase("u1") == 0
    assert log.erasures(9) == []
    log.close()


def test_a_hole_is_passed_over(tmp_path: Path) -> None:
    sending = Sending()
    sending.send(*(click("u1", f"i{number}") for number in range(30)))
    archive = archived(sending.broker, tmp_path)
    spans = {str(Partition.parse(name)): position for name, position in archive.manifest().positions.items()}
    name = next(name for name, position in spans.items() if position == 30)
    rows = archive.rows(Partition.parse(name), 0, 30)
    other = Archive(tmp_path / "other")
    assert other.append(rows[:10], {Partition.parse(name): 0})
    assert other.append(rows[20:], {Partition.parse(name): 20})
    with closing(merged(other, tmp_path)) as log:
        found = [record.event.item_id for record in everything(log)]  # type: ignore[union-attr]
    assert found == [f"i{number}" for number in (*range(10), *range(20, 30))]
