"""From what each source proposes to one list of candidates: each row once, fairly interleaved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Candidates, Retrieved
from penchant.core.compile import kernel
from penchant.core.errors import ContractError
from penchant.core.query import Query

MAX_SOURCES: Final = 32
"""A source is a bit of `Candidates.sources`."""

Scores = NDArray[np.float32]

_NOTHING: Final = Retrieved(np.empty(0, np.int32), np.empty(0, np.float32))


class Merger:
    """Merges the proposals of the sources of one surface; safe to call from several threads.

    Sources take turns in proportion to their quotas (as in weighted round robin; ties: the source listed first), and
    a row that is already there costs its source nothing. Every source that proposed a row has its bit in it, and its
    rank in the column `rank.<source>` (from 1, NaN where it did not). `place` counts the merged order from 1.
    Rows that the query does not make eligible are dropped, whoever proposed them.
    """

    def __init__(self, sources: Sequence[tuple[str, int]]) -> None:
        names = [name for name, _ in sources]
        if len(sources) > MAX_SOURCES or len(set(names)) != len(names):
            raise ContractError(f"a surface has at most {MAX_SOURCES} sources, each once; got {names}")
        self.names = tuple(names)
        self._columns = tuple(f"rank.{name}" for name in names)
        self._quotas = np.array([quota for _, quota in sources], np.int64)
        self._local = threading.local()

    def merge(self, query: Query, proposals: Sequence[Retrieved | None]) -> Candidates:
        """The union of the proposals, None for a source that failed; raises `ContractError` for malformed ones."""
        found = [_NOTHING if proposal is None else proposal for proposal in proposals]
        for name, proposal in zip(self.names, found, strict=True):
            _check(name, proposal)
        offsets = np.zeros(len(found) + 1, np.int64)
        for source, proposal in enumerate(found):
            offsets[source + 1] = offsets[source] + len(proposal.rows)
        rows = np.concatenate([proposal.rows for proposal in found]) if found else _NOTHING.rows
        merged = np.empty(len(rows), np.int32)
        bits = np.empty(len(rows), np.uint32)
        columns = np.full((len(found) + 1, len(rows)), np.nan, np.float32)
        slots = self._slots(query.items.count)
        n = _merge(rows, offsets, self._quotas, query.eligible, slots, merged, bits, columns)
        if n < 0:
            raise ContractError(f"a source of {list(self.names)} proposed a row that the picture does not have")
        named = dict(zip(self._columns, columns[:, :n], strict=False))
        named["place"] = columns[-1, :n]
        return Candidates(merged[:n], bits[:n], named)

    def given(
        self, query: Query, rows: NDArray[np.int32], score: Callable[[int, NDArray[np.int32]], Scores | None]
    ) -> Candidates:
        """The eligible ones of `rows`, each once, in their order: to be ranked instead of what sources propose.

        `score(source, rows)` gives the source's score of each row, NaN where it has none, or None. A source counts as
        having proposed the rows that it has a score for, best first (ties: lower row first).
        """
        rows = np.fromiter(dict.fromkeys(rows.tolist()), np.int32)
        rows = rows[query.eligible[rows]]
        bits = np.zeros(len(rows), np.uint32)
        named: dict[str, NDArray[np.float32]] = {}
        for source, column in enumerate(self._columns):
            ranks = named[column] = np.full(len(rows), np.nan, np.float32)
            scores = score(source, rows)
            if scores is not None:
                known = np.flatnonzero(np.isfinite(scores))
                best = known[np.lexsort((rows[known], -scores[known]))]
                ranks[best] = np.arange(1, len(best) + 1)
                bits[known] |= np.uint32(1 << source)
        named["place"] = np.arange(1, len(rows) + 1, dtype=np.float32)
        return Candidates(rows, bits, named)

    def _slots(self, count: int) -> NDArray[np.int32]:
        """Zeros by row, kept by thread; merging leaves them as it found them."""
        slots: NDArray[np.int32] | None = getattr(self._local, "slots", None)
        if slots is None or len(slots) < count:
            slots = self._local.slots = np.zeros(count + count // 4, np.int32)
        return slots


def _check(name: str, proposal: Retrieved) -> None:
    rows, scores = proposal
    if rows.ndim != 1 or rows.dtype != np.int32 or scores.dtype != np.float32 or scores.shape != rows.shape:
        raise ContractError(
            f"source {name!r} must give int32[n] rows and float32[n] scores, gave {rows.dtype}{list(rows.shape)} "
            f"and {scores.dtype}{list(scores.shape)}"
        )


@kernel
def _merge(
    rows: NDArray[np.int32],
    offsets: NDArray[np.int64],
    quotas: NDArray[np.int64],
    eligible: NDArray[np.bool_],
    slots: NDArray[np.int32],
    merged: NDArray[np.int32],
    bits: NDArray[np.uint32],
    columns: NDArray[np.float32],
) -> int:
    """Fill `merged`, `bits` and `columns`; gives the number of rows, -1 when one is out of range."""
    sources = len(quotas)
    cursor = offsets[:sources].copy()
    taken = np.zeros(sources, np.int64)
    n = 0
    sound = True
    while True:
        turn = -1
        for s in range(sources):
            # The next turn is that of the smallest (taken + 1) / quota, compared without dividing.
            if cursor[s] < offsets[s + 1] and (
                turn < 0 or (taken[s] + 1) * quotas[turn] < (taken[turn] + 1) * quotas[s]
            ):
                turn = s
        if turn < 0:
            break
        bit = np.uint32(1) << np.uint32(turn)
        while cursor[turn] < offsets[turn + 1]:
            row = rows[cursor[turn]]
            cursor[turn] += 1
            if row < 0 or row >= len(eligible):
                sound = False
                continue
            if not eligible[row]:
                continue
            at = slots[row] - 1
            new = at < 0
            if new:
                at = n
                merged[at] = row
                bits[at] = 0
                columns[sources, at] = n + 1
                slots[row] = n + 1
                n += 1
            if not bits[at] & bit:
                bits[at] |= bit
                columns[turn, at] = cursor[turn] - offsets[turn]
            if new:
                taken[turn] += 1
                break
    for i in range(n):
        slots[merged[i]] = 0
    return n if sound else -1
