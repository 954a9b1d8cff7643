"""The shape of the network: what its weights are called and how large they are, for training and serving alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Block = Literal["ligr", "hstu"]
_BLOCKS: tuple[Block, ...] = ("ligr", "hstu")
EPSILON = 1e-5
"""Added to variances before they are divided by."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All that says which arrays a network has and how they are put together."""

    dim: int = 64
    blocks: int = 2
    heads: int = 1
    length: int = 200
    """How many of the newest items are read, at most."""
    widening: int = 2
    """The inner width of the position-wise part, in units of `dim`."""
    block: Block = "ligr"
    times: bool = False
    """Whether the time between two visits biases attention."""
    temperature: float = 0.0
    """0: scores are dot products; else cosines divided by it."""

    def arrays(self, n_items: int) -> dict[str, tuple[int, ...]]:
        """The shape of each array by name; those of block `b` begin with `b.`."""
        d, wide = self.dim, self.widening * self.dim
        named: dict[str, tuple[int, ...]] = {"embedding": (n_items, d), "places": (self.length, d), **_norm("last", d)}
        for block in range(self.blocks):
            parts = {**_norm("norm", d), "distance": (self.heads, self.length), "out": (d, d)}
            if self.times:
                parts["gap"] = (self.heads, len(time_edges()) + 1)
            if self.block == "hstu":
                parts |= {"mix": (d, 4 * d), **_norm("inner", d)}
            else:
                parts |= {"mix": (d, 3 * d), "gate": (d, d), "gate_shift": (d,), **_norm("wide", d)}
                parts |= {"widen": (d, 2 * wide), "narrow": (wide, d), "wide_gate": (d, d), "wide_gate_shift": (d,)}
            named |= {f"{block}.{name}": size for name, size in parts.items()}
        return named

    def packed(self) -> NDArray[np.float64]:
        """As one array, float64[8], to be kept beside the weights."""
        sizes = (self.dim, self.blocks, self.heads, self.length, self.widening)
        return np.array([*sizes, _BLOCKS.index(self.block), self.times, self.temperature], np.float64)

    @classmethod
    def unpacked(cls, packed: NDArray[Any]) -> Shape:
        """The shape that `packed` gave; raises `ValueError` for what is none."""
        if packed.shape != (8,) or packed.dtype != np.float64 or not np.isfinite(packed).all():
            raise ValueError("not the shape of a sequence encoder")
        dim, blocks, heads, length, widening, block, times = (int(value) for value in packed[:7])
        if min(dim, blocks, heads, length, widening) < 1 or dim % heads or block not in (0, 1) or times not in (0, 1):
            raise ValueError("not the shape of a sequence encoder")
        if packed[7] < 0:
            raise ValueError("a temperature below zero")
        return cls(dim, blocks, heads, length, widening, _BLOCKS[block], bool(times), float(packed[7]))


def _norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}_scale": (dim,), f"{name}_shift": (dim,)}


def of_block(weights: dict[str, Any], block: int) -> dict[str, Any]:
    """The arrays of one block, without its number in their names."""
    prefix = f"{block}."
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def time_edges() -> NDArray[np.int32]:
    """Bounds in seconds between the buckets of the time between two visits: each is twice the one before."""
    return (2 ** np.arange(28)).astype(np.int32)


def buckets_of(gaps: NDArray[Any]) -> NDArray[np.int64]:
    """The bucket of each time between two visits, in seconds."""
    found: NDArray[np.int64] = np.searchsorted(time_edges(), gaps, side="right")
    return found


def seconds(times: NDArray[np.int64]) -> NDArray[np.int32]:
    """Whole seconds since the first of times in ms, oldest first; at most 68 years."""
    whole = times // 1_000
    since: NDArray[np.int32] = np.minimum(whole - whole[:1], np.iinfo(np.int32).max).astype(np.int32)
    return since
