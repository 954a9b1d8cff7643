"""A trained sequence encoder: arrays, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ArtifactError
from penchant.retrieval.sequence.weights import Shape


@dataclass(frozen=True, slots=True, eq=False)
class SequenceModel:
    """Embeddings of items and the blocks that make a state out of a history (Tikhonovich et al., RecSys 2025)."""

    items: NDArray[np.int64]
    """`hash_id` of each item, int64[m]."""
    weights: dict[str, NDArray[np.float32]]
    """float32 arrays as `shape.arrays(m)` names them."""
    shape: Shape

    @property
    def factors(self) -> NDArray[np.float32]:
        """What a state is multiplied with, float32[m, d]."""
        return self.weights["embedding"]

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays of the model, to be kept in one NPZ file."""
        return {"items": self.items, "shape": self.shape.packed(), **self.weights}

    @classmethod
    def from_parts(cls, parts: Mapping[str, NDArray[Any]]) -> SequenceModel:
        """The model that `parts` gave; raises `ArtifactError` where the arrays do not fit together."""
        try:
            items, shape = parts["items"], Shape.unpacked(parts["shape"])
            wanted = shape.arrays(len(items))
            weights = {name: parts[name] for name in wanted}
        except KeyError as error:
            raise ArtifactError(f"the sequence encoder lacks the array {error}") from None
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"the arrays of the sequence encoder do not fit together: {error}") from None
        sound = items.ndim == 1 and items.dtype == np.int64 and len(np.unique(items)) == len(items)
        for name, size in wanted.items():
            found = weights[name]
            sound = sound and found.dtype == np.float32 and found.shape == size and bool(np.isfinite(found).all())
        if not sound:
            raise ArtifactError("the arrays of the sequence encoder do not fit together; train it again")
        kept = {name: np.ascontiguousarray(value) for name, value in weights.items()}
        return cls(np.ascontiguousarray(items), kept, shape)
