"""Queries: what sources may propose, and rows of many hashes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.assembly import open_folder
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.query import UserState
from penchant.serving import wire
from penchant.serving.rows import TABLE, RowIndex, distinct_rows, first_visits

TOML = """
[actions]
click = { weight = 1.0 }
hide = { weight = -1.0 }
[surfaces.home]
sources = [{ name = "trending", n = 5 }]
filters = ["seen", "hidden", "listed"]
[surfaces.again]
sources = [{ name = "trending", n = 5 }]
filters = ["listed"]
"""


def test_sources_spend_no_proposals_on_what_the_filters_drop(tmp_path: Path) -> None:
    (tmp_path / "penchant.toml").write_text(TOML)
    with open_folder(tmp_path, background=False) as engine:
        engine.send([{"type": "item", "item_id": f"i{n}", "attributes": {}} for n in range(30)])
        for n in range(20):  # i0 is the most popular
            clicks = 25 - n
            engine.send(
                [
                    {"type": "interaction", "user_id": f"x{k}", "item_id": f"i{n}", "action": "click"}
                    for k in range(clicks)
                ]
            )
        engine.send(
            [{"type": "interaction", "user_id": "u", "item_id": f"i{n}", "action": "click"} for n in range(8)]
            + [{"type": "interaction", "user_id": "u", "item_id": "i8", "action": "hide"}]
        )
        engine.settle()
        shown = engine.recommend(wire.Request(user_id="u", surface="home", n=5, record=False))
        assert [item.item_id for item in shown.items] == ["i9", "i10", "i11", "i12", "i13"]
        again = engine.recommend(wire.Request(user_id="u", surface="again", n=5, record=False))
        assert [item.item_id for item in again.items] == ["i0", "i1", "i2", "i3", "i4"]
        given = engine.recommend(wire.Request(user_id="u", surface="home", items=["i0", "i8", "i20"], record=False))
        assert {item.item_id for item in given.items} == {"i0", "i8", "i20"}


@settings(deadline=None)
@given(st.lists(st.integers(0, 60)), st.integers(0, 40), st.integers(0, 10))
def test_rows_of_hashes_are_those_of_the_dictionary(asked: list[int], count: int, later: int) -> None:
    ids = [f"i{n}" for n in range(count + later)]
    rows = {hash_id(one): row for row, one in enumerate(ids)}
    none = np.zeros(count, np.uint8)
    items = Items(
        position=1, time=1, count=count, ids=ids, rows=rows, status=none, listed=none == 1,
        listed_at=none.astype(np.int64),
    )  # fmt: skip
    items.tables[TABLE] = RowIndex().prepare(items)
    hashes = np.array([hash_id(f"i{n}") for n in asked], np.int64)
    expected = list(dict.fromkeys(n for n in asked if n < count))
    assert distinct_rows(hashes, items).tolist() == expected
    rows, places = first_visits(hashes, items)
    assert (rows.tolist(), places.tolist()) == (expected, [asked.index(row) for row in expected])
    assert distinct_rows(UserState(position=1).seen, items).tolist() == []
