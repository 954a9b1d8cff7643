"""Session-based nearest neighbours: what came up in the recent sessions that are most like this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.sessions import (
    FIRST,
    ITEM,
    LAST,
    OF_ITEM,
    OF_SESSION,
    PLACE,
    SIZE,
    SLOT,
    TIME,
    Sessions,
    Visits,
    home,
    slot_of,
)
from penchant.retrieval.topk import top_mapped, top_rows

NOBODY = -(2**63)
"""No session: keys are hashes or numbers, and never this one."""

_DEPTH = 62
"""Items of a history that can count at most: one bit each."""


class Numbers(NamedTuple):
    """The parameters as the kernels take them."""

    recent: int
    nearest: int
    length: int
    normalise: float
    fading: float
    nearing: float
    backward: float
    idf: float
    own: float
    onward: float
    onward_from: int


@dataclass(frozen=True, slots=True)
class NearestSessions:
    """Nearest neighbours among sessions: VMIS-kNN, and with `reach` and `fade` what STAN adds.

    The `recent` sessions that were the last to visit an item of the history are candidates (Kersbergen et al. 2022).
    Their similarity is the sum of the weights of the items that both have, by place in the history (`decay`), over the
    session's length to the power `normalise`, times `exp(-age / fade)` (Garg et al. 2019). The `nearest` of them add,
    for each visit, their similarity `* exp(-distance / reach)` from the newest item in common, `* backward` for what
    came before it. An item's sum is multiplied by `1 + idf * log(visits / visits of the item)` (Ludewig and Jannach
    2018).

    Two steps of our own follow, in units of the best score so far. The history proposes itself: `own` times the weight
    of each item. And the `onward_from` best items ask in the place of the history, weighted by their scores: what
    their neighbours propose counts `onward` times, which reaches items that share no session with the history.
    Equal sessions: the more recent; equal items: the lower.
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
    own: float = 0.0
    onward: float = 0.0
    onward_from: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= _DEPTH:
            raise ValueError(f"depth must be from 1 to {_DEPTH}")
        if not 1 <= self.onward_from <= _DEPTH:
            raise ValueError(f"onward_from must be from 1 to {_DEPTH}")
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
        """What the neighbours propose, in no order of use: items, each once, and scores, not negative.

        `history` is oldest first; the session `without` (its own, as a rule) is nobody's neighbour.
        """
        return _scored(sample.arrays, history, now, without, self.weights(), self.numbers(sample.length))

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
        _fill(sample.arrays, items, offsets, now, without, into, self.weights(), self.numbers(sample.length))

    def numbers(self, length: int) -> Numbers:
        """The parameters for sessions of which the newest `length` visits count."""
        return Numbers(
            self.recent, self.nearest, length, self.normalise, 1.0 / self.fade, 1.0 / self.reach, self.backward,
            self.idf, self.own, self.onward, self.onward_from,
        )  # fmt: skip


@kernel
def seat_of(keys: NDArray[np.int32], key: int) -> int:
    """Where in an open table a key is, or would be; -1 is a free seat."""
    mask = len(keys) - 1
    at = home(key, mask)
    while keys[at] >= 0 and keys[at] != key:
        at = (at + 1) & mask
    return at


@kernel
def table_for(entries: int) -> NDArray[np.int32]:
    """An open table with nothing in it, at most half full with so many entries."""
    room = 16
    while room < 2 * entries:
        room *= 2
    return np.full(room, -1, np.int32)


@kernel
def places_of(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """An open table of rows, each once, and by its seat the place of each: its age where the newest stand first."""
    known = table_for(len(rows))
    places = np.empty(len(known), np.int64)
    for place in range(len(rows)):
        seat = seat_of(known, rows[place])
        known[seat] = rows[place]
        places[seat] = place
    return known, places


@kernel
def _before(visit: int, at: int, ago: int, events: int) -> tuple[int, int]:
    """The visit so many before, and its row; a division for each would cost as much as all the rest."""
    if ago == 0:
        return -1, 0
    return visit - ago, at - ago if at >= ago else at - ago + events


@kernel
def _candidates(visits: Visits, past: NDArray[np.int32], length: int, without: int, recent: int) -> NDArray[np.int32]:
    """Slots of the sessions that were the last to visit one of `past`, the last first.

    At most `4 * recent` visits are looked at, so that one session's many visits to an item cost no more.
    """
    alive = max(visits.clock[0] - len(visits.rows), 0)
    own = slot_of(visits, without)
    cursors = np.empty(len(past), np.int64)
    places = np.empty(len(past), np.int64)
    for at in range(len(past)):
        cursors[at] = visits.newest[past[at]] if past[at] < len(visits.newest) else -1
        places[at] = cursors[at] % len(visits.rows)
    room = min(recent, len(visits.slots))
    slots = np.empty(room, np.int32)
    seen = table_for(room)
    size = 0
    for _ in range(4 * recent):
        turn = 0
        for at in range(1, len(cursors)):
            if cursors[at] > cursors[turn]:
                turn = at
        visit = cursors[turn]
        if visit < alive:
            break
        row = visits.rows[places[turn]]
        cursors[turn], places[turn] = _before(visit, places[turn], row[OF_ITEM], len(visits.rows))
        slot = row[SLOT]
        # The slot may have been given to another session since, or the session have gone on past the visit.
        session = visits.slots[slot]
        if slot == own or visit < session[FIRST] or session[SIZE] - row[PLACE] > length:
            continue
        seat = seat_of(seen, slot)
        if seen[seat] < 0:
            seen[seat] = slot
            slots[size] = slot
            size += 1
            if size == room:
                break
    return slots[:size]


@kernel
def _asked(
    visits: Visits,
    past: NDArray[np.int32],
    weight: NDArray[np.float64],
    now: int,
    without: int,
    numbers: Numbers,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """What the neighbours of weighted items propose, in the order in which it is found; `past` has each item once."""
    events, length = len(visits.rows), numbers.length
    alive = max(visits.clock[0] - events, 0)
    known, age_of = places_of(past)
    slots = _candidates(visits, past, length, without, numbers.recent)
    likeness = np.zeros(len(slots), np.float32)
    matched = np.empty(len(slots), np.int32)
    for index in range(len(slots)):
        slot = slots[index]
        shared, best, total, count = np.int64(0), len(past), 0.0, 0
        visit = visits.slots[slot, LAST]
        at = visit % events
        while visit >= alive and count < length:
            row = visits.rows[at]
            seat = seat_of(known, row[ITEM])
            if known[seat] >= 0:
                age = age_of[seat]
                if not (shared >> age) & 1:
                    shared |= np.int64(1) << age
                    total += weight[age]
                    if age < best:
                        best = age
                        matched[index] = row[PLACE]
            count += 1
            visit, at = _before(visit, at, row[OF_SESSION], events)
        if numbers.normalise != 0.0:
            total /= count**numbers.normalise
        if numbers.fading != 0.0:
            total *= np.exp(-max(now - visits.slots[slot, TIME], 0) * numbers.fading)
        likeness[index] = total
    chosen, similarity = top_rows(likeness, np.ones(len(slots), np.bool_), numbers.nearest, 0.0, -1)

    # Room for all that the neighbours visited, were it all different.
    room = 0
    for index in chosen:
        room += min(int(visits.slots[slots[index], SIZE]), length)
    near = np.exp(-np.arange(length) * numbers.nearing)
    items = np.empty(room, np.int32)
    sums = np.zeros(room, np.float64)
    table = table_for(room)
    where = np.empty(len(table), np.int32)
    found = 0
    for rank in range(len(chosen)):
        slot, match = slots[chosen[rank]], matched[chosen[rank]]
        visit = visits.slots[slot, LAST]
        at = visit % events
        count = 0
        while visit >= alive and count < length:
            row = visits.rows[at]
            item, place = row[ITEM], row[PLACE]
            gain = similarity[rank] * near[abs(place - match)]
            if place < match:
                gain *= numbers.backward
            seat = seat_of(table, item)
            if table[seat] < 0:
                table[seat] = item
                where[seat] = found
                items[found] = item
                found += 1
            sums[where[seat]] += gain
            count += 1
            visit, at = _before(visit, at, row[OF_SESSION], events)
    if numbers.idf != 0.0:
        kept = np.float64(min(visits.clock[0], events))
        for at in range(found):
            sums[at] *= 1.0 + numbers.idf * np.log(kept / visits.counts[items[at]])
    return items[:found], sums[:found]


@kernel
def _joined(
    items: NDArray[np.int32],
    sums: NDArray[np.float64],
    more: NDArray[np.int32],
    scores: NDArray[np.float64],
    share: float,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """`share` times the further scores added; what is new stands behind."""
    found = len(items)
    both = np.empty(found + len(more), np.int32)
    total = np.zeros(found + len(more), np.float64)
    table = table_for(len(both))
    where = np.empty(len(table), np.int32)
    for at in range(found):
        seat = seat_of(table, items[at])
        table[seat] = both[at] = items[at]
        total[at] = sums[at]
        where[seat] = at
    for at in range(len(more)):
        seat = seat_of(table, more[at])
        if table[seat] < 0:
            table[seat] = both[found] = more[at]
            where[seat] = found
            found += 1
        total[where[seat]] += share * scores[at]
    return both[:found], total[:found]


@kernel
def _scored(
    visits: Visits,
    history: NDArray[np.int32],
    now: int,
    without: int,
    weights: NDArray[np.float64],
    numbers: Numbers,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    # The newest items of the history, each once, newest first.
    past = np.empty(len(weights), np.int32)
    size = 0
    for at in range(len(history) - 1, -1, -1):
        new = history[at] >= 0
        for before in range(size):
            new = new and past[before] != history[at]
        if new:
            past[size] = history[at]
            size += 1
            if size == len(past):
                break
    if size == 0:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    past, weight = past[:size], weights[size - 1, :size]

    items, sums = _asked(visits, past, weight, now, without, numbers)
    best = sums.max() if len(sums) else 0.0
    if numbers.own != 0.0:
        items, sums = _joined(items, sums, past, weight, numbers.own * (best if best > 0.0 else 1.0))
    if numbers.onward != 0.0 and best > 0.0:
        start, likely = top_rows(sums.astype(np.float32), np.ones(len(sums), np.bool_), numbers.onward_from, 0.0, -1)
        weight = likely.astype(np.float64) / likely[0]
        more, scores = _asked(visits, items[start], weight, now, without, numbers)
        if len(scores) and scores.max() > 0.0:
            items, sums = _joined(items, sums, more, scores, numbers.onward * best / scores.max())
    return items, sums.astype(np.float32)


@kernel
def _fill(
    visits: Visits,
    histories: NDArray[np.int32],
    offsets: NDArray[np.int64],
    now: int,
    without: NDArray[np.int64],
    into: NDArray[np.float32],
    weights: NDArray[np.float64],
    numbers: Numbers,
) -> None:
    for case in range(len(offsets) - 1):
        history = histories[offsets[case] : offsets[case + 1]]
        items, scores = _scored(visits, history, now, without[case], weights, numbers)
        for at in range(len(items)):
            if scores[at] > 0 and items[at] < into.shape[1]:
                into[case, items[at]] = scores[at]
