"""The engine: one request in, one slate out, answered from one consistent world."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from penchant.core.candidates import Outcome, Reason
from penchant.core.clock import Clock, Millis
from penchant.core.errors import InvalidRequest, StateUnavailable
from penchant.core.query import Query, UserState
from penchant.features.reader import Reader
from penchant.pipeline.executor import PolicyFailure
from penchant.serving import wire
from penchant.serving.answers import Answers
from penchant.serving.fallback import Fallback
from penchant.serving.impressions import ImpressionWriter, impression_of
from penchant.serving.live import Live, World
from penchant.serving.queries import CompiledSurface, Preparation
from penchant.serving.reading import Intake, Reading, Stored
from penchant.serving.rows import distinct_rows
from penchant.telemetry import logger

ROWS = "because"
"""The surface that answers for one row about an item."""
_NOBODY = Stored(0, None, None)
_REMEMBERED = 10_000
_LEAST = 3
"""A row of fewer items is left out, unless fewer are asked for."""
_SPARE = 5
"""So many more items are tried than rows are wanted."""
_QUIET_S = 10.0
"""One line about a state that is away in so long, and not one for every request."""


class Assigner(Protocol):
    """Which arm of which experiment a user of a surface is in, and the surface that answers then."""

    def assign(self, surface: str, user_id: str) -> tuple[Mapping[str, str], str]: ...


class Engine:
    """Answers recommendations. Safe to call from several threads; its one thread writes impressions."""

    def __init__(
        self,
        *,
        intake: Intake,
        reading: Reading,
        reader: Reader,
        live: World,
        preparation: Preparation,
        fallback: Fallback,
        answers: Answers,
        assigner: Assigner,
        clock: Clock,
        timer: Callable[[], float] = time.perf_counter,
        patience: float = 0.0,
    ) -> None:
        self.live = live
        self.impressions = ImpressionWriter(intake, patience=patience)
        self._reading = reading
        self._reader = reader
        self._preparation = preparation
        self._fallback = fallback
        self._answers = answers
        self._assigner = assigner
        self._clock = clock
        self._timer = timer
        self._users: OrderedDict[str, Stored] = OrderedDict()
        """As last read, for the day the store fails; evaluated anew then, as windows move with time."""
        self._quiet_until = float("-inf")

    def recommend(self, request: wire.Request, request_id: str) -> wire.Answer:
        """The slate for a request; raises `InvalidRequest` and `NotFound`, and otherwise always answers."""
        problems: list[str] = []
        live = self._world(request, problems)
        experiment, name = self._assigner.assign(request.surface, request.user_id or request.session_id or "")
        surface = live.compiled.surfaces.get(name)
        if surface is None:
            known = ", ".join(sorted(live.compiled.surfaces))
            raise InvalidRequest("surface", "unknown_surface", f"no surface {request.surface!r}; there are: {known}")
        now = max(self._clock.now(), live.items.time)
        user = self._user(request.user_id or request.session_id or "", now, problems)
        query = self._preparation.query(
            request,
            request_id=request_id,
            now=now,
            surface=surface,
            user=user,
            items=live.items,
            problems=problems,
        )
        return self._answered(live, query, self._run(surface, query, request, problems), request, experiment)

    def rows(self, user_id: str, n: int, size: int, where: wire.Where, request_id: str) -> wire.Rows:
        """At most `n` rows about what the user took, the newest first; raises `InvalidRequest`.

        No row is about what the user has hidden. A row has no fallback: about an item of which no source knows enough
        to propose three, there is none.
        """
        problems: list[str] = []
        live, rows, shown = self.live.current, list[wire.Row](), list[str]()
        experiment, name = self._assigner.assign(ROWS, user_id)
        surface, items = live.compiled.surfaces[name], live.items
        if surface.settings.about != "liked":
            raise InvalidRequest("", "no_rows", f'surface {name!r} makes no rows; give it about = "liked"')
        self._preparation.check(where)  # with nobody to make rows for, too
        now = max(self._clock.now(), items.time)
        user = self._user(user_id, now, problems)
        liked, _ = self._preparation.liked(user, items)
        liked = liked[~np.isin(liked, distinct_rows(user.hidden, items))]
        for seed in liked[: n + _SPARE].tolist():
            request = wire.Request(
                user_id=user_id, surface=ROWS, item_id=items.ids[seed], n=size, exclude=shown, where=where
            )
            query = self._preparation.query(
                request,
                request_id=f"{request_id[:120]}.{len(rows) + 1}",
                now=now,
                surface=surface,
                user=user,
                items=items,
                problems=problems,
            )
            try:
                outcome = surface.pipeline.run(query)
            except PolicyFailure as failure:
                logger.error("request %s: %s", query.request_id, failure)
                break
            if len(outcome.slate) < min(size, _LEAST):
                continue
            outcome = outcome.with_degraded(problems) if problems else outcome
            slate = self._answered(live, query, outcome, request, experiment)
            rows.append(wire.Row(reason=self._answers.told(Reason("because", seed), items), slate=slate))
            shown = [*shown, *(item.item_id for item in slate.items)]
            if len(rows) == n:
                break
        return wire.Rows(user_id=user_id, rows=rows)

    def _answered(
        self, live: Live, query: Query, outcome: Outcome, request: wire.Request, experiment: Mapping[str, str]
    ) -> wire.Answer:
        """The answer; its impression is on the way to the log."""
        position = self._reading.token(query.user_id, query.user.position, live.items)
        answer = self._answers.answer(query, outcome, request, live.compiled, experiment, position)
        if request.record:
            self.impressions.put(
                impression_of(
                    query,
                    outcome,
                    request,
                    artifact=live.compiled.artifact,
                    columns=live.compiled.columns,
                    experiment=dict(experiment),
                )
            )
        return answer

    def wait(self, place: object, user_id: str | None, wait_ms: int) -> bool:
        """Whether state and picture reach a place within `wait_ms`; `user_id` as in `Reading.reached`."""
        deadline = self._timer() + wait_ms / 1_000
        while not (self._reading.reached(place, user_id) and self.live.catch_up(place)):
            if self._timer() >= deadline:
                return False
            time.sleep(0.001)
        return True

    def close(self) -> None:
        """Write the impressions that are queued."""
        self.impressions.close()

    def _world(self, request: wire.Request, problems: list[str]) -> Live:
        if request.after is not None:
            place = self._reading.place(request.after, "after")
            try:
                reached = self.wait(place, request.user_id or request.session_id or "", request.wait_ms)
            except StateUnavailable as error:
                self._complain(error)
                reached = False
            if not reached:
                problems.append("stale")
        return self.live.current

    def _user(self, user_id: str, now: Millis, problems: list[str]) -> UserState:
        try:
            stored = self._reading.user(user_id)
        except StateUnavailable as error:
            self._complain(error)
            problems.append("state")
            stored = self._users.get(user_id, _NOBODY)
        else:
            if user_id:
                self._users[user_id] = stored
                if len(self._users) > _REMEMBERED:
                    self._users.popitem(last=False)
        return self._reader.user(*stored, now)

    def _complain(self, error: StateUnavailable) -> None:
        now = self._timer()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            logger.error("slates go without live state: %s", error)

    def _run(self, surface: CompiledSurface, query: Query, request: wire.Request, problems: list[str]) -> Outcome:
        failed: Sequence[str]
        try:
            outcome = surface.pipeline.run(query, trace=request.explain)
            failed = outcome.degraded
            if len(outcome.slate) > 0 or query.rank_only is not None or not surface.settings.filled:
                if len(outcome.slate) > 0 and query.rank_only is None and query.seed_row < 0:
                    self._fallback.remember(query, outcome.slate.rows)
                return outcome.with_degraded(problems) if problems else outcome
        except PolicyFailure as failure:
            logger.error("request %s: %s", query.request_id, failure)
            failed = [f"filter:{failure.stage}"]
        outcome = self._fallback.answer(self._preparation.unfiltered(query, request, surface), failed)
        if problems:
            outcome = outcome.with_degraded(problems)
        return outcome
