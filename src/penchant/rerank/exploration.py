"""Chance that can be repeated: draws are a function of the request and the slot, nothing else."""

from __future__ import annotations

import numpy as np

from penchant.core.compile import kernel


@kernel
def uniform(seed: int, counter: int) -> float:
    """The `counter`-th number in [0, 1) of the stream `seed`, on a grid of 2**-53.

    SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), which is a hash of
    `seed + counter * gamma` and so needs no state.
    """
    z = np.uint64(seed) + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * 2.0**-53


@kernel
def propensity(share: float, allowed: int, greedy: bool) -> float:
    """P(this item in this slot | what stands above): `(1 - share) * [it is the greedy choice] + share / allowed`.

    `allowed` counts the candidates that a draw could give the slot to, the greedy choice among them.
    """
    return (1.0 - share if greedy else 0.0) + share / allowed
