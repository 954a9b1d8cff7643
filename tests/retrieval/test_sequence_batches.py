"""Windows and batches: everything once, nothing twice, and few shapes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.retrieval.sequence.batches import batches, bounds, cut, place
from penchant.testing.strategies import generators


@settings(deadline=None)
@given(
    rng=generators(),
    sizes=st.lists(st.integers(0, 40), max_size=30),
    length=st.integers(1, 12),
    places=st.integers(1, 60),
)
def test_every_place_is_in_one_row(rng: np.random.Generator, sizes: list[int], length: int, places: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))]).astype(np.int64)
    starts, ends = cut(offsets, length, rng)
    assert ((ends - starts > 0) & (ends - starts <= length)).all()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    assert all(owner[start] == owner[end - 1] for start, end in zip(starts, ends, strict=True))
    values = np.arange(offsets[-1], dtype=np.int32)
    found: list[int] = []
    for group, width in batches(starts, ends, length, places, rng):
        assert width in bounds(length)
        assert len(group) == max(1, places // width)
        rows = place(values, starts, ends, group, width)
        assert rows.shape == (len(group), width)
        for row in rows:
            there = row[row >= 0]
            assert (row[len(row) - len(there) :] == there).all()  # on the right, and in order
            assert (np.diff(there) == 1).all()
            found += there.tolist()
    assert sorted(found) == values.tolist()


def test_long_histories_are_cut_anew() -> None:
    rng = np.random.default_rng(0)
    offsets = np.array([0, 50], np.int64)
    cuts = {cut(offsets, 7, rng)[0].tobytes() for _ in range(30)}
    assert len(cuts) == 7  # as many as there are places to begin
