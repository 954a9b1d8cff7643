"""Training from end to end: models of retrieval, history asked again, the ranker, an artifact, the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from penchant.assembly.history import catalogue
from penchant.assembly.parts import Parts
from penchant.assembly.simulating import Progress, WithSimulated, simulate
from penchant.assembly.surfaces import SurfaceCompiler, Weights, head_part
from penchant.core.errors import ArtifactError
from penchant.core.events import Impression, Interaction
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, START, Record
from penchant.serving.live import Compiled
from penchant.serving.replay import Asked
from penchant.settings import duration
from penchant.telemetry import logger
from penchant.training.artifacts import Content, DataRange, Fingerprints, Manifest
from penchant.training.examples import Examples, read_examples
from penchant.training.fusion import Evidence
from penchant.training.gbdt import Objective, Ranker, train_ranker
from penchant.training.interactions import interactions_csr
from penchant.training.models import Models, Past, part_of, train_models
from penchant.training.publish import Gate, gate

SIMULATED = 20_000
"""Requests that are made up from history for a ranker, at most."""
WATCHED = 2_000
"""Replayed requests that the weights of the sources are learned from, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a log taught of retrieval: models, and weights of the sources by surface."""

    models: Models
    weights: Weights
    simulated: list[Record]
    """Impressions that were made up from history."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """What a log taught of ranking: a ranker, or none where the examples are too few."""

    ranker: Ranker | None
    columns: Compiled
    """The surfaces with the models alone: what the columns are."""
    examples: Examples
    held_out: Examples
    """The newest of the examples, which the ranker does not know."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What came of a training: the artifact (written, not yet live) and the verdict on it."""

    artifact: str
    gate: Gate
    ranker: Ranker | None
    weights: Mapping[str, float]
    """How much each source of the surface counts where no ranker orders; empty: one as much as another."""
    examples: Examples
    simulated: int


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
        simulate: int = SIMULATED,
        objective: Objective = "binary",
        threads: int = 1,
        seed: int = 0,
        force: bool = False,
    ) -> Trained:
        """Train everything and write an artifact; see `learn` and `rank`."""
        learned = self.learn(surface=surface, simulate=simulate, seed=seed)
        ranked = self.rank(learned, objective=objective, threads=threads, seed=seed)
        verdict = gate(ranked.ranker, *self._live_on(ranked.held_out), seed=seed, force=force)
        artifact = self._write(learned, ranked, verdict)
        weights = learned.weights.get(surface, {})
        return Trained(artifact, verdict, ranked.ranker, weights, ranked.examples, len(learned.simulated))

    def learn(self, *, surface: str = "home", simulate: int = SIMULATED, seed: int = 0) -> Learned:
        """What the log teaches of retrieval.

        Impressions from elsewhere are replayed through the pipeline. While the log has few impressions of any kind
        (less than a quarter of `simulate`), the newest part of its history is replayed as well: at most `simulate`
        requests, with models of the part before, so that they do not know the future. From these the weights of the
        sources are learned; without any they are those of the live artifact.
        """
        models = self._models(None, seed)
        simulated, weights = self._simulate(surface, simulate, seed)
        return Learned(models, weights, simulated)

    def rank(self, learned: Learned, *, objective: Objective = "binary", threads: int = 1, seed: int = 0) -> Ranked:
        """What the impressions of the log, and those that were made up, teach of ranking; needs 50 of them."""
        settings, schema = self._definition.settings, self._definition.schema
        compiled = self._compiler.build(learned.models, None, "")
        examples = read_examples(
            WithSimulated(self._parts.log, learned.simulated),
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
        return Ranked(ranker, compiled, examples, held_out)

    def publish(self, trained: Trained) -> bool:
        """Make the artifact live if the gate let it through; servers swap to it by themselves."""
        if trained.gate.published:
            self._parts.artifacts.publish(trained.artifact)
        return trained.gate.published

    def _models(self, end: int | None, seed: int) -> Models:
        settings = self._definition.settings.training
        told = interactions_csr(self._parts.log, self._definition.schema, max_items=settings.max_items, end=end)
        upto = self._parts.log.end() if end is None else end
        past = Past(told, lambda: catalogue(self._parts, upto))
        tell = self._progress if end is None else lambda name, *at: self._progress(f"{name} before", *at)
        return train_models(self._compiler.modelled, past, settings, seed=seed, tell=tell)

    def _simulate(self, surface: str, wanted: int, seed: int) -> tuple[list[Record], Weights]:
        """Simulated impressions: all external ones, and slates before interactions where served ones are few."""
        positions, external, served = self._survey()
        external = external[-wanted:] if wanted else []
        enough = served + len(external) >= wanted // 4  # what people really saw teaches better than what we make up
        prompts = [] if enough else _spread(positions[int(len(positions) * 0.6) :], wanted)
        if not external and not prompts:
            return [], self._live_weights()
        start = min([*external[:1], *prompts[:1]]) - 1
        # A model that knows what follows would hand the labels to the ranker as a feature.
        compiled = self._compiler.build(self._models(start, seed), None, "")
        evidence = Evidence([ref.name for ref in compiled.surfaces[surface].settings.sources])
        watched = set(_spread(prompts, WATCHED))

        def watch(asked: Asked) -> None:
            if asked.record.position in watched and isinstance(asked.record.event, Interaction):
                evidence.add(asked.outcome.candidates, asked.query.items.row(asked.record.event.item_id))

        simulated = simulate(
            self._parts,
            compiled,
            surface,
            {*external, *prompts},
            after=start,
            progress=self._progress,
            answered=watch,
        )
        learned = evidence.weights()
        return simulated, {**self._live_weights(), **({surface: learned} if learned else {})}

    def _live_weights(self) -> Weights:
        """The weights of the live artifact; none where it knows more than this log, as in an evaluation of the past."""
        artifacts = self._parts.artifacts
        live = artifacts.live()
        try:
            if not live or artifacts.manifest(live).data.last_position > self._parts.log.end():
                return {}
            return self._compiler.weights(live)
        except ArtifactError as error:
            logger.warning("the weights of the live artifact are not taken over: %s", error)
            return {}

    def _survey(self) -> tuple[list[int], list[int], int]:
        """Positions of a user's first positive interaction with an item, of external impressions; served impressions.

        What a user has met before is filtered from slates, so that only first interactions can be learned from; one
        that names the slate it answers would answer no other.
        """
        positive = {name for name, action in self._definition.schema.actions.items() if action.weight > 0}
        positions: list[int] = []
        external: list[int] = []
        met: set[tuple[int, int]] = set()
        served, after = 0, START
        while records := self._parts.log.read(after, 5_000):
            after = records[-1].position
            for record in records:
                event = record.event
                if record.verdict != ACCEPTED:
                    continue
                if isinstance(event, Interaction) and event.user_id:
                    pair = (hash_id(event.user_id), hash_id(event.item_id))
                    if event.action in positive and pair not in met and event.request_id is None:
                        positions.append(record.position)
                    met.add(pair)
                elif isinstance(event, Impression) and event.user_id:
                    if event.served is None:
                        external.append(record.position)
                    else:
                        served += 1
        return positions, external, served

    def _live_on(self, held_out: Examples) -> tuple[Ranker | None, Examples]:
        """The live ranker, and the held-out requests that neither it nor the candidate was trained on."""
        live = self._parts.artifacts.live()
        if live is None:
            return None, held_out
        try:
            known = self._parts.artifacts.manifest(live).data.last_position
            ranker = self._compiler.ranker(live)
        except ArtifactError as error:
            logger.warning("the live artifact cannot be compared with: %s", error)
            return None, held_out
        first = int(np.searchsorted(held_out.positions, known, side="right"))
        return ranker, held_out.slice(first, held_out.requests)

    def _write(self, learned: Learned, ranked: Ranked, verdict: Gate) -> str:
        ranker, examples, compiled = ranked.ranker, ranked.examples, ranked.columns
        parts: dict[str, Content] = {part_of(name): model.parts() for name, model in learned.models.items()}
        told: dict[str, Any] = {"blend": learned.weights} if learned.weights else {}
        if ranker is not None:
            parts.update({head_part(name): text for name, text in ranker.heads.items()})
            told["ranker"] = {
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
            models=told,
            settings=msgspec.to_builtins(self._definition.settings.training),
            metrics={"gate": msgspec.to_builtins(verdict), "ranker": dict(ranker.metrics) if ranker else {}},
            parent=self._parts.artifacts.live(),
        )
        return self._parts.artifacts.write(parts, manifest)


def _spread(positions: list[int], wanted: int) -> list[int]:
    """At most `wanted` of the positions, evenly."""
    if len(positions) <= wanted:
        return positions
    return [positions[at] for at in np.linspace(0, len(positions) - 1, wanted).astype(int).tolist()]
