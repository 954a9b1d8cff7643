"""Session-based nearest neighbours: what came up in the recent sessions that are most like this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.sessions import Sessions, Visits, home, slot_of
from penchant.retrieval.topk import top_mapped, top_rows

NOBODY = -(2**63)
"""No session: keys are hashes or numbers, and never this one."""

_DEPTH = 62
"""Items of a history that can count at most: one bit each."""


@dataclass(frozen=True, slots=True)
class NearestSessions:
    """Nearest neighbours among sessions: VMIS-kNN, and with `reach` and `fade` what STAN adds.

    The `recent` sessions that were the last to visit an item of the history are candidates (Kersbergen et al. 2022).
    Their similarity is the sum of the weights of the items that both have, by place in the history (`decay`), over the
    session's length to the power `normalise`, times `exp(-age / fade)` (Garg et al. 2019). The `nearest` of them add,
    for each visit, their similarity `* exp(-distance / reach)` from the newest item in common, `* backward` for what
    came before it. At last an item's sum is multiplied by `1 + idf * log(visits / visits of the item)` (Ludewig and
    Jannach 2018), and by `again` where it is in the history. Equal sessions: the more recent; equal items: the lower.
    """

    recent: int = 1_000
    nearest: int = 200
    depth: int = 20
    decay: Literal["linear", "quadratic", "exponential", "same"] = "linear"
    pace: float = 2.0
    """Items until an exponential decay is down to 1/e."""
    normalise: float = 0.0
    fade: float = np.inf
    """In the unit of the sample's times."""
    reach: float = np.inf
    """In places."""
    backward: float = 1.0
    idf: float = 0.0
    again: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= _DEPTH:
            raise ValueError(f"depth must be from 1 to {_DEPTH}")
        if min(self.recent, self.nearest) < 1 or min(self.pace, self.fade, self.reach) <= 0:
            raise ValueError("recent, nearest, pace, fade and reach must be above zero")

    def weights(self) -> NDArray[np.float64]:
        """What an item counts: row `n - 1` for a history of `n` items, by age, 0 the newest; float64[depth, depth]."""
        ages = np.arange(self.depth, dtype=np.float64)
        if self.decay == "exponential":
            return np.tile(np.exp(-ages / self.pace), (self.depth, 1))
        sizes = np.arange(1, self.depth + 1, dtype=np.float64)[:, None]
        power = {"same": 0, "linear": 1, "quadratic": 2}[self.decay]
        return np.where(ages < sizes, np.maximum(sizes - ages, 0) / sizes, 0.0) ** power

    def scores(
        self, sample: Sessions, history: NDArray[np.int32], now: int, without: int = NOBODY
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What the neighbours propose, in no order of use: items, each once, and scores above zero.

        `history` is oldest first; the session `without` (its own, as a rule) is nobody's neighbour.
        """
        return _scored(
            sample.arrays, sample.length, history, now, without, self.weights(), self.recent, self.nearest,
            self.normalise, 1.0 / self.fade, 1.0 / self.reach, self.backward, self.idf, self.again,
        )  # fmt: skip

    def top(
        self,
        sample: Sessions,
        history: NDArray[np.int32],
        now: int,
        limit: int,
        without: int = NOBODY,
        eligible: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best `limit` of `scores`, best first; `eligible` is bool by item."""
        items, scores = self.scores(sample, history, now, without)
        mask = np.ones(sample.n_items, np.bool_) if eligible is None else eligible
        return top_mapped(scores, items, mask, limit, 0.0, -1)

    def fill(
        self,
        sample: Sessions,
        items: NDArray[np.int32],
        offsets: NDArray[np.int64],
        now: int,
        without: NDArray[np.int64],
        into: NDArray[np.float32],
    ) -> None:
        """Set the scores of many histories, laid end to end, in `into`, float32[histories, items]."""
        _fill(
            sample.arrays, sample.length, items, offsets, now, without, into, self.weights(), self.recent, self.nearest,
            self.normalise, 1.0 / self.fade, 1.0 / self.reach, self.backward, self.idf, self.again,
        )  # fmt: skip


@kernel
def _seat(keys: NDArray[np.int32], key: int) -> int:
    """Where in an open table a key is, or would be; -1 is a free seat."""
    mask = len(keys) - 1
    at = home(key, mask)
    while keys[at] >= 0 and keys[at] != key:
        at = (at + 1) & mask
    return at


@kernel
def _table(entries: int) -> NDArray[np.int32]:
    room = 16
    while room < 2 * entries:
        room *= 2
    return np.full(room, -1, np.int32)


@kernel
def _candidates(visits: Visits, past: NDArray[np.int32], length: int, without: int, recent: int) -> NDArray[np.int32]:
    """Slots of the sessions that were the last to visit one of `past`, the last first.

    At most `4 * recent` visits are looked at, so that one session's many visits to an item cost no more.
    """
    alive = visits.clock[0] - len(visits.item)
    own = slot_of(visits, without)
    cursors = np.empty(len(past), np.int64)
    for at in range(len(past)):
        cursors[at] = visits.newest[past[at]] if past[at] < len(visits.newest) else -1
    room = min(recent, len(visits.key))
    slots = np.empty(room, np.int32)
    seen = _table(room)
    size = 0
    for _ in range(4 * recent):
        turn = 0
        for at in range(1, len(cursors)):
            if cursors[at] > cursors[turn]:
                turn = at
        visit = cursors[turn]
        if visit < 0 or visit < alive:
            break
        here = visit % len(visits.item)
        cursors[turn] = visits.of_item[here]
        slot = visits.slot[here]
        # The slot may have been given to another session since, or the session have gone on past the visit.
        if slot == own or visit < visits.first[slot] or visits.size[slot] - visits.place[here] > length:
            continue
        seat = _seat(seen, slot)
        if seen[seat] < 0:
            seen[seat] = slot
            slots[size] = slot
            size += 1
            if size == room:
                break
    return slots[:size]


@kernel
def _scored(
    visits: Visits,
    length: int,
    history: NDArray[np.int32],
    now: int,
    without: int,
    weights: NDArray[np.float64],
    recent: int,
    nearest: int,
    normalise: float,
    fading: float,
    nearing: float,
    backward: float,
    idf: float,
    again: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    events = len(visits.item)
    alive = max(visits.clock[0] - events, 0)
    # The newest items of the history, each once, newest first.
    past = np.empty(len(weights), np.int32)
    known = _table(len(weights))
    age_of = np.empty(len(known), np.int64)
    size = 0
    for at in range(len(history) - 1, -1, -1):
        seat = _seat(known, history[at])
        if known[seat] < 0 and history[at] >= 0:
            known[seat] = history[at]
            age_of[seat] = size
            past[size] = history[at]
            size += 1
            if size == len(past):
                break
    if size == 0:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    weight = weights[size - 1]

    slots = _candidates(visits, past[:size], length, without, recent)
    likeness = np.zeros(len(slots), np.float32)
    matched = np.empty(len(slots), np.int32)
    for index in range(len(slots)):
        slot = slots[index]
        shared, best, total, count = np.int64(0), len(weight), 0.0, 0
        visit = visits.last[slot]
        while visit >= alive and visit >= 0 and count < length:
            here = visit % events
            seat = _seat(known, visits.item[here])
            if known[seat] >= 0:
                age = age_of[seat]
                if not (shared >> age) & 1:
                    shared |= np.int64(1) << age
                    total += weight[age]
                    if age < best:
                        best = age
                        matched[index] = visits.place[here]
            count += 1
            visit = visits.of_session[here]
        if normalise != 0.0:
            total /= count**normalise
        if fading != 0.0:
            total *= np.exp(-max(now - visits.time[slot], 0) * fading)
        likeness[index] = total
    chosen, similarity = top_rows(likeness, np.ones(len(slots), np.bool_), nearest, 0.0, -1)

    # Room for all that the neighbours visited, each once at most.
    room = 0
    for index in chosen:
        room += min(int(visits.size[slots[index]]), length)
    items = np.empty(room, np.int32)
    sums = np.zeros(room, np.float64)
    table = _table(room)
    where = np.empty(len(table), np.int32)
    found = 0
    for rank in range(len(chosen)):
        slot, match = slots[chosen[rank]], matched[chosen[rank]]
        visit = visits.last[slot]
        count = 0
        while visit >= alive and visit >= 0 and count < length:
            here = visit % events
            item, place = visits.item[here], visits.place[here]
            gain = np.float64(similarity[rank])
            if nearing != 0.0:
                gain *= np.exp(-abs(place - match) * nearing)
            if place < match:
                gain *= backward
            seat = _seat(table, item)
            if table[seat] < 0:
                table[seat] = item
                where[seat] = found
                items[found] = item
                found += 1
            sums[where[seat]] += gain
            count += 1
            visit = visits.of_session[here]

    scores = np.empty(found, np.float32)
    kept = np.float64(min(visits.clock[0], events))
    for at in range(found):
        total = sums[at]
        if idf != 0.0:
            total *= 1.0 + idf * np.log(kept / visits.counts[items[at]])
        if known[_seat(known, items[at])] >= 0:
            total *= again
        scores[at] = total
    return items[:found].copy(), scores


@kernel
def _fill(
    visits: Visits,
    length: int,
    histories: NDArray[np.int32],
    offsets: NDArray[np.int64],
    now: int,
    without: NDArray[np.int64],
    into: NDArray[np.float32],
    weights: NDArray[np.float64],
    recent: int,
    nearest: int,
    normalise: float,
    fading: float,
    nearing: float,
    backward: float,
    idf: float,
    again: float,
) -> None:
    for case in range(len(offsets) - 1):
        items, scores = _scored(
            visits, length, histories[offsets[case] : offsets[case + 1]], now, without[case], weights, recent, nearest,
            normalise, fading, nearing, backward, idf, again,
        )  # fmt: skip
        for at in range(len(items)):
            if scores[at] > 0 and items[at] < into.shape[1]:
                into[case, items[at]] = scores[at]
