"""Rows by hash in bulk against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.catalog.lookup import Lookup

HASHES = st.integers(0, 2**63 - 1)


@settings(deadline=None)
@given(st.lists(HASHES, unique=True, max_size=80), st.integers(1, 30), st.data())
def test_runs_are_resolved_as_by_a_dictionary(known: list[int], step: int, data: st.DataObject) -> None:
    lookup = Lookup()
    for start in range(0, len(known), step):
        lookup.extend(np.array(known[start : start + step], np.int64))
    rows = {hash_: row for row, hash_ in enumerate(known)}
    pool = st.sampled_from(known) | HASHES if known else HASHES
    runs = data.draw(st.lists(st.lists(pool, unique=True, max_size=20), max_size=5))
    words: list[int] = []
    expected: list[tuple[int, int]] = []
    offsets = [0]
    for run in runs:
        words += [*run, *(hash_ % 1_000 for hash_ in run)]
        expected += sorted((rows[hash_], hash_ % 1_000) for hash_ in run if hash_ in rows)
        offsets.append(len(expected))
    found = lookup.resolve(np.array(words, np.int64), np.array([len(run) for run in runs], np.int64))
    assert found[0].tolist() == offsets
    assert list(zip(found[1].tolist(), found[2].tolist(), strict=True)) == expected
