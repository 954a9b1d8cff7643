"""From one folder to several machines: the log sent again in order, folded there, and both states compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penchant.assembly.cluster.catching_up import Tell, fold_to_end
from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.parts import Parts, open_parts
from penchant.core.errors import PenchantError
from penchant.core.log import START
from penchant.core.outbox import Depth, Pending, Taken
from penchant.core.partitions import META_KEY, Place, decode_meta
from penchant.core.profiles import decode_item, decode_user
from penchant.core.state import Key, StateStore, catalog_key, item_key, neighbours_key, profile_key, user_key
from penchant.log.joins import Joins
from penchant.log.relay import Relay
from penchant.log.sqlite import SqliteLog
from penchant.retrieval.covisit_fold import TABLE
from penchant.settings import Settings
from penchant.stream.runner import StreamRunner

_AT_ONCE = 500


class LogOutbox:
    """A log in a file as an outbox: all its records, in order, with the times at which it took them."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.name = f"log-{log.epoch[:16]}"

    def read(self, after: Place | None, limit: int) -> Sequence[Pending]:
        """Records past `after`."""
        records = self._log.read(START if after is None else after[1], limit)
        return [
            Pending(
                (0, record.position),
                record.ingested_at,
                msgspec.structs.replace(record.event, ts=record.ts),
                record.ingested_at,
            )
            for record in records
        ]

    def append(self, events: Sequence[Any]) -> Taken:
        """Nothing is added to a log that moves."""
        raise PenchantError(f"{len(events)} events for a log that is being moved")

    def wait(self, after: Place | None, timeout: float) -> bool:
        """Nothing comes by waiting."""
        del timeout
        return self._log.end() > (START if after is None else after[1])

    def confirm(self, upto: Place) -> None:
        """The log keeps what it has."""

    def depth(self) -> Depth:
        """Not asked for."""
        return Depth(self._log.end(), 0)

    def lead(self) -> bool:
        """Nobody else moves it."""
        return True

    def resign(self) -> None:
        """Nobody waits for it."""

    def close(self) -> None:
        """The log is closed by whoever opened it."""


@dataclass(slots=True)
class Compared:
    """How both states agree; `differ` names the first few that do not."""

    users: int = 0
    items: int = 0
    cells: int = 0
    wrong: int = 0
    overflowed: int = 0
    """Tables of co-visitation that were full: what those keep depends on the order of everybody's events."""
    forgotten: int = 0
    """Tables in which the folder still counts what people paired who were erased since: its log does not name them."""
    differ: list[str] = field(default_factory=list)

    def check(self, name: str, left: object, right: object) -> None:
        """Count one cell."""
        self.cells += 1
        if left != right:
            self.wrong += 1
            if len(self.differ) < 10:
                self.differ.append(f"{name}: {str(left)[:200]} here, {str(right)[:200]} there")


def folder_settings(settings: Settings) -> Settings:
    """The settings of the same deployment in a folder."""
    return msgspec.structs.replace(
        settings,
        log=msgspec.structs.replace(settings.log, url="sqlite:"),
        state=msgspec.structs.replace(settings.state, url="sqlite:"),
    )


class Migration:
    """Moves the log of a folder. Can be run again at any time: what was sent is known there and counts once."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        if not (folder / "log.sqlite").exists():
            raise PenchantError(f"{folder} has no log.sqlite to move; import or collect into the new log instead")
        self._there = ClusterParts.of(folder, settings)
        self._here: Parts = open_parts(folder, folder_settings(settings))
        self._state = self._there.state()
        self._folded: StateStore | None = None

    def warnings(self) -> list[str]:
        """What should be mended about the servers first."""
        return self._state.check()

    def run(self, tell: Tell) -> Compared:
        """Send, fold and compare; raises `LogUnavailable` and `StateUnavailable` when a server is away."""
        log = self._here.log
        assert isinstance(log, SqliteLog)
        self._there.ensure_topics()
        outbox = LogOutbox(log)
        self._refuse_others(outbox.name)
        runner = StreamRunner(log, self._here.store, self._here.definition.folds())
        while runner.step():
            tell("folding what is not folded here", runner.position, log.end())
        self._send(outbox, log.end(), tell)
        self._fold(tell)
        return self._compare(tell)

    def close(self) -> None:
        """Let go."""
        if self._folded is not None:
            self._folded.close()
        self._here.close()
        self._state.close()

    def _refuse_others(self, source: str) -> None:
        """History must come first: after live events it would be late."""
        partitions = self._there.layout.all()
        for partition, view in zip(partitions, self._state.read([(p, [META_KEY]) for p in partitions]), strict=True):
            others = [name for name in decode_meta(view.values[0]).sources if name != source and "/" not in name]
            if others:
                raise PenchantError(
                    f"{partition} has events of another source ({others[0]}) already: history must come before them; "
                    "use another topic, and another [project] name for another state"
                )

    def _send(self, outbox: LogOutbox, end: int, tell: Tell) -> None:
        joins = Joins(
            self._state, self._there.layout, self._there.definition.schema, reader=self._there.reader(deeds=False)
        )
        relay = Relay(outbox, self._there.sender, self._there.layout, joins, batch=5_000, rng=random.SystemRandom())
        sent = 0
        try:
            while count := relay.step():
                sent += count
                tell("sending", sent, end)
        finally:
            relay.close()

    def _fold(self, tell: Tell) -> None:
        reader = self._there.reader()
        try:
            fold_to_end(self._there, self._state, reader, tell)
        finally:
            reader.close()

    def _compare(self, tell: Tell) -> Compared:
        definition = self._here.definition
        reader, now = definition.reader, self._now()
        compared = Compared()
        snapshot = self._here.store.snapshot()
        try:
            total = snapshot.count(b"u") + snapshot.count(b"c")
            for some in _chunks(sorted({key[1:] for kind in (b"u", b"p") for key, _ in snapshot.scan(kind)})):
                ids = [one.decode() for one in some]
                here, there = self._both(snapshot.get_many, ids, (user_key, profile_key))
                for name, left, right in zip(ids, here, there, strict=True):
                    compared.users += 1
                    _features(compared, reader, "user", name, left[0], right[0], now)
                    mine, theirs = reader.recent(left[0]), reader.recent(right[0])
                    for part in ("items", "actions", "ts", "values"):
                        same = np.array_equal(getattr(mine, part), getattr(theirs, part))
                        compared.check(f"user {name} recent {part}", True, same)
                    profiles = [None if raw is None else decode_user(raw).attributes for raw in (left[1], right[1])]
                    compared.check(f"user {name} attributes", *profiles)
                tell("comparing", compared.users, total)
            for some in _chunks(sorted(key[1:] for key, _ in snapshot.scan(b"c"))):
                ids = [one.decode() for one in some]
                here, there = self._both(snapshot.get_many, ids, (catalog_key, item_key, neighbours_key))
                for name, left, right in zip(ids, here, there, strict=True):
                    compared.items += 1
                    _features(compared, reader, "item", name, left[1], right[1], now)
                    facts = [
                        None if raw is None else msgspec.structs.replace(decode_item(raw), row=0)
                        for raw in (left[0], right[0])
                    ]
                    compared.check(f"item {name} profile", *facts)
                    if max(len(blob or b"") for blob in (left[2], right[2])) >= 16 * TABLE:
                        compared.overflowed += 1
                    elif left[2] != right[2]:
                        compared.forgotten += 1
                        compared.check(f"item {name} partners", self._anew(name, tell), right[2])
                    else:
                        compared.check(f"item {name} partners", left[2], right[2])
                tell("comparing", compared.users + compared.items, total)
        finally:
            snapshot.close()
        return compared

    def _anew(self, item_id: str, tell: Tell) -> bytes | None:
        """The item's partners as the log has them now: without those that erased people gave it."""
        if self._folded is None:
            log = self._here.log
            self._folded = self._here.definition.memory_store()
            runner = StreamRunner(log, self._folded, self._here.definition.folds())
            while runner.step():
                tell("folding without the erased", runner.position, log.end())
        snapshot = self._folded.snapshot()
        try:
            (blob,) = snapshot.get_many([neighbours_key(item_id)])
            return blob
        finally:
            snapshot.close()

    def _now(self) -> int:
        """A time that is not before anything that either state has folded: earlier tiles are gone from both."""
        partitions = self._there.layout.all()
        views = self._state.read([(partition, [META_KEY]) for partition in partitions])
        return max(self._here.clock.now(), *(decode_meta(view.values[0]).clock for view in views))

    def _both(
        self, get_many: Callable[[Sequence[Key]], Sequence[bytes | None]], ids: Sequence[str], kinds: Sequence[Any]
    ) -> tuple[list[Sequence[bytes | None]], list[Sequence[bytes | None]]]:
        """By id, the values of the keys of each kind: of the folder, and of the state in partitions."""
        width = len(kinds)
        flat = get_many([kind(one) for one in ids for kind in kinds])
        here = [flat[at : at + width] for at in range(0, len(flat), width)]
        place = self._there.layout.user if kinds[0] is user_key else self._there.layout.item
        views = self._state.read([(place(one), [kind(one) for kind in kinds]) for one in ids])
        return here, [view.values for view in views]


def _features(
    compared: Compared, reader: Any, entity: str, name: str, left: bytes | None, right: bytes | None, now: int
) -> None:
    here: Mapping[str, object] = {**reader.describe(left, entity, now), **reader.counters(left)}
    there: Mapping[str, object] = {**reader.describe(right, entity, now), **reader.counters(right)}
    for feature in sorted({*here, *there}):
        compared.check(f"{entity} {name} {feature}", here.get(feature), there.get(feature))


def _chunks(ids: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
