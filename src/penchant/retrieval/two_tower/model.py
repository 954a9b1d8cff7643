"""The weights of two towers: arrays only, so that a server needs no library of neural networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ArtifactError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TwoTowerModel:
    """Item: `x = Σ share · tokens + ids`, `v = x + relu(x·item_in + item_in_bias)·item_out + item_out_bias`.

    Person: `heads` poolings of the vectors of the history and of `start`, each by `softmax(query·v − slope·log(1 + k))`
    where `k` counts from 0 at the newest; their mean, and a layer over them and the tokens of the person. The score is
    the product. `d` dimensions, `h` hidden, `t` tokens known of items, `p` of people, `m` items that were trained on.
    """

    items: NDArray[np.int64]
    """`hash_id` of each item that was trained on, int64[m]."""
    ids: Floats
    """[m, d]."""
    attributes: NDArray[np.str_]
    """Names of the categories, tags and texts that are read."""
    numbers: NDArray[np.str_]
    """Names of the numbers and times that are read."""
    knots: NDArray[np.float64]
    """[numbers, k], rising."""
    slots: NDArray[np.int32]
    """The row in `tokens` of each bucket of attributes of items, -1: never learned."""
    tokens: Floats
    """[t, d]."""
    item_in: Floats
    """[d, h]."""
    item_in_bias: Floats
    item_out: Floats
    """[h, d]."""
    item_out_bias: Floats
    start: Floats
    """[d]: what stands before every history, and is all of an empty one."""
    queries: Floats
    """[heads, d]."""
    slopes: Floats
    """[heads], not below zero."""
    person_slots: NDArray[np.int32]
    """As `slots`, of attributes of people and of the request."""
    person_tokens: Floats
    """[p, d]."""
    person_in: Floats
    """[heads · d, h]."""
    person_in_bias: Floats
    person_out: Floats
    """[h, d]."""
    person_out_bias: Floats

    @property
    def dimensions(self) -> int:
        """Of the vectors."""
        return int(self.ids.shape[1])

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays of the model, to be kept in one NPZ file."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, NDArray[Any]]) -> TwoTowerModel:
        """The model that `parts` gave; raises `ArtifactError` where the arrays do not fit together."""
        try:
            kept = {one.name: np.ascontiguousarray(parts[one.name]) for one in fields(cls)}
        except KeyError as error:
            raise ArtifactError(f"the two-tower model lacks the array {error}") from None
        if not _sound(kept):
            raise ArtifactError("the arrays of the two-tower model do not fit together; train it again")
        return cls(**kept)


def _sound(parts: Mapping[str, NDArray[Any]]) -> bool:
    if parts["ids"].ndim != 2 or parts["queries"].ndim != 2 or parts["knots"].ndim != 2:
        return False
    m, d = parts["ids"].shape
    heads = len(parts["queries"])
    h = parts["item_in_bias"].shape[0] if parts["item_in_bias"].ndim else 0
    w = parts["person_in_bias"].shape[0] if parts["person_in_bias"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {
        "items": (m,),
        "tokens": (len(parts["tokens"]), d),
        "item_in": (d, h),
        "item_in_bias": (h,),
        "item_out": (h, d),
        "item_out_bias": (d,),
        "start": (d,),
        "queries": (heads, d),
        "slopes": (heads,),
        "person_tokens": (len(parts["person_tokens"]), d),
        "person_in": (heads * d, w),
        "person_in_bias": (w,),
        "person_out": (w, d),
        "person_out_bias": (d,),
    }
    if heads == 0 or d == 0 or any(parts[name].shape != shape for name, shape in shapes.items()):
        return False
    floats = [name for name in shapes if name != "items"]
    sound = all(parts[name].dtype == np.float32 and bool(np.isfinite(parts[name]).all()) for name in [*floats, "ids"])
    sound = sound and parts["items"].dtype == np.int64 and len(np.unique(parts["items"])) == m
    sound = sound and all(parts[name].ndim == 1 and parts[name].dtype.kind == "U" for name in ("attributes", "numbers"))
    knots = parts["knots"]
    sound = sound and knots.dtype == np.float64 and len(knots) == len(parts["numbers"])
    sound = sound and (len(knots) == 0 or (knots.shape[1] >= 2 and bool((np.diff(knots, axis=1) >= 0).all())))
    for slots, tokens in (("slots", "tokens"), ("person_slots", "person_tokens")):
        known = parts[slots]
        sound = sound and known.dtype == np.int32 and known.ndim == 1 and len(known) > 0
        sound = sound and bool(((known >= -1) & (known < len(parts[tokens]))).all())
    return sound
