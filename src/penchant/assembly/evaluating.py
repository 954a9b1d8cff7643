"""Evaluation on a deployment's own log, through its own request path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from penchant.assembly.defaults import surfaces_of
from penchant.assembly.history import LogPrefix, past_state
from penchant.assembly.parts import Definition, Parts
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.assembly.training import SIMULATED, WATCHED, Trainer
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
from penchant.training.fusion import LEAST
from penchant.training.gbdt import Objective

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
    objective: Objective | None = None,
    progress: Progress | None = None,
) -> Report:
    """Walk through the newest `share` of the positive interactions; ask for a slate before each, `requests` at most.

    Nothing knows the future: where the live artifact knows more than the part before, models and the weights of the
    sources are learned from that part as `Trainer` does, and with an `objective` a ranker.
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
    compiled, model = _engine_of_the_past(parts, definition, surface, start, objective, tell)
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


def _engine_of_the_past(
    parts: Parts, definition: Definition, surface: str, start: int, objective: Objective | None, tell: Progress
) -> tuple[Compiled, str]:
    """The live artifact where it knows nothing of what is asked, else what the log up to `start` teaches."""
    compiler = SurfaceCompiler(definition, parts.artifacts)
    live = parts.artifacts.live()
    if live and parts.artifacts.manifest(live).data.last_position <= start:
        return compiler.compile(live), f"artifact {live[:12]}"
    log = LogPrefix(parts.log)
    log.upto = start
    trainer = Trainer(replace(parts, definition=definition, log=log), tell)
    learned = trainer.learn(surface=surface, simulate=WATCHED if objective is None else SIMULATED)
    ranker = None if objective is None else trainer.rank(learned, objective=objective).ranker
    weights = learned.weights.get(surface, {})
    order = f"ranker ({ranker.objective})" if ranker else "sources fused by rank"
    told = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items() if weight > LEAST)
    model = f"{', '.join(learned.models)} on the log up to {start}, {order}"
    heads = ranker.heads if ranker else None
    return compiler.build(learned.models, heads, "", learned.weights), f"{model}: {told}" if told else model


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
