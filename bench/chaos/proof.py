"""What the state must be: by counting what was sent, and by folding the log again from its start in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.chaos.world import Events

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.log import START
from penchant.core.partitions import Message, Meta, Partition, decode_meta
from penchant.core.state import Key, item_key, user_key
from penchant.settings import load

_AT_ONCE = 5_000


class Proof:
    """Compares Redis with both."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._parts = ClusterParts.of(folder, load(folder, environment))
        self._state = self._parts.state(30_000)
        self._reader = self._parts.reader()

    def run(self, events: Events, accepted: Sequence[int]) -> dict[str, Any]:
        """Lost, doubled and wrong, with what was compared; all three should be 0."""
        told: dict[str, Any] = {}
        try:
            by_item, by_user = events.expected(accepted)
            lost = doubled = 0
            cells = Counter[str]()
            for side, expected in (("item", by_item), ("user", by_user)):
                for key, found, wanted in self._counted(side, expected):
                    cells[side] += 1
                    lost += max(0, wanted - found)
                    doubled += max(0, found - wanted)
                    if found != wanted and len(told.setdefault("examples", [])) < 5:
                        told["examples"].append((key, found, wanted))
            told |= {"events_lost": lost, "events_doubled": doubled, "counters_compared": dict(cells)}
            wrong, compared, repeated, examples = self._folded_again()
            told |= {
                "wrong_cells": wrong,
                "cells_compared": compared,
                "messages_repeated": repeated,
            }
            if examples:
                told["wrong_examples"] = examples
        finally:
            self._state.close()
            self._reader.close()
        return told

    def _counted(
        self, side: str, expected: Mapping[tuple[str, str], int]
    ) -> Iterator[tuple[tuple[str, str], int, int]]:
        """Every counter of every item or user that was sent: as the state has it, and as it was sent."""
        layout, reader = self._parts.layout, self._parts.definition.reader
        actions = list(self._parts.definition.schema.actions)
        names = sorted({name for name, _ in expected})
        place, key = (layout.item, item_key) if side == "item" else (layout.user, user_key)
        for start in range(0, len(names), 200):
            some = names[start : start + 200]
            views = self._state.read([(place(name), [key(name)]) for name in some])
            for name, view in zip(some, views, strict=True):
                counters = reader.counters(view.values[0])
                for action in actions:
                    yield (name, action), counters[action], expected.get((name, action), 0)

    def _folded_again(self) -> tuple[int, int, int, list[str]]:
        """Keys of Redis that differ from the log folded from its start by one process without a fault."""
        sides = self._parts.sides()
        wrong = compared = repeated = 0
        examples: list[str] = []
        for partition in self._parts.layout.all():
            values: dict[Key, bytes | None] = {}
            meta, fence = Meta(), START
            for messages in self._messages(partition):
                batch, known = sides.batch(partition, fence, meta, messages)
                repeated += known
                batch.values = {key: values.get(key) for key in sides.wanted(batch)}
                sides.fold([batch], emit=False)
                values |= batch.writes
                meta, fence = batch.meta, batch.position
            expected = {key: value for key, value in values.items() if value is not None}
            found = self._found(partition)
            stated = decode_meta(found.pop(b"#meta", None))
            same = (stated.clock, stated.entities) == (meta.clock, meta.entities)
            compared += len(expected.keys() | found.keys()) + 1
            differing = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
            wrong += len(differing) + (not same)
            if (differing or not same) and len(examples) < 5:
                examples.append(f"{partition}: {differing[:3]!r} meta {stated} {meta}")
        return wrong, compared, repeated, examples

    def _messages(self, partition: Partition) -> Iterator[Sequence[Message]]:
        after = START
        while messages := self._reader.read(partition, after, _AT_ONCE):
            after = messages[-1].position
            yield messages

    def _found(self, partition: Partition) -> dict[Key, bytes]:
        snapshot = self._state.partition(partition).snapshot()
        try:
            return dict(snapshot.scan(b""))
        finally:
            snapshot.close()
