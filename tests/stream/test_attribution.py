from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penchant.stream.attribution import NO_REQUEST, ActedColumns, ShownColumns, attribute

WINDOW = 4
small = st.integers(0, 2)
times = st.integers(0, 9)
shown_rows = st.lists(st.tuples(small, small, st.sampled_from([NO_REQUEST, 0, 1]), times, st.booleans()), max_size=8)
acted_rows = st.lists(st.tuples(small, small, st.sampled_from([NO_REQUEST, 0, 1, 2]), times), max_size=8)


def _slow(shown: list[tuple[int, ...]], acted: tuple[int, ...]) -> int:
    """The definition, read out loud."""
    user, item, request, ts = acted
    best, key = -1, None
    for row, (owner, thing, asked, at, served) in enumerate(shown):
        if (owner, thing) != (user, item):
            continue
        if request != NO_REQUEST:
            if asked == request and (key is None or (served, row) > key):
                best, key = row, (served, row)
        elif at <= ts and (key is None or (at, row) > key):
            best, key = row, (at, row)
    return best if best >= 0 and ts - shown[best][3] <= WINDOW else -1


@given(shown_rows, acted_rows, st.randoms(use_true_random=False))
def test_the_fast_rule_is_the_slow_rule_in_any_order(shown, acted, chance) -> None:
    order = list(range(len(shown)))
    chance.shuffle(order)
    columns = np.array([shown[i] for i in order], np.int64).reshape(-1, 5).T
    deeds = np.array(acted, np.int64).reshape(-1, 4).T
    found = attribute(
        ShownColumns(
            users=columns[0],
            items=columns[1],
            requests=columns[2],
            ts=columns[3],
            positions=np.array(order, np.int64),
            served=columns[4] != 0,
        ),
        ActedColumns(users=deeds[0], items=deeds[1], requests=deeds[2], ts=deeds[3]),
        WINDOW,
    )
    assert [order[row] if row >= 0 else -1 for row in found] == [_slow(shown, deed) for deed in acted]
