"""The engine and its views over whatever state, log and pictures a deployment has."""

from __future__ import annotations

import penchant
from penchant.assembly.parts import Definition
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.core.clock import Clock
from penchant.experiments.assignment import Assignment
from penchant.rerank.presentation import Wording
from penchant.serving.answers import Answers
from penchant.serving.engine import Engine
from penchant.serving.live import World
from penchant.serving.queries import Preparation
from penchant.serving.reading import Intake, Reading
from penchant.serving.views import Views


def engine_of(
    definition: Definition,
    compiler: SurfaceCompiler,
    *,
    intake: Intake,
    reading: Reading,
    live: World,
    clock: Clock,
    patience: float = 0.0,
) -> Engine:
    """The engine of a definition; `patience` as in `ImpressionWriter`."""
    settings = definition.settings
    return Engine(
        intake=intake,
        reading=reading,
        reader=definition.reader,
        live=live,
        preparation=Preparation(definition.schema, settings.sources.segment),
        fallback=compiler.fallback(),
        answers=Answers(definition.schema, Wording(definition.schema).text),
        assigner=Assignment(settings.experiments),
        clock=clock,
        patience=patience,
    )


def views_of(definition: Definition, *, reading: Reading, live: World, clock: Clock) -> Views:
    """What is shown of items, users and the engine itself."""
    return Views(
        reading=reading,
        reader=definition.reader,
        schema=definition.schema,
        live=live,
        clock=clock,
        build=penchant.__version__,
    )
