"""What an action is worth: one table, in one order, that turns probabilities into the value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ValueTable:
    """Actions and their weights, in the order in which they are added up."""

    weights: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> ValueTable:
        """The table in the order of the mapping (that of the settings), actions without worth left out."""
        return cls(tuple((name, float(weight)) for name, weight in weights.items() if weight != 0))

    def value(self, probabilities: Mapping[str, NDArray[Any]], n: int) -> NDArray[np.float32]:
        """float32[n]: the sum of weight times probability over the actions that have one, added up as float64.

        >>> table = ValueTable.of({"click": 1.0, "hide": -5.0, "view": 0.0})
        >>> table.value({"click": np.float32([0.5]), "hide": np.float32([0.25])}, 1).tolist()
        [-0.75]
        """
        total = np.zeros(n, np.float64)
        for name, weight in self.weights:
            probability = probabilities.get(name)
            if probability is not None:
                total += weight * probability.astype(np.float64)
        return total.astype(np.float32)
