"""The published artifact as compiled surfaces: which one serves, and which is refused."""

from __future__ import annotations

from penchant.assembly.surfaces import SurfaceCompiler
from penchant.core.errors import ArtifactError
from penchant.serving.live import Compiled
from penchant.telemetry import logger
from penchant.training.artifacts import ArtifactStore


class Published:
    """Follows the pointer to the live artifact. What cannot be used is refused once, and the present one kept."""

    def __init__(self, compiler: SurfaceCompiler, artifacts: ArtifactStore) -> None:
        self._compiler = compiler
        self._artifacts = artifacts
        self._refused = ""

    def first(self) -> Compiled:
        """The live artifact's surfaces or, where it cannot be used, those of the newest before it that can."""
        try:
            known = self._artifacts.newest_first()
        except ArtifactError as error:
            logger.error("starting without an artifact: %s", error)
            return self._compiler.compile("")
        for identity in known:
            try:
                return self._compiler.compile(identity)
            except ArtifactError as error:
                self._refused = self._refused or identity
                logger.error("artifact %s refused, starting with an older one or none: %s", identity, error)
        return self._compiler.compile("")

    def newer(self, present: Compiled) -> Compiled | None:
        """The published artifact's surfaces if it is another one that can be used."""
        try:
            published = self._artifacts.live() or ""
        except ArtifactError as error:
            if self._refused != str(error):
                self._refused = str(error)
                logger.error("the present artifact keeps serving: %s", error)
            return None
        if published in (present.artifact, self._refused):
            return None
        try:
            return self._compiler.compile(published)
        except ArtifactError as error:
            self._refused = published
            logger.error("artifact %s refused, the present one keeps serving: %s", published, error)
            return None
