"""Who gets which arm: a function of the experiment's name and the user, with nothing stored."""

from __future__ import annotations

from collections.abc import Mapping

from penchant.core.errors import SettingsError
from penchant.core.hashing import hash_id
from penchant.settings import Experiment

CONTROL = "control"
"""The arm of users whom no declared arm took: they see the surface itself."""

_SPACE = 1 << 63


class Assignment:
    """All experiments of a deployment. Raises `SettingsError` for shares beyond 1 and two experiments on a surface."""

    def __init__(self, experiments: Mapping[str, Experiment]) -> None:
        self._by_surface: dict[str, tuple[str, list[tuple[int, str, str]]]] = {}
        for name, experiment in experiments.items():
            if experiment.surface in self._by_surface:
                other = self._by_surface[experiment.surface][0]
                raise SettingsError(f"experiments.{name}: surface {experiment.surface!r} is in experiment {other!r}")
            below, bounds = 0.0, []
            for arm, share in experiment.arms.items():
                below += share.share
                bounds.append((round(below * _SPACE), arm, share.surface))
            if below > 1 + 1e-9:
                raise SettingsError(f"experiments.{name}: the shares of the arms add up to {below:g}, more than 1")
            self._by_surface[experiment.surface] = name, bounds

    def assign(self, surface: str, user_id: str) -> tuple[Mapping[str, str], str]:
        """`{experiment: arm}` and the surface that answers. One user always gets the same, whatever else is running.

        A request without a user is in no experiment: nobody could be followed.
        """
        found = self._by_surface.get(surface)
        if found is None or not user_id:
            return {}, surface
        name, bounds = found
        place = hash_id(f"{name}\x1f{user_id}")
        for bound, arm, answers in bounds:
            if place < bound:
                return {name: arm}, answers
        return {name: CONTROL}, surface
