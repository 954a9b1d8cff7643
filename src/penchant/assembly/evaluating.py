"""Evaluation on a deployment's own log, through its own request path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from penchant.assembly.defaults import surfaces_of
from penchant.assembly.history import catalogue, past_state
from penchant.assembly.parts import Definition, Parts
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.catalog.columns import ItemColumns
from penchant.core.events import Interaction
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, START, Record
from penchant.evaluation.prequential import Variant, rank_of
from penchant.serving import wire
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation
from penchant.serving.replay import Replay
from penchant.settings import Settings, SourceRef
from penchant.training.interactions import interactions_csr
from penchant.training.models import Past, train_models

BASELINE = "evaluate_popular"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """Live slates, the same with the state frozen at the start, and decayed popularity; from position `start` on."""

    live: Variant
    frozen: Variant
    popular: Variant
    users: tuple[int, ...]
    start: int
    model: str


def prequential(
    parts: Parts,
    *,
    surface: str = "home",
    share: float = 0.2,
    requests: int = 5_000,
    k: int = 10,
    progress: Progress | None = None,
) -> Report:
    """Walk through the newest `share` of the positive interactions; ask for a slate before each, `requests` at most.

    Nothing knows the future: the models are those of the part before, and the live artifact's ranker only where it was
    trained on that part alone.
    """
    tell = progress or (lambda *_: None)
    targets = _targets(parts)
    chosen_from = targets[len(targets) - round(len(targets) * share) :]
    if not chosen_from:
        return Report(_nothing("live", k), _nothing("frozen", k), _nothing("popular", k), (), 0, "none")
    start = chosen_from[0] - 1
    picks = np.unique(np.linspace(0, len(chosen_from) - 1, min(requests, len(chosen_from))).astype(int))
    chosen = {chosen_from[pick] for pick in picks}
    definition = _with_baseline(parts.definition, surface)
    compiled, model = _models_of_the_past(parts, definition, start, tell)
    ranks: dict[str, list[int]] = {"live": [], "frozen": [], "popular": []}
    users: list[int] = []

    for name, asked_surface in (("live", surface), ("popular", BASELINE), ("frozen", surface)):

        def ask(record: Record, asked_surface: str = asked_surface) -> wire.Request | None:
            if record.position not in chosen or not isinstance(record.event, Interaction):
                return None
            return wire.Request(user_id=record.event.user_id, surface=asked_surface, n=k)

        replay = _replay(parts, definition, compiled, frozen_at=start if name == "frozen" else None)
        for done, asked in enumerate(replay.asked(ask, after=start)):
            event = asked.record.event
            if not isinstance(event, Interaction):
                continue
            ranks[name].append(rank_of(asked.query.items.row(event.item_id), asked.outcome.slate.rows))
            if name == "live":
                users.append(hash_id(event.user_id))
            if done % 100 == 0:
                tell(name, done, len(chosen))
        tell(name, len(chosen), len(chosen))
    variants = {name: Variant(name, np.array(found, np.int64), k) for name, found in ranks.items()}
    return Report(variants["live"], variants["frozen"], variants["popular"], tuple(users), start, model)


def _nothing(name: str, k: int) -> Variant:
    return Variant(name, np.empty(0, np.int64), k)


def _targets(parts: Parts) -> list[int]:
    positive = {name for name, action in parts.definition.schema.actions.items() if action.weight > 0}
    found: list[int] = []
    after = START
    while records := parts.log.read(after, 5_000):
        after = records[-1].position
        found += [
            record.position
            for record in records
            if isinstance(record.event, Interaction)
            and record.verdict == ACCEPTED
            and record.event.user_id
            and record.event.action in positive
        ]
    return found


def _with_baseline(definition: Definition, surface: str) -> Definition:
    """The same deployment with one more surface: decayed popularity under the same filters, without exploration."""
    settings: Settings = definition.settings
    asked = surfaces_of(settings)[surface]
    greedy = msgspec.structs.replace(asked.select, explore=msgspec.structs.replace(asked.select.explore, policy="none"))
    popular = msgspec.structs.replace(
        asked, sources=[SourceRef(name="trending", n=1_000)], rank="source", select=greedy
    )
    surfaces = {
        **settings.surfaces,
        surface: msgspec.structs.replace(asked, select=greedy),
        BASELINE: popular,
    }
    return replace(definition, settings=msgspec.structs.replace(settings, surfaces=surfaces))


def _models_of_the_past(parts: Parts, definition: Definition, start: int, tell: Progress) -> tuple[Compiled, str]:
    compiler = SurfaceCompiler(definition, parts.artifacts)
    training = definition.settings.training
    live = parts.artifacts.live()
    if live and parts.artifacts.manifest(live).data.last_position <= start:
        return compiler.compile(live), f"artifact {live[:12]}"
    told = interactions_csr(parts.log, definition.schema, max_items=training.max_items, end=start)
    past = Past(told, lambda: catalogue(parts, start))
    models = train_models(compiler.modelled, past, training, tell=tell)
    return compiler.build(models, None, ""), f"{', '.join(models)} on the log up to {start}, sources fused by rank"


def _replay(parts: Parts, definition: Definition, compiled: Compiled, *, frozen_at: int | None) -> Replay:
    store, step = past_state(parts)
    if frozen_at is not None:
        step(frozen_at)
    return Replay(
        log=parts.log,
        store=store,
        step=step if frozen_at is None else lambda _: None,
        columns=ItemColumns(definition.schema, definition.reader),
        reader=definition.reader,
        preparation=Preparation(definition.schema, definition.settings.sources.segment),
        compiled=compiled,
    )
