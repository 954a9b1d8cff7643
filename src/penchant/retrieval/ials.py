"""Retrieval by iALS: the person's vector is solved anew from the live history at every request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.factors import FactorModel, fold_in, shares
from penchant.retrieval.history import FromHistory, Visits


@dataclass(frozen=True, slots=True)
class Ials(FromHistory[FactorModel]):
    """Scores by the product of item factors and the person's, folded in from the history.

    What is not observed is fitted to zero, hence proposals are above it. A score is a sum over the history: the
    person's vector is `A⁻¹·Σ c·h`, so that the item `h` of weight `c` gives `c·yᵀ·A⁻¹·h` to the item `y` (Hu et al.
    2008, section 5).
    """

    def _score(self, model: FactorModel, past: Visits) -> NDArray[np.float32]:
        return np.asarray(model.factors @ fold_in(model, past.items, self._weights(len(past.items))), np.float32)

    def _largest(self, model: FactorModel, past: Visits, wanted: NDArray[np.int32]) -> NDArray[np.int32]:
        return _largest(model.factors, shares(model, past.items, self._weights(len(past.items))), wanted)

    def _weights(self, count: int) -> NDArray[np.float32]:
        return np.power(self.decay, np.arange(count)).astype(np.float32)


@kernel
def _largest(factors: NDArray[np.float32], terms: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.int32]:
    """Per wanted index the place in the history of the largest term above zero, -1 for none; ties go to the newest."""
    found = np.full(len(wanted), -1, np.int32)
    for at in range(len(wanted)):
        if wanted[at] < 0:
            continue
        item = factors[wanted[at]]
        best = np.float32(0)
        for place in range(len(terms)):
            term = np.float32(0)
            for k in range(len(item)):
                term += item[k] * terms[place, k]
            if term > best:
                best = term
                found[at] = place
    return found
