"""Slates that the pipeline would have made of recorded history, as impressions marked simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace

import msgspec
import numpy as np

from penchant.assembly.history import past_state
from penchant.assembly.parts import Parts
from penchant.catalog.columns import ItemColumns
from penchant.core.candidates import Candidates, Reason, Slate
from penchant.core.events import Event, Impression, Interaction
from penchant.core.log import LogReader, Record
from penchant.rerank.selector import best_first
from penchant.serving import wire
from penchant.serving.impressions import impression_of
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation
from penchant.serving.replay import Asked, Replay

DRAWN = 29
"""Candidates that a replayed request is represented by, beside the item that was taken."""

Progress = Callable[[str, int, int], None]
"""Called with the step, how much is done and how much there is."""


class WithSimulated:
    """A log in which recorded history carries the slates that the pipeline makes of it, marked simulated.

    An external impression is replaced by what was simulated for it; a slate that an interaction prompted comes
    just before it.
    """

    def __init__(self, log: LogReader, simulated: Iterable[Record]) -> None:
        self._log = log
        self._simulated = {record.position: record for record in simulated}

    def read(self, after: int, limit: int) -> Sequence[Record]:
        """As the log's, with what was simulated."""
        records: list[Record] = []
        for record in self._log.read(after, limit):
            simulated = self._simulated.get(record.position)
            if simulated is not None:
                records.append(simulated)
            if simulated is None or not isinstance(record.event, Impression):
                records.append(record)
        return records

    def end(self) -> int:
        """As the log's."""
        return self._log.end()


def simulate(
    parts: Parts,
    compiled: Compiled,
    surface: str,
    positions: Set[int],
    *,
    after: int,
    every: int = 200,
    progress: Progress | None = None,
    answered: Callable[[Asked], None] = lambda _asked: None,
) -> list[Record]:
    """The impressions that stand for the records at `positions`, all past `after`, in the order of the log.

    The state is that just before each record. The picture of the items is renewed when `every` more were folded.
    `answered` hears of each as the pipeline answered it.
    """
    tell = progress or (lambda *_: None)
    definition = parts.definition
    store, step = past_state(parts)
    replay = Replay(
        log=parts.log,
        store=store,
        step=step,
        columns=ItemColumns(definition.schema, definition.reader),
        reader=definition.reader,
        preparation=Preparation(definition.schema, definition.settings.sources.segment),
        compiled=compiled,
        every=every,
    )
    simulated: list[Record] = []

    def ask(record: Record) -> wire.Request | None:
        return request_for(record.event, surface) if record.position in positions else None

    for done, asked in enumerate(replay.asked(ask, after=after)):
        answered(asked)
        record = simulated_record(asked, compiled, surface)
        if record is not None:
            simulated.append(record)
        if done % 100 == 0:
            tell("simulate", done, len(positions))
    tell("simulate", len(positions), len(positions))
    return simulated


def request_for(event: Event, surface: str, n: int = 20) -> wire.Request | None:
    """The request that a recorded event stands for: an impression's items ranked, or a slate before an interaction."""
    if isinstance(event, Impression):
        return wire.Request(user_id=event.user_id, surface=surface, items=[shown.item_id for shown in event.items])
    if isinstance(event, Interaction):
        return wire.Request(user_id=event.user_id, surface=surface, n=n)
    return None


def simulated_record(asked: Asked, compiled: Compiled, surface: str, drawn: int = DRAWN) -> Record | None:
    """The impression that stands for a replayed request, marked simulated; None when it teaches nothing.

    A replayed impression keeps its items and the ranks that people saw. A request before an interaction is answered
    with its candidates: the item that was taken and `drawn` others, whose propensity is the chance of the draw (a
    function of the position). Rows are not weighted by it: that would only move every head's odds by one factor, and
    let few heavy rows decide. Without the item among the candidates there is nothing to learn from.
    """
    record, query, outcome = asked.record, asked.query, asked.outcome
    request = request_for(record.event, surface)
    if request is None:
        raise TypeError(type(record.event).__name__)
    if isinstance(record.event, Interaction):
        chosen = _draw(outcome.candidates, query.items.row(record.event.item_id), record.position, drawn)
        if chosen is None:
            return None
        outcome = replace(outcome, slate=chosen)
    impression = impression_of(
        query, outcome, request, artifact=compiled.artifact, columns=compiled.columns, experiment={}
    )
    if impression.served is None:
        raise TypeError("an impression of the engine carries what was served")
    served = msgspec.structs.replace(impression.served, simulated=True)
    impression = msgspec.structs.replace(impression, ts=record.ts, served=served)
    if isinstance(record.event, Impression):
        shown = {item.item_id: item for item in record.event.items}
        impression = msgspec.structs.replace(
            impression,
            request_id=record.event.request_id,
            items=[shown[item.item_id] for item in impression.items],  # the ranks that people saw, beside our features
        )
    return msgspec.structs.replace(record, event=impression)


def _draw(candidates: Candidates, target: int, seed: int, drawn: int) -> Slate | None:
    """The target and `drawn` others in the order of their value; None without the target."""
    order = best_first(candidates.columns["value"], candidates.rows)
    rows = candidates.rows[order]
    others = np.flatnonzero(rows != target)
    if len(others) == len(rows) or len(others) == 0:
        return None
    count = min(drawn, len(others))
    picked = np.random.default_rng(seed).choice(others, count, replace=False)
    kept = np.sort(np.append(picked, np.flatnonzero(rows == target)))
    index = order[kept]
    propensities = np.where(candidates.rows[index] == target, 1.0, count / len(others)).astype(np.float32)
    return Slate(
        rows=candidates.rows[index],
        scores=candidates.columns["value"][index],
        propensities=propensities,
        sources=candidates.sources[index],
        reasons=[Reason("ranked")] * len(index),
        index=index,
    )
