"""What a step of training looks at: windows of histories, candidates beside them, and the items that both name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LEAST = 256
"""Fewer items than that are filled up: each size is compiled by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Visits of people in order of time: person `p` visited `items[offsets[p]:offsets[p + 1]]`, oldest first."""

    items: NDArray[np.int32]
    """Indices of the items that are trained on."""
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Arrays of few sizes; `rows` names the items of the step, the other arrays are indices into it."""

    rows: NDArray[np.int64]
    """Items of the step, ascending, filled up with the first one to a power of two."""
    windows: NDArray[np.int32]
    """[batch, length]: each visit is asked for from those before it."""
    filled: NDArray[np.bool_]
    """[batch, length]: where there is a visit."""
    candidates: NDArray[np.int32]
    """[drawn]: visits of the batch, then items drawn uniformly."""
    log_q: NDArray[np.float32]
    """[rows]: log of how often such a draw gives the item."""
    people: NDArray[np.int64]
    """[batch]: whose windows."""


def batches(
    sequences: Sequences,
    rng: np.random.Generator,
    *,
    length: int,
    batch: int,
    per_person: int,
    in_batch: int,
    uniform: int,
) -> Iterator[Batch]:
    """One epoch: each person's visits cut into windows at an offset that is drawn, at most `per_person` of them.

    The last batch is filled up with windows of its own beginning. Candidates follow Yang et al. (WWW 2020): `in_batch`
    visits of the batch, which come as often as items are visited, and `uniform` of all items.
    """
    begins, ends, owners = _windows(sequences, rng, length, per_person)
    counts = np.zeros(int(sequences.items.max()) + 1, np.int64)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        np.add.at(counts, sequences.items[begin:end], 1)
    m = len(counts)
    drawn = in_batch * counts / max(1, int(counts.sum())) + uniform / m
    log_q = np.log(np.maximum(drawn, 1e-9)).astype(np.float32)
    for first in range(0, len(begins), batch):
        chosen = np.resize(np.arange(first, min(first + batch, len(begins))), batch)
        lengths = (ends - begins)[chosen]
        filled = np.arange(length) < lengths[:, None]
        at = np.where(filled, begins[chosen, None] + np.arange(length), 0)
        items = np.where(filled, sequences.items[at], sequences.items[begins[chosen], None])
        visits = items[filled]
        candidates = np.concatenate([rng.choice(visits, in_batch), rng.integers(0, m, uniform)])
        rows, places = np.unique(np.concatenate([items.ravel(), candidates]), return_inverse=True)
        size = max(_LEAST, 1 << (len(rows) - 1).bit_length())
        at_row: NDArray[np.int32] = places.astype(np.int32)
        rows = np.concatenate([rows, np.full(size - len(rows), rows[0])]).astype(np.int64)
        yield Batch(
            rows,
            at_row[: items.size].reshape(items.shape),
            filled,
            at_row[items.size :],
            log_q[rows],
            owners[chosen],
        )


def _windows(
    sequences: Sequences, rng: np.random.Generator, length: int, per_person: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where windows begin and end, and whose they are, in an order that is drawn."""
    begins: list[int] = []
    ends: list[int] = []
    owners: list[int] = []
    for person in range(len(sequences)):
        start, stop = int(sequences.offsets[person]), int(sequences.offsets[person + 1])
        if stop <= start:
            continue
        cuts = [start, *range(start + int(rng.integers(1, length + 1)), stop, length), stop]
        spans = list(pairwise(cuts))
        if len(spans) > per_person:
            spans = [spans[at] for at in np.sort(rng.choice(len(spans), per_person, replace=False)).tolist()]
        begins += [begin for begin, _ in spans]
        ends += [end for _, end in spans]
        owners += [person] * len(spans)
    order = rng.permutation(len(begins))
    return np.array(begins, np.int64)[order], np.array(ends, np.int64)[order], np.array(owners, np.int64)[order]
