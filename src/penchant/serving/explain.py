"""Past slates derived again: the log up to the recorded positions, folded into memory and asked the same question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from penchant.catalog.columns import ItemColumns
from penchant.core.candidates import Outcome
from penchant.core.clock import Millis
from penchant.core.errors import InvalidRequest, NotFound
from penchant.core.events import Impression, Served
from penchant.core.items import Items
from penchant.core.log import Record
from penchant.core.query import Query, UserState
from penchant.core.state import StateStore, profile_key, user_key
from penchant.features.reader import Reader
from penchant.serving import wire
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """A slate derived again, beside what was recorded. `differences` is empty when both are equal, bit for bit."""

    request_id: str
    query: Query
    outcome: Outcome
    compiled: Compiled
    request: wire.Request
    differences: Sequence[str]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


class Past:
    """A world that is moved forwards through the log once, stopping wherever a slate was made.

    `step(upto)` folds the log into `store` up to a position. `compile(artifact)` gives the surfaces as they were
    with that artifact; `emptied` says whether what was folded has lost people who were erased.
    """

    def __init__(
        self,
        *,
        store: StateStore,
        step: Callable[[int], None],
        columns: ItemColumns,
        reader: Reader,
        preparation: Preparation,
        compile: Callable[[str], Compiled],
        emptied: Callable[[], bool],
    ) -> None:
        self._store = store
        self._step = step
        self._columns = columns
        self._reader = reader
        self._preparation = preparation
        self._compile = compile
        self._emptied = emptied

    def derive(self, records: Iterable[Record]) -> Iterator[Derived]:
        """Answer again what the impressions in `records` answered, in the order of their states.

        Raises `NotFound` for a record that is not an impression of the engine's own, or whose person was erased.
        """
        served = [_served(record) for record in records]
        pictures: dict[tuple[int, int], Items] = {}
        waiting = Counter((one.items_position, one.items_time) for _, one in served)
        stops = sorted(
            [*((*key, -1) for key in waiting), *((one.position, _LAST, n) for n, (_, one) in enumerate(served))]
        )
        for position, moment, number in stops:
            self._step(position)
            if number < 0:
                pictures[position, moment] = self._items(moment)
                continue
            impression, one = served[number]
            key = (one.items_position, one.items_time)
            yield self._derive(impression, one, pictures[key])
            waiting[key] -= 1
            if not waiting[key]:
                del pictures[key]

    def _items(self, moment: Millis) -> Items:
        snapshot = self._store.snapshot()
        try:
            return self._columns.refresh(snapshot, moment)
        finally:
            snapshot.close()

    def _derive(self, impression: Impression, served: Served, items: Items) -> Derived:
        request = msgspec.json.decode(served.request, type=wire.Request)
        compiled = self._compile(served.artifact)
        surface = compiled.surfaces.get(served.surface)
        if surface is None:
            text = f"surface {served.surface!r} is no longer in the settings"
            raise InvalidRequest("surface", "unknown_surface", text)
        problems: list[str] = []
        query = self._preparation.query(
            request,
            request_id=impression.request_id or "",
            now=served.now,
            surface=surface,
            user=self._user(impression.user_id, served),
            items=compiled.prepared(items),
            problems=problems,
        )
        outcome = surface.pipeline.run(query, trace=True).with_degraded(problems)
        differences = list(_differences(impression, served, query, outcome, compiled))
        if differences:
            differences += _excuses(served, self._emptied())
        return Derived(impression.request_id or "", query, outcome, compiled, request, differences)

    def _user(self, user_id: str, served: Served) -> UserState:
        if not user_id:
            return self._reader.user(served.position, None, None, served.now)
        snapshot = self._store.snapshot()
        try:
            blob, profile = snapshot.get_many([user_key(user_id), profile_key(user_id)])
        finally:
            snapshot.close()
        return self._reader.user(served.position, blob, profile, served.now)


_LAST = 1 << 62
"""Sorts after every moment: at one position pictures are made before slates."""


def _served(record: Record) -> tuple[Impression, Served]:
    impression = record.event
    if not isinstance(impression, Impression) or impression.served is None:
        raise NotFound(f"record {record.position} is no impression that this engine served (or the person was erased)")
    return impression, impression.served


def _differences(
    impression: Impression, served: Served, query: Query, outcome: Outcome, compiled: Compiled
) -> Sequence[str]:
    """What differs, in words; the order of the checks is the order in which a person would look."""
    found: list[str] = []
    ids = [query.items.ids[row] for row in outcome.slate.rows.tolist()]
    if compiled.columns != served.columns:
        found.append("the feature columns are others now (settings or artifact changed)")
    if ids != [item.item_id for item in impression.items]:
        found.append("items or their order")
    if outcome.slate.scores.tobytes() != served.scores:
        found.append("scores")
    if outcome.slate.propensities.tolist() != [item.propensity for item in impression.items]:
        found.append("propensities")
    matrix = outcome.candidates.features
    features = b"" if matrix is None else np.ascontiguousarray(matrix[:, outcome.slate.index].T).tobytes()
    if features != served.features:
        found.append("features")
    return found


def _excuses(served: Served, emptied: bool) -> Iterator[str]:
    """Why a difference need not mean a fault."""
    if served.degraded:
        yield f"the request was degraded ({', '.join(served.degraded)}), and failures are not repeated"
    if emptied:
        yield "people were erased since, and what they had added to items went with them"
