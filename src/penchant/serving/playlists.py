"""Slates made ahead of time, such as a weekly playlist: the request path of a surface, in a world that stands still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np

from penchant.core.clock import Millis
from penchant.core.hashing import hash_id
from penchant.features.reader import Reader
from penchant.rerank.discovery import Discovery
from penchant.serving import wire
from penchant.serving.answers import Answers
from penchant.serving.live import Live
from penchant.serving.queries import Preparation


class Assigner(Protocol):
    """Which arm of which experiment a user of a surface is in, and the surface that answers then."""

    def assign(self, surface: str, user_id: str) -> tuple[Mapping[str, str], str]: ...


class PlaylistItem(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a playlist; `rank` counts from 1, `discovery` says that it is new ground for the person."""

    item_id: str
    rank: int
    score: float
    propensity: float
    discovery: bool
    sources: list[str]
    reason: wire.ReasonAnswer


class Playlist(msgspec.Struct, frozen=True, kw_only=True):
    """A slate made ahead of time. `request_id` is for the impression that whoever shows it sends."""

    user_id: str
    request_id: str
    surface: str
    position: str
    made_at: str
    artifact: str | None
    experiment: dict[str, str]
    items: list[PlaylistItem]
    degraded: list[str]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlaylistMaker:
    """Makes playlists of one surface: a function of the world and of what the state says of a person."""

    live: Live
    reader: Reader
    preparation: Preparation
    answers: Answers
    assigner: Assigner
    discovery: Discovery
    surface: str
    n: int
    now: Millis

    def make(self, user_id: str, position: int, blob: bytes | None, profile: bytes | None) -> Playlist:
        """The playlist of a person; raises `PolicyFailure`: in a batch there is time to mend it."""
        request_id = f"{self.surface}.{self.now:x}.{hash_id(user_id):x}"
        experiment, name = self.assigner.assign(self.surface, user_id)
        surface, items = self.live.compiled.surfaces[name], self.live.items
        request = wire.Request(user_id=user_id, surface=self.surface, n=self.n, record=False)
        problems: list[str] = []
        query = self.preparation.query(
            request,
            request_id=request_id,
            now=self.now,
            surface=surface,
            user=self.reader.user(position, blob, profile, self.now),
            items=items,
            problems=problems,
        )
        unmet = self.discovery.unmet(items, np.union1d(query.history, query.seen).astype(np.int32))
        # Without a share it is the surface's own slate; with one, a slate of each kind, from which slots are filled.
        kinds = [~unmet, unmet] if self.discovery.share else [np.ones(items.count, np.bool_)]
        outcomes = [surface.pipeline.run(replace(query, eligible=query.eligible & kind)) for kind in kinds]
        answers = [
            self.answers.answer(query, outcome, request, self.live.compiled, experiment, str(position))
            for outcome in outcomes
        ]
        rows = [outcome.slate.rows for outcome in outcomes]
        order = self.discovery.compose(items, rows[0], rows[1], self.n) if len(rows) > 1 else np.arange(len(rows[0]))
        found = unmet[np.concatenate(rows)[order]].tolist()
        given = [item for answer in answers for item in answer.items]
        shown = [given[index] for index in order.tolist()]
        problems += dict.fromkeys(problem for outcome in outcomes for problem in outcome.degraded)
        return Playlist(
            user_id=user_id,
            request_id=request_id,
            surface=self.surface,
            position=str(position),
            made_at=wire.rfc3339(self.now),
            artifact=f"sha256:{self.live.compiled.artifact}" if self.live.compiled.artifact else None,
            experiment=dict(experiment),
            items=[
                PlaylistItem(
                    item_id=item.item_id,
                    rank=rank,
                    score=item.score,
                    propensity=item.propensity,
                    discovery=new,
                    sources=item.sources,
                    reason=item.reason,
                )
                for rank, (item, new) in enumerate(zip(shown, found, strict=True), start=1)
            ],
            degraded=problems,
        )
