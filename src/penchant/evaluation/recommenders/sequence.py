"""The sequence encoder as the engine trains and asks it, on an offline log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.offline import Cases, Log
from penchant.retrieval.sequence.encoder import encode
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.options import SequenceOptions
from penchant.retrieval.sequence.training import fit_sequence

_AT_ONCE = 64
"""How many histories are encoded together, of like length."""


@dataclass(slots=True, eq=False)
class Sequence:
    """`retrieval.sequence.training.fit_sequence`; each history, in order and with its repeats, is encoded.

    Not proposed: items that nobody has in the log, and anything to an empty history. Times of the log are not read, as
    cases have none. Fitting needs JAX (`pip install 'penchant[neural]'`), asking does not.
    """

    name: str = "sequence"
    seed: int = 0
    options: SequenceOptions = field(default_factory=SequenceOptions)
    model: SequenceModel | None = field(default=None, repr=False)
    _unknown: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_), repr=False)

    def fit(self, log: Log) -> None:
        names = np.arange(log.n_items, dtype=np.int64)
        self.model = fit_sequence(log.users, log.items, None, names, self.options, seed=self.seed)
        self._unknown = np.bincount(log.items, minlength=log.n_items) == 0

    def scores(self, cases: Cases) -> NDArray[np.float32]:
        model = self.model
        assert model is not None, "fit comes first"
        found = np.full((len(cases), len(model.items)), -np.inf, np.float32)
        lengths = np.minimum(np.diff(cases.offsets), model.shape.length)
        order = np.argsort(lengths, kind="stable")
        for group in np.array_split(order, max(1, -(-len(order) // _AT_ONCE))):
            width = int(lengths[group].max(initial=0))
            if width == 0:
                continue
            past = np.full((len(group), width), -1, np.int32)
            for row, case in enumerate(group):
                end = cases.offsets[case + 1]
                past[row, width - lengths[case] :] = cases.items[end - lengths[case] : end]
            found[group] = encode(model, past).states @ model.factors.T
        found[lengths == 0] = -np.inf
        if len(self._unknown):
            found[:, self._unknown] = -np.inf
        return found
