"""A gradient-boosted forest scored bit for bit as LightGBM scores it, some fifteen times faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.core.errors import ArtifactError, ContractError
from penchant.ranking.model_text import Model, Split, Tree, parse_model

_BLOCK = 128
"""Rows scored together: their columns and leaf masks stay in the first-level cache."""

_ZERO = np.float32(1e-35)
"""LightGBM reads what is not farther from zero than this as zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees laid out for QuickScorer (Lucchese et al., SIGIR 2015).

    Every tree numbers its leaves from left to right. Each split has a mask with the leaves of its left side cleared;
    a row that goes right there takes the mask. The lowest bit left is its leaf. Splits of one tree lie together
    (`offsets`): first those that send NaN left, from `middles` on those that send it right. A block of rows runs
    through them without branching.
    """

    names: tuple[str, ...]
    """The columns it scores, in order; those that were fixed are not among them."""
    objective: str
    sigmoid: float
    """Slope of the log-odds: P = 1 / (1 + exp(-sigmoid * raw)); 0 where the raw score is not a log-odds."""
    features: NDArray[np.uintp]
    thresholds: NDArray[np.float32]
    masks: NDArray[Any]
    """uint32 or uint64, by split."""
    starts: NDArray[Any]
    """The leaves that can be reached, by tree: all, less what fixed columns exclude."""
    middles: NDArray[np.uintp]
    offsets: NDArray[np.uintp]
    leaves: NDArray[np.float64]
    """float64[trees, bits of a mask]."""

    @classmethod
    def from_text(cls, text: str, fixed: Mapping[str, float] | None = None) -> Forest:
        """The forest of LightGBM's text model; raises `ArtifactError` for damage and for what cannot be exact.

        `fixed` columns always hold the given value and are not part of the matrix; unknown names are ignored.
        """
        return cls.of(parse_model(text), fixed or {})

    @classmethod
    def of(cls, model: Model, fixed: Mapping[str, float]) -> Forest:
        """Lay out a parsed model."""
        names = tuple(name for name in model.features if name not in fixed)
        if len(set(model.features)) != len(model.features):
            raise ArtifactError("two columns of the tree model have the same name; train again")
        places = [names.index(name) if name in names else -1 for name in model.features]
        constants = {place: np.float32(fixed[name]) for place, name in enumerate(model.features) if name in fixed}
        bits = 32 if all(len(tree.leaves) <= 32 for tree in model.trees) else 64
        nodes: list[tuple[bool, int, np.float32, int]] = []
        starts, offsets, middles = [], [0], []
        leaves = np.zeros((len(model.trees), bits), np.float64)
        for index, tree in enumerate(model.trees):
            order, masks = _masks(tree, bits)
            leaves[index, : len(order)] = [tree.leaves[leaf] for leaf in order]
            start = (1 << bits) - 1
            mine = []
            for split, mask in zip(tree.splits, masks, strict=True):
                if split.feature not in constants:
                    mine.append((split.nan_right, places[split.feature], _rounded(split.threshold), mask))
                elif _goes_right(split, constants[split.feature]):
                    start &= mask
            nodes += sorted(mine)
            starts.append(start)
            middles.append(offsets[-1] + sum(not nan_right for nan_right, *_ in mine))
            offsets.append(len(nodes))
        _, features, thresholds, words = zip(*nodes, strict=True) if nodes else ((),) * 4
        word = np.uint32 if bits == 32 else np.uint64
        return cls(
            names=names,
            objective=model.objective,
            sigmoid=model.sigmoid,
            features=np.array(features, np.uintp),
            thresholds=np.array(thresholds, np.float32),
            masks=np.array(words, word),
            starts=np.array(starts, word),
            middles=np.array(middles, np.uintp),
            offsets=np.array(offsets, np.uintp),
            leaves=leaves,
        )

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores, float64[n], of float32[len(names), n], however it lies in memory.

        Equal to `Booster.predict(matrix.T, raw_score=True)`; raises `ContractError` for another shape or type.
        """
        if matrix.ndim != 2 or matrix.shape[0] != len(self.names) or matrix.dtype != np.float32:
            raise ContractError(
                f"the forest takes float32[{len(self.names)}, n], got {matrix.dtype}{list(matrix.shape)}"
            )
        out = np.empty(matrix.shape[1], np.float64)
        if len(out) == 0:
            return out
        _score(
            matrix,
            self.features,
            self.thresholds,
            self.masks,
            self.starts,
            self.middles,
            self.offsets,
            self.leaves,
            out,
        )
        return out


def _masks(tree: Tree, bits: int) -> tuple[list[int], list[int]]:
    """Leaves from left to right, and per split the word with the leaves on its left cleared."""
    order: list[int] = []
    masks = [0] * len(tree.splits)

    def walk(node: int) -> int:
        """The bits of the leaves below; the depth is bounded by the number of leaves."""
        if node < 0:
            order.append(~node)
            return 1 << (len(order) - 1)
        split = tree.splits[node]
        left = walk(split.left)
        masks[node] = ((1 << bits) - 1) & ~left
        return left | walk(split.right)

    walk(0 if tree.splits else ~0)
    return order, masks


def _rounded(threshold: float) -> np.float32:
    """The float32 that splits float32 values exactly as `threshold` splits them after LightGBM's rounding to zero."""
    if 0.0 <= threshold < float(_ZERO):
        return _ZERO
    if -float(_ZERO) <= threshold < 0.0:
        return np.float32(np.nextafter(-_ZERO, np.float32(-np.inf)))
    with np.errstate(over="ignore", under="ignore"):
        near = np.float32(threshold)
    return near if float(near) <= threshold else np.float32(np.nextafter(near, np.float32(-np.inf)))


def _goes_right(split: Split, value: np.float32) -> bool:
    return split.nan_right if np.isnan(value) else bool(value > _rounded(split.threshold))


@kernel
def _score(
    matrix: NDArray[np.float32],
    features: NDArray[np.uintp],
    thresholds: NDArray[np.float32],
    masks: NDArray[Any],
    starts: NDArray[Any],
    middles: NDArray[np.uintp],
    offsets: NDArray[np.uintp],
    leaves: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    columns, n, one = np.uintp(matrix.shape[0]), np.uintp(matrix.shape[1]), np.uintp(1)
    full = ~masks.dtype.type(0)
    state = np.empty(_BLOCK, masks.dtype)
    total = np.empty(_BLOCK, np.float64)
    block = np.zeros((columns, np.uintp(_BLOCK)), np.float32)
    for start in range(np.uintp(0), n, np.uintp(_BLOCK)):
        width = min(np.uintp(_BLOCK), n - start)
        # A copy with unit stride and loops of a fixed length are what lets the compiler use vectors;
        # what is left of an earlier block beyond `width` is scored and thrown away.
        for f in range(columns):
            for r in range(width):
                block[f, r] = matrix[f, start + r]
        for r in range(_BLOCK):
            total[np.uintp(r)] = 0.0
        for tree in range(np.uintp(offsets.shape[0]) - one):
            first = starts[tree]
            for r in range(_BLOCK):
                state[np.uintp(r)] = first
            # NaN makes every comparison false, so the form of the comparison sends it left or right.
            for k in range(offsets[tree], middles[tree]):
                f, threshold, mask = features[k], thresholds[k], masks[k]
                for r in range(_BLOCK):
                    state[np.uintp(r)] &= mask if block[f, np.uintp(r)] > threshold else full
            for k in range(middles[tree], offsets[tree + one]):
                f, threshold, mask = features[k], thresholds[k], masks[k]
                for r in range(_BLOCK):
                    state[np.uintp(r)] &= full if block[f, np.uintp(r)] <= threshold else mask
            for r in range(_BLOCK):
                leaf = np.uintp(trailing_zeros(state[np.uintp(r)]))  # type: ignore[call-arg]
                total[np.uintp(r)] += leaves[tree, leaf]
        for r in range(width):
            out[start + r] = total[r]
