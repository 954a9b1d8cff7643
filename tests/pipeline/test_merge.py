from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.candidates import Retrieved
from penchant.core.errors import ContractError
from penchant.pipeline.merge import Merger
from penchant.testing.oracles.ranking import merge as oracle
from penchant.testing.strategies import make_items, make_query


def proposal(rows):
    return Retrieved(np.array(rows, np.int32), np.linspace(1, 0, len(rows)).astype(np.float32))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_merging_equals_the_plain_one(data):
    count = data.draw(st.integers(1, 20))
    lists = data.draw(st.lists(st.lists(st.integers(0, count - 1), unique=True), min_size=0, max_size=5))
    quotas = [data.draw(st.integers(1, 7)) for _ in lists]
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    query = make_query(make_items(count), eligible=eligible)
    merger = Merger([(f"s{n}", quota) for n, quota in enumerate(quotas)])
    merged = merger.merge(query, [proposal(rows) for rows in lists])
    rows, bits, ranks = oracle(lists, quotas, eligible.tolist())
    assert merged.rows.tolist() == rows
    assert merged.sources.tolist() == bits
    for source in range(len(lists)):
        assert [None if np.isnan(rank) else int(rank) for rank in merged.columns[f"rank.s{source}"]] == ranks[source]
    assert merged.columns["place"].tolist() == list(range(1, len(rows) + 1))
    again = merger.merge(query, [proposal(rows) for rows in lists])
    assert np.array_equal(again.rows, merged.rows)


def test_turns_follow_the_quotas():
    query = make_query(make_items(12))
    merged = Merger([("a", 2), ("b", 1)]).merge(query, [proposal([0, 1, 2, 3]), proposal([8, 9])])
    assert merged.rows.tolist() == [0, 1, 8, 2, 3, 9]


def test_a_source_that_failed_leaves_the_others():
    query = make_query(make_items(5))
    merged = Merger([("a", 1), ("b", 1)]).merge(query, [None, proposal([4, 2])])
    assert merged.rows.tolist() == [4, 2]
    assert merged.sources.tolist() == [2, 2]


@pytest.mark.parametrize(
    "bad",
    [
        Retrieved(np.array([5], np.int32), np.zeros(1, np.float32)),
        Retrieved(np.array([-1], np.int32), np.zeros(1, np.float32)),
        Retrieved(np.array([1], np.int64), np.zeros(1, np.float32)),
        Retrieved(np.array([1], np.int32), np.zeros(2, np.float32)),
    ],
)
def test_malformed_proposals_are_a_broken_contract(bad):
    query = make_query(make_items(5))
    merger = Merger([("a", 1)])
    with pytest.raises(ContractError):
        merger.merge(query, [bad])
    assert merger.merge(query, [proposal([1])]).rows.tolist() == [1]


def test_given_rows_keep_their_order_and_learn_who_knows_them():
    query = make_query(make_items(5), eligible=[True, True, False, True, True])
    scores = {0: np.array([1, np.nan, 3], np.float32), 1: None}
    found = Merger([("a", 1), ("b", 1)]).given(query, np.array([3, 2, 0, 3, 4], np.int32), lambda s, rows: scores[s])
    assert found.rows.tolist() == [3, 0, 4]
    assert found.sources.tolist() == [1, 0, 1]
    assert found.columns["rank.a"][[0, 2]].tolist() == [2, 1]
    assert np.isnan(found.columns["rank.b"]).all()


def test_the_picture_may_grow():
    merger = Merger([("a", 1)])
    for count in (3, 50, 10):
        query = make_query(make_items(count))
        assert merger.merge(query, [proposal([count - 1])]).rows.tolist() == [count - 1]


def test_sources_are_bits():
    with pytest.raises(ContractError):
        Merger([(f"s{n}", 1) for n in range(33)])
    with pytest.raises(ContractError):
        Merger([("a", 1), ("a", 2)])
