"""What the sessions of a picture most like a history propose: the loops of `NearestSessions` over its columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.compile import kernel
from penchant.retrieval.session_knn import NOBODY, Numbers, places_of, seat_of
from penchant.retrieval.topk import top_rows


class Columns(NamedTuple):
    """The arrays of a `SessionTable`."""

    of_row: NDArray[np.int64]
    sessions: NDArray[np.int64]
    values: NDArray[np.int64]
    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    times: NDArray[np.int64]
    heads: NDArray[np.int64]


Neighbours = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float64]]


@kernel
def _shift(columns: Columns) -> int:
    """By how much a session is shifted to where it stands in `heads`."""
    bits = 0
    while (1 << bits) < len(columns.heads) - 1:
        bits += 1
    return 63 - bits


@kernel
def _slot_of(columns: Columns, session: int, shift: int) -> int:
    """The index of a session that the sample has."""
    at = np.uintp(columns.heads[session >> shift])  # unsigned: no check for counting from the end
    while columns.keys[at] < session:
        at += np.uintp(1)
    return int(at)


@kernel
def _seat_of(keys: NDArray[np.int64], session: int) -> int:
    """Where in an open table a session is, or would be; -1 is a free seat. Sessions are hashes already."""
    mask = len(keys) - 1
    at = session & mask
    while keys[at] >= 0 and keys[at] != session:
        at = (at + 1) & mask
    return at


@kernel
def candidates(columns: Columns, past: NDArray[np.int32], own: NDArray[np.int64], recent: int) -> NDArray[np.int32]:
    """The sessions that were the last to visit an item of the history, the last first; of `4 * recent` visits.

    Equal visits are taken as the history and the sample have them. Only sessions are put in order, each by its newest
    visit: most visits are further ones of the same.
    """
    room = 0
    for row in past:
        room += columns.of_row[row + 1] - columns.of_row[row]
    least, spare = _floor_of(columns, past, room, 4 * recent)
    seats = 16
    while seats < 2 * (room + len(own)):
        seats *= 2
    table, where = np.full(seats, -1, np.int64), np.empty(seats, np.int64)
    for session in own:
        seat = _seat_of(table, session)
        table[seat], where[seat] = session, -1
    newest, who, turn = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    size = met = 0
    for row in past:
        for at in range(columns.of_row[row], columns.of_row[row + 1]):
            session, value = columns.sessions[at], columns.values[at]
            if value <= least:
                if value < least or spare == 0:
                    continue
                spare -= 1
            seat = _seat_of(table, session)
            if table[seat] < 0:
                table[seat], where[seat], who[size] = session, size, session
                newest[size], turn[size] = -value, met
                size += 1
            elif where[seat] >= 0 and -value < newest[where[seat]]:
                newest[where[seat]], turn[where[seat]] = -value, met
            met += 1
    order = np.argsort(newest[:size], kind="mergesort")
    for at in range(1, size):  # among equal ones the first that was met
        to, one = at, order[at]
        while to > 0 and newest[order[to - 1]] == newest[one] and turn[order[to - 1]] > turn[one]:
            order[to] = order[to - 1]
            to -= 1
        order[to] = one
    shift = _shift(columns)
    slots = np.empty(min(recent, size), np.int32)
    for at in range(len(slots)):
        slots[at] = _slot_of(columns, who[order[at]], shift)
    return slots


@kernel
def _floor_of(columns: Columns, past: NDArray[np.int32], room: int, most: int) -> tuple[int, int]:
    """The value of the last of the `most` newest of `room` visits, and how many of that value are among them."""
    if room <= most:
        return NOBODY, 0
    values = np.empty(room, np.int64)
    size = 0
    for row in past:
        for at in range(columns.of_row[row], columns.of_row[row + 1]):
            values[size] = columns.values[at]
            size += 1
    least = np.partition(values, room - most)[room - most]
    return least, most - int(np.count_nonzero(values > least))


@kernel
def neighbours(
    columns: Columns,
    past: NDArray[np.int32],
    weight: NDArray[np.float64],
    now: int,
    own: NDArray[np.int64],
    numbers: Numbers,
) -> Neighbours:
    """The nearest sessions, best first: slots, similarities, places of the newest item in common, weights in common.

    `past` has each item once, the newest first.
    """
    ages = np.full(len(columns.of_row) - 1, len(past), np.int8)
    for age in range(len(past)):
        ages[past[age]] = age
    slots = candidates(columns, past, own, numbers.recent)
    likeness = np.zeros(len(slots), np.float32)
    matched = np.zeros(len(slots), np.int32)
    common = np.zeros(len(slots), np.float64)
    for index in range(len(slots)):
        slot = slots[index]
        begin, end = columns.offsets[slot], columns.offsets[slot + 1]
        oldest = max(begin, end - numbers.length)
        best = len(past)
        for at in range(end - 1, oldest - 1, -1):
            age = ages[np.uintp(columns.rows[at])]  # unsigned: no check for counting from the end
            if age < len(past):
                common[index] += weight[age]
                if age < best:
                    best = age
                    matched[index] = at - begin
        total = common[index]
        if numbers.normalise != 0.0:
            total /= (end - oldest) ** numbers.normalise
        if numbers.fading != 0.0:
            total *= np.exp(-max(now - columns.times[slot], 0) * numbers.fading)
        likeness[index] = total
    chosen, similarity = top_rows(likeness, np.ones(len(slots), np.bool_), numbers.nearest, 0.0, -1)
    return slots[chosen], similarity, matched[chosen], common[chosen]


@kernel
def _asked(
    columns: Columns,
    past: NDArray[np.int32],
    weight: NDArray[np.float64],
    now: int,
    own: NDArray[np.int64],
    numbers: Numbers,
    sums: NDArray[np.float64],
) -> NDArray[np.int32]:
    """Add to `sums`, by row and zero before, what the neighbours propose; returns the rows, as they are found."""
    slots, similarity, matched, _ = neighbours(columns, past, weight, now, own, numbers)
    near = np.exp(-np.arange(numbers.length) * numbers.nearing)
    room = 0
    for slot in slots:
        room += min(columns.offsets[slot + 1] - columns.offsets[slot], numbers.length)
    found = np.empty(room, np.int32)
    size = 0
    for rank in range(len(slots)):
        begin, end = columns.offsets[slots[rank]], columns.offsets[slots[rank] + 1]
        for at in range(end - 1, max(begin, end - numbers.length) - 1, -1):
            row = columns.rows[at]
            gain = similarity[rank] * near[abs(at - begin - matched[rank])]
            if at - begin < matched[rank]:
                gain *= numbers.backward
            if sums[row] == 0.0 and gain > 0.0:
                found[size] = row
                size += 1
            sums[row] += gain
    if numbers.idf != 0.0:
        kept = np.float64(len(columns.rows))
        for at in range(size):
            row = found[at]
            sums[row] *= 1.0 + numbers.idf * np.log(kept / (columns.of_row[row + 1] - columns.of_row[row]))
    return found[:size]


@kernel
def scored(
    columns: Columns,
    past: NDArray[np.int32],
    weights: NDArray[np.float64],
    now: int,
    own: NDArray[np.int64],
    numbers: Numbers,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The score of every row, 0 where nothing proposes it, and the rows that have one; `past` newest first."""
    count = len(columns.of_row) - 1
    sums = np.zeros(count, np.float64)
    found = _asked(columns, past, weights[len(past) - 1, : len(past)], now, own, numbers, sums)
    best = 0.0
    for row in found:
        best = max(best, sums[row])
    if numbers.own != 0.0:
        found = np.append(found, past)
        for at in range(len(past)):
            sums[past[at]] += numbers.own * (best if best > 0.0 else 1.0) * weights[len(past) - 1, at]
    if numbers.onward != 0.0 and best > 0.0:
        likely = np.zeros(count, np.float32)
        each = np.empty(len(found), np.int32)
        size = 0
        for row in found:
            if likely[row] == 0:
                likely[row] = sums[row]
                each[size] = row
                size += 1
        each = each[:size]
        start, scores = top_rows(likely[each], np.ones(size, np.bool_), numbers.onward_from, 0.0, -1)
        further = np.zeros(count, np.float64)
        weight = scores.astype(np.float64) / scores[0]
        more = _asked(columns, each[start], weight, now, own, numbers, further)
        most = 0.0
        for row in more:
            most = max(most, further[row])
        if most > 0.0:
            for row in more:
                sums[row] += numbers.onward * best / most * further[row]
            found = np.append(found, more)
    listed = np.zeros(count, np.float32)
    rows = np.empty(len(found), np.int32)
    size = 0
    for row in found:
        if listed[row] == 0 and sums[row] > 0.0:
            listed[row] = sums[row]
            rows[size] = row
            size += listed[row] > 0
    return listed, rows[:size].copy()


@kernel
def credited(
    columns: Columns,
    past: NDArray[np.int32],
    weights: NDArray[np.float64],
    now: int,
    own: NDArray[np.int64],
    numbers: Numbers,
    wanted: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Per wanted row the place in `past` that gave most to its score, -1 where no neighbour proposes it.

    A neighbour's gain is shared among what it has in common with the history, by weight; ties go to the newest.
    """
    weight = weights[len(past) - 1, : len(past)]
    slots, similarity, matched, common = neighbours(columns, past, weight, now, own, numbers)
    known, ages = places_of(past)
    places, at_place = places_of(wanted)
    near = np.exp(-np.arange(numbers.length) * numbers.nearing)
    shares = np.zeros((len(wanted), len(past)), np.float64)
    for rank in range(len(slots)):
        begin, end = columns.offsets[slots[rank]], columns.offsets[slots[rank] + 1]
        oldest = max(begin, end - numbers.length)
        for at in range(oldest, end):
            seat = seat_of(places, columns.rows[at])
            if places[seat] < 0:
                continue
            gain = similarity[rank] / common[rank] * near[abs(at - begin - matched[rank])]
            if at - begin < matched[rank]:
                gain *= numbers.backward
            for other in range(oldest, end):
                of = seat_of(known, columns.rows[other])
                if known[of] >= 0:
                    shares[at_place[seat], ages[of]] += gain * weight[ages[of]]
    best = np.full(len(wanted), -1, np.int32)
    for at in range(len(wanted)):
        most = 0.0
        of = at_place[seat_of(places, wanted[at])]
        for age in range(len(past)):
            if shares[of, age] > most:
                most = shares[of, age]
                best[at] = age
    return best
