"""iALS as the engine fits it and folds people in, on an offline log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.factors import FactorModel, fit_ials, fold_in_all


@dataclass(slots=True, eq=False)
class Ials:
    """`retrieval.factors.fit_ials`; each history, every item once, is folded in, known user or not.

    Not proposed: items that nobody has in the log, and anything to a history of no other items. Parameters are those
    of `fit_ials`; the paper's own are the defaults.
    """

    name: str = "ials"
    seed: int = 0
    dim: int = 64
    reg: float = 0.003
    reg_exp: float = 1.0
    unobserved_weight: float = 0.1
    epochs: int = 16
    block: int | None = None
    threads: int | None = None
    model: FactorModel | None = field(default=None, repr=False)

    def fit(self, log: Log) -> None:
        self.model = fit_ials(
            log.matrix(),
            np.arange(log.n_items, dtype=np.int64),
            dim=self.dim,
            reg=self.reg,
            reg_exp=self.reg_exp,
            unobserved_weight=self.unobserved_weight,
            epochs=self.epochs,
            seed=self.seed,
            block=self.block,
            threads=self.threads,
        )

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        model = self.model
        assert model is not None, "fit comes first"
        asked = cases.matrix(len(model.items))
        people = fold_in_all(model, asked.indices.astype(np.int32), asked.indptr.astype(np.int64), threads=self.threads)
        found: NDArray[np.float32] = people @ model.factors.T
        found[:, ~model.factors.any(axis=1)] = -np.inf
        found[~people.any(axis=1)] = -np.inf
        return found
