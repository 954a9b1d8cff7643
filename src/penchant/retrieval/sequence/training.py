"""Fits a sequence encoder with JAX, which no server needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.sequence.batches import batches, cut, place
from penchant.retrieval.sequence.encoder import encode
from penchant.retrieval.sequence.model import SequenceModel
from penchant.retrieval.sequence.network import draw_weights, make_step
from penchant.retrieval.sequence.options import SequenceOptions
from penchant.retrieval.sequence.weights import seconds

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """Histories one after the other, each oldest first."""

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    times: NDArray[np.int32] | None = None
    """Seconds since the first visit of each history."""

    @classmethod
    def of(cls, users: NDArray[Any], items: NDArray[Any], times: NDArray[np.int64] | None) -> Histories:
        """From a log in order of time, `times` in ms."""
        order = np.argsort(users, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.unique(users, return_counts=True)[1])]).astype(np.int64)
        since = None
        if times is not None:
            parts = np.split(times[order], offsets[1:-1])
            since = np.concatenate([seconds(part) for part in parts]) if len(users) else np.empty(0, np.int32)
        return cls(items[order].astype(np.int32), offsets, since)

    def without_last(self, of: NDArray[np.bool_]) -> Histories:
        """The same without the newest visit of the histories in question."""
        kept = np.ones(len(self.items), np.bool_)
        kept[self.offsets[1:][of] - 1] = False
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets) - of)]).astype(np.int64)
        return Histories(self.items[kept], offsets, None if self.times is None else self.times[kept])


def fit_sequence(
    users: NDArray[Any],
    items: NDArray[Any],
    times: NDArray[np.int64] | None,
    names: NDArray[np.int64],
    options: SequenceOptions | None = None,
    *,
    seed: int = 0,
    progress: Progress = lambda _what, _done, _total: None,
    epoch_done: Callable[[int, float, SequenceModel], None] = lambda _epoch, _loss, _model: None,
) -> SequenceModel:
    """Fit to a log in order of time; `items` are indices of `names` (`hash_id`, int64[m]), `times` are in ms.

    Each place of a history learns to tell the item that came next. With `validation_share` the epoch of the best
    NDCG@10 of what was kept out is given, else the last; `progress` hears steps, `epoch_done` the epoch from 1, its
    loss and the model so far. Whatever they raise ends the training. Needs the extra `neural`; the same seed gives the
    same model on the same machine.
    """
    options = options or SequenceOptions()
    if options.shape.times and times is None:
        options = replace(options, shape=replace(options.shape, times=False))
    rng = np.random.default_rng(seed)
    whole = Histories.of(users, items, times if options.shape.times else None)
    asked = (rng.random(len(whole.offsets) - 1) < options.validation_share) & (np.diff(whole.offsets) > 2)
    run = _Run(options, whole.without_last(asked), len(names), rng, progress)
    best, found, worse = -1.0, None, 0
    for epoch in range(options.epochs):
        if epoch and epoch == options.restart:
            run.begin()
        loss = run.epoch()
        model = SequenceModel(names, run.kept(), options.shape)
        epoch_done(epoch + 1, loss, model)
        if asked.any() and ((epoch + 1) % options.validate_every == 0 or epoch + 1 == options.epochs):
            reached = _ndcg(model, whole, np.flatnonzero(asked))
            worse = 0 if reached > best else worse + 1
            if reached > best:
                best, found = reached, model
            if options.patience and worse >= options.patience:
                break
    return model if found is None else found


@dataclass(slots=True, eq=False)
class _Run:
    """Weights and moments on their way, epoch by epoch."""

    options: SequenceOptions
    histories: Histories
    n_items: int
    rng: np.random.Generator
    progress: Progress
    _weights: Any = field(init=False)
    _first: Any = field(init=False)
    _second: Any = field(init=False)
    _step: Callable[..., Any] = field(init=False)
    _count: int = 0
    _done: int = 0

    def __post_init__(self) -> None:
        self._step = make_step(self.options.shape, self.options.dropout, self.options.weight_decay)
        self._weights = draw_weights(self.options.shape, self.n_items, self.rng)
        self.begin()

    def begin(self) -> None:
        """Rate and moments as at the start, the weights as they are."""
        self._first = {name: np.zeros_like(value) for name, value in self._weights.items()}
        self._second = {name: np.zeros_like(value) for name, value in self._weights.items()}
        self._count = 0

    def epoch(self) -> float:
        """One pass over all histories, in windows cut anew; gives the mean loss of its batches."""
        options, rng = self.options, self.rng
        length, draws = options.shape.length, options.draws(self.n_items)
        inputs, targets, offsets = self._pairs()
        starts, ends = cut(offsets, length, rng)
        groups = list(batches(starts, ends, length, options.batch, rng))
        losses = []
        for at, (group, width) in enumerate(groups):
            self._count += 1
            negatives = rng.integers(0, self.n_items, draws).astype(np.int32) if draws else None
            since = None if self.histories.times is None else place(inputs[1], starts, ends, group, width)
            *state, loss = self._step(
                self._weights,
                self._first,
                self._second,
                np.float32(self._count),
                np.float32(self._rate(at / len(groups))),
                np.uint32(rng.integers(2**32)),
                place(inputs[0], starts, ends, group, width),
                place(targets, starts, ends, group, width),
                since,
                negatives,
            )
            self._weights, self._first, self._second = state
            losses.append(loss)
            self.progress("epoch", self._done * len(groups) + at + 1, options.epochs * len(groups))
        self._done += 1
        return float(np.mean([float(loss) for loss in losses])) if losses else 0.0

    def kept(self) -> dict[str, NDArray[np.float32]]:
        """The weights so far, in arrays that training does not write again."""
        return {name: np.array(value, np.float32) for name, value in self._weights.items()}

    def _rate(self, into: float) -> float:
        restart, epochs = self.options.restart, self.options.epochs
        begin, end = (restart, epochs) if self._done >= restart else (0, restart)
        gone = (self._done - begin + into) / (end - begin)
        warm = min(1.0, self._count / self.options.warm_up) if self.options.warm_up else 1.0
        return self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1.0 + float(np.cos(np.pi * gone))))

    def _pairs(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int32]], NDArray[np.int32], NDArray[np.int64]]:
        """Places with a next one (item and time), what comes next, and where histories begin."""
        past = self.histories
        last = np.zeros(len(past.items), np.bool_)
        last[past.offsets[1:] - 1] = True
        head = np.zeros(len(past.items), np.bool_)
        head[past.offsets[:-1]] = True
        times = past.items if past.times is None else past.times
        offsets = past.offsets - np.arange(len(past.offsets))
        return (past.items[~last], times[~last]), past.items[~head], offsets


def _ndcg(model: SequenceModel, whole: Histories, asked: NDArray[np.int64]) -> float:
    """NDCG@10 of the last item of these histories among all items that they do not have; ties go against the model."""
    total = 0.0
    length = model.shape.length
    ends = whole.offsets[1:][asked] - 1
    begins = whole.offsets[:-1][asked]
    starts = np.maximum(begins, ends - length)
    for group in np.array_split(np.argsort(ends - starts, kind="stable"), -(-len(asked) // 64)):
        width = int((ends - starts)[group].max())
        times = None if whole.times is None else place(whole.times, starts, ends, group, width)
        states = encode(model, place(whole.items, starts, ends, group, width), times).states
        scores = states @ model.factors.T
        for row, one in enumerate(group):
            wanted = scores[row, whole.items[ends[one]]]
            seen = np.unique(whole.items[begins[one] : ends[one]])
            above = (scores[row] >= wanted).sum() - (scores[row, seen] >= wanted).sum()
            repeated = whole.items[ends[one]] in seen
            rank = int(above) + int(repeated)
            total += 1.0 / np.log2(rank + 1) if rank <= 10 else 0.0
    return total / len(asked)
