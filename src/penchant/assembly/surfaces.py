"""Surfaces compiled: sources, filters, columns, scorer and selector of each, for one artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from penchant.assembly.declared import LIST
from penchant.assembly.defaults import surfaces_of
from penchant.assembly.parts import Definition
from penchant.assembly.sources import build_source, scoring_sources
from penchant.catalog.predicates import Predicate, compile_where
from penchant.core.errors import ArtifactError, InvalidRequest, SettingsError
from penchant.core.items import Items
from penchant.core.schema import Schema
from penchant.core.stages import Contributing, RowScorer, Scorer, Source
from penchant.pipeline.executor import SurfacePipeline
from penchant.ranking.assemble import FeatureAssembler
from penchant.ranking.blend import OrderScorer
from penchant.ranking.gbdt import GbdtScorer
from penchant.rerank.filters import STATIC, make_filter
from penchant.rerank.selector import SlateSelector
from penchant.retrieval.popular import Popular
from penchant.serving.fallback import Fallback
from penchant.serving.live import Compiled
from penchant.serving.queries import CompiledSurface
from penchant.settings import Settings, Surface
from penchant.training.artifacts import Artifact, ArtifactStore, Manifest
from penchant.training.gbdt import Ranker
from penchant.training.models import KINDS, Models, part_of

_POLICY = ("listed", "rules")
"""Filters that no surface can leave out."""


Weights = Mapping[str, Mapping[str, float]]
"""How much each source counts where no ranker orders, by surface; 1 where nothing is told."""


def head_part(head: str) -> str:
    """The part that holds the trees of a head."""
    return f"head-{head}.txt"


class SurfaceCompiler:
    """Compiles the surfaces of one deployment; raises `SettingsError` and `ArtifactError`."""

    def __init__(self, definition: Definition, artifacts: ArtifactStore) -> None:
        self._definition = definition
        self._artifacts = artifacts
        self._surfaces = surfaces_of(definition.settings)
        self._scoring = scoring_sources(ref.name for one in self._surfaces.values() for ref in one.sources)
        self._check_experiments(definition.settings)

    @property
    def modelled(self) -> tuple[str, ...]:
        """The sources of these surfaces that ask a model."""
        return tuple(name for name in self._scoring if name in KINDS)

    def compile(self, artifact: str) -> Compiled:
        """The surfaces with an artifact, "" for none; raises `ArtifactError` when it is damaged or foreign."""
        if not artifact:
            return self.build({}, None, "")
        loaded = self._artifacts.load(artifact)
        models = {
            name: KINDS[name].read(loaded.arrays(part_of(name)))
            for name in self.modelled
            if part_of(name) in loaded.content
        }
        return self.build(models, _heads_of(loaded), artifact, _weights_of(artifact, loaded.manifest))

    def ranker(self, artifact: str) -> Ranker | None:
        """The ranker of an artifact as training knows it, None when it has none."""
        loaded = self._artifacts.load(artifact)
        told = loaded.manifest.models.get("ranker")
        if told is None:
            return None
        return Ranker(
            objective=told["objective"],
            heads=_heads_of(loaded),
            names=loaded.manifest.names,
            columns=loaded.manifest.fingerprints.columns,
            position=bool(told["position"]),
            weights=dict(told["weights"]),
        )

    def weights(self, artifact: str) -> Weights:
        """How much an artifact says that each source counts."""
        return _weights_of(artifact, self._artifacts.manifest(artifact))

    def build(
        self, models: Models, heads: Mapping[str, str] | None, artifact: str, weights: Weights = MappingProxyType({})
    ) -> Compiled:
        """The surfaces with given models; a source without its model proposes nothing."""
        settings, schema = self._definition.settings, self._definition.schema
        scoring = [build_source(name, settings, models, "sources") for name in self._scoring]
        assembler = FeatureAssembler(
            self._definition.plan, schema, [source for source in scoring if isinstance(source, RowScorer)]
        )
        scorer: Scorer | None = None
        if heads:
            worth = {name: action.weight for name, action in schema.actions.items()}
            scorer = GbdtScorer.from_texts(heads, worth, assembler.names)
        preparers: dict[str, Callable[[Items], object]] = {
            **{source.name: source.prepare for source in scoring},
            assembler.table: assembler.prepare,
            FALLBACK.name: FALLBACK.prepare,
            NEARBY.name: NEARBY.prepare,
        }
        # One object proposes and scores, so that what it worked out for a request serves both.
        shared = {source.name: source for source in scoring}
        compiled: dict[str, CompiledSurface] = {}
        for name, surface in self._surfaces.items():
            sources = [
                (shared.get(ref.name) or build_source(ref.name, settings, models, f"surfaces.{name}.sources"), ref.n)
                for ref in surface.sources
            ]
            ready = self._surface(name, surface, sources, assembler, scorer, weights.get(name, {}))
            preparers |= {source.name: source.prepare for source, _ in sources}
            preparers[ready.table] = ready.prepare
            compiled[name] = ready
        return Compiled(artifact, assembler.fingerprint, assembler.names, compiled, preparers)

    def fallback(self) -> Fallback:
        """The fallback ladder, under the policy of all surfaces together."""
        policy = {kind for surface in self._surfaces.values() for kind in surface.filters if kind in STATIC}
        settings = self._with_defaults()
        filters = [
            make_filter(kind, settings, name, self._definition.schema)
            for kind in sorted(policy - {"rules"})
            for name in list(self._surfaces)[:1]
        ]
        return Fallback(NEARBY, FALLBACK, filters)

    def _surface(
        self,
        name: str,
        surface: Surface,
        sources: Sequence[tuple[Source, int]],
        assembler: FeatureAssembler,
        scorer: Scorer | None,
        weights: Mapping[str, float],
    ) -> CompiledSurface:
        schema, settings = self._definition.schema, self._with_defaults()
        # A row because of an item holds what goes with it, or nothing.
        reserve = FALLBACK if surface.filled else None
        names = [*(source.name for source, _ in sources), *([] if reserve is None else [reserve.name])]
        by_model = surface.rank == "model"
        contributors = {source.name: source.contributor for source, _ in sources if isinstance(source, Contributing)}
        kinds = list(dict.fromkeys([*_POLICY, *surface.filters]))
        pipeline = SurfacePipeline(
            name,
            sources,
            [make_filter(kind, settings, name, schema) for kind in kinds],
            assembler if by_model else None,
            scorer if by_model else OrderScorer(),
            SlateSelector(
                surface.select,
                schema,
                sources=names,
                kinds={name: "editorial" for name in names if name.startswith(LIST)},
                contributors=contributors,
                seeded="because" if surface.about == "liked" else "similar",
            ),
            surface.candidates,
            reserve=reserve,
            weights=weights,
        )
        return CompiledSurface(
            name,
            surface,
            pipeline,
            _predicate(surface.allow, schema, f"surfaces.{name}.allow"),
            _predicate(surface.deny, schema, f"surfaces.{name}.deny"),
        )

    def _with_defaults(self) -> Settings:
        return msgspec.structs.replace(self._definition.settings, surfaces=self._surfaces)

    def _check_experiments(self, settings: Settings) -> None:
        for name, experiment in settings.experiments.items():
            for key, surface in [
                ("surface", experiment.surface),
                *((f"arms.{arm}.surface", told.surface) for arm, told in experiment.arms.items()),
            ]:
                if surface not in self._surfaces:
                    known = ", ".join(sorted(self._surfaces))
                    raise SettingsError(f"experiments.{name}.{key}: no surface {surface!r}; there are: {known}")


FALLBACK = Popular("popular", fill=True)
"""What fills slates that would be short, and answers when the pipeline cannot."""

NEARBY = Popular("popular_segment", segmented=True)
"""What answers before it for users with a segment."""


def _predicate(where: Mapping[str, Any], schema: Schema, key: str) -> Predicate | None:
    if not where:
        return None
    try:
        return compile_where(where, schema, key)
    except InvalidRequest as error:
        raise SettingsError(f"{error.field}: {error.message}") from None


def _heads_of(artifact: Artifact) -> dict[str, str]:
    told = artifact.manifest.models.get("ranker")
    if told is None:
        return {}
    if not isinstance(told.get("heads"), list):
        raise ArtifactError(f"artifact {artifact.id[:12]} does not say what its ranker's heads are; train again")
    return {name: artifact.text(head_part(name)) for name in told["heads"]}


def _weights_of(artifact: str, manifest: Manifest) -> Weights:
    try:
        return msgspec.convert(manifest.models.get("blend", {}), dict[str, dict[str, _Weight]])
    except msgspec.ValidationError as error:
        raise ArtifactError(f"artifact {artifact[:12]}: the weights of its sources: {error}; train again") from None


_Weight = Annotated[float, msgspec.Meta(gt=0, le=1_000)]
