"""Training from end to end: history asked again, EASE, the ranker, an artifact, the gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penchant.assembly.history import past_state
from penchant.assembly.parts import Parts
from penchant.assembly.surfaces import EASE_PART, SurfaceCompiler, head_part
from penchant.catalog.columns import ItemColumns
from penchant.core.events import Event, Impression, Interaction
from penchant.core.log import ACCEPTED, START, LogReader, Record
from penchant.retrieval.linear import EaseModel
from penchant.serving import wire
from penchant.serving.impressions import impression_of
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation
from penchant.serving.replay import Asked, Replay
from penchant.settings import duration
from penchant.training.artifacts import Content, DataRange, Fingerprints, Manifest
from penchant.training.ease import train_ease
from penchant.training.examples import Examples, read_examples
from penchant.training.gbdt import Objective, Ranker, train_ranker
from penchant.training.interactions import interactions_csr
from penchant.training.publish import Gate, gate

Progress = Callable[[str, int, int], None]
"""Called with the step, how much is done and how much there is."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of a training: the artifact (written, not yet live) and the verdict on it."""

    artifact: str
    gate: Gate
    ranker: Ranker | None
    examples: Examples
    simulated: int


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


class Trainer:
    """Trains on one deployment's log. `progress` hears of every long step."""

    def __init__(self, parts: Parts, progress: Progress | None = None) -> None:
        self._parts = parts
        self._definition = parts.definition
        self._compiler = SurfaceCompiler(parts.definition, parts.artifacts)
        self._progress = progress or (lambda *_: None)

    def train(
        self,
        *,
        surface: str = "home",
        simulate: int = 20_000,
        objective: Objective = "binary",
        threads: int = 1,
        seed: int = 0,
        force: bool = False,
    ) -> Trained:
        """Train everything and write an artifact.

        When the log has fewer served impressions than `simulate`, the newest part of its history is replayed through
        the pipeline to make up for it: the slates are drawn with an EASE model of the part before, so that they do
        not know the future.
        """
        settings, schema = self._definition.settings, self._definition.schema
        self._progress("ease", 0, 1)
        model = self._ease(None)
        self._progress("ease", 1, 1)
        simulated = self._simulate(surface, simulate)
        compiled = self._compiler.build(model, None, "")
        log = WithSimulated(self._parts.log, simulated)
        examples = read_examples(
            log,
            schema,
            names=compiled.column_names,
            attribution_ms=duration(settings.training.attribution, "training.attribution"),
            columns=compiled.columns,
        )
        fit, held_out = examples.split(settings.training.holdout) if examples.requests else (examples, examples)
        ranker = None
        if examples.requests >= 50:
            ranker = train_ranker(
                fit, settings.training, schema, objective=objective, threads=threads, seed=seed, progress=self._progress
            )
            if not ranker.heads:
                ranker = None
        verdict = gate(ranker, self._live_ranker(), held_out, seed=seed, force=force)
        artifact = self._write(model, ranker, compiled, verdict, examples)
        return Trained(artifact, verdict, ranker, examples, len(simulated))

    def publish(self, trained: Trained) -> bool:
        """Make the artifact live if the gate let it through; servers swap to it by themselves."""
        if trained.gate.published:
            self._parts.artifacts.publish(trained.artifact)
        return trained.gate.published

    def _ease(self, end: int | None) -> EaseModel | None:
        settings = self._definition.settings.training
        interactions = interactions_csr(self._parts.log, self._definition.schema, max_items=settings.max_items, end=end)
        return train_ease(interactions, settings)

    def _simulate(self, surface: str, wanted: int) -> list[Record]:
        """Simulated impressions: all external ones, and slates before interactions where served ones are few."""
        positions, external, served = self._survey()
        external = external[-wanted:] if wanted else []
        missing = max(0, wanted - served - len(external))
        prompts = positions[-min(missing, int(len(positions) * 0.4)) :] if missing else []
        if not external and not prompts:
            return []
        start = min([*external[:1], *prompts[:1]]) - 1
        compiled = self._compiler.build(self._ease(start) if prompts else self._ease(None), None, "")
        chosen = {*external, *prompts}
        definition = self._definition
        store, step = past_state(self._parts)
        replay = Replay(
            log=self._parts.log,
            store=store,
            step=step,
            columns=ItemColumns(definition.schema, definition.reader),
            reader=definition.reader,
            preparation=Preparation(definition.schema, definition.settings.sources.segment),
            compiled=compiled,
        )
        simulated: list[Record] = []

        def ask(record: Record) -> wire.Request | None:
            return request_for(record.event, surface) if record.position in chosen else None

        for done, asked in enumerate(replay.asked(ask, after=start)):
            simulated.append(simulated_record(asked, compiled, surface))
            if done % 100 == 0:
                self._progress("simulate", done, len(chosen))
        self._progress("simulate", len(chosen), len(chosen))
        return simulated

    def _survey(self) -> tuple[list[int], list[int], int]:
        """Positions of positive interactions, of external impressions, and how many impressions were served."""
        positive = {name for name, action in self._definition.schema.actions.items() if action.weight > 0}
        positions: list[int] = []
        external: list[int] = []
        served, after = 0, START
        while records := self._parts.log.read(after, 5_000):
            after = records[-1].position
            for record in records:
                event = record.event
                if record.verdict != ACCEPTED:
                    continue
                if isinstance(event, Interaction) and event.user_id and event.action in positive:
                    positions.append(record.position)
                elif isinstance(event, Impression) and event.user_id:
                    if event.served is None:
                        external.append(record.position)
                    else:
                        served += 1
        return positions, external, served

    def _live_ranker(self) -> Ranker | None:
        live = self._parts.artifacts.live()
        return self._compiler.ranker(live) if live else None

    def _write(
        self, model: EaseModel | None, ranker: Ranker | None, compiled: Compiled, verdict: Gate, examples: Examples
    ) -> str:
        parts: dict[str, Content] = {}
        models: dict[str, Any] = {}
        if model is not None:
            parts[EASE_PART] = model.parts()
        if ranker is not None:
            parts.update({head_part(name): text for name, text in ranker.heads.items()})
            models["ranker"] = {
                "objective": ranker.objective,
                "heads": list(ranker.heads),
                "position": ranker.position,
                "weights": dict(ranker.weights),
            }
        plan = self._definition.plan
        manifest = Manifest(
            kind="penchant",
            created_at=self._parts.clock.now(),
            data=DataRange(
                first_position=1,
                last_position=self._parts.log.end(),
                first_ts=int(examples.ts.min()) if examples.requests else 0,
                last_ts=int(examples.ts.max()) if examples.requests else 0,
            ),
            fingerprints=Fingerprints(
                state=plan.state_fingerprint, view=plan.view_fingerprint, columns=compiled.columns
            ),
            names=compiled.column_names,
            models=models,
            settings=msgspec.to_builtins(self._definition.settings.training),
            metrics={"gate": msgspec.to_builtins(verdict), "ranker": dict(ranker.metrics) if ranker else {}},
            parent=self._parts.artifacts.live(),
        )
        return self._parts.artifacts.write(parts, manifest)


def request_for(event: Event, surface: str, n: int = 20) -> wire.Request | None:
    """The request that a recorded event stands for: an impression's items ranked, or a slate before an interaction."""
    if isinstance(event, Impression):
        return wire.Request(user_id=event.user_id, surface=surface, items=[shown.item_id for shown in event.items])
    if isinstance(event, Interaction):
        return wire.Request(user_id=event.user_id, surface=surface, n=n)
    return None


def simulated_record(asked: Asked, compiled: Compiled, surface: str) -> Record:
    """The impression that the engine would have logged for a replayed request, marked simulated."""
    record = asked.record
    request = request_for(record.event, surface)
    if request is None:
        raise TypeError(type(record.event).__name__)
    impression = impression_of(
        asked.query, asked.outcome, request, artifact=compiled.artifact, columns=compiled.columns, experiment={}
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
