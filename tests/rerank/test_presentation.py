from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant.core.candidates import Reason
from penchant.core.query import Query
from penchant.core.schema import Action, Attribute, Schema
from penchant.rerank.presentation import Closest, Presenter, Wording, text
from penchant.testing.strategies import make_items, make_query

SCHEMA = Schema(
    actions={"watch": Action("watch", 0)},
    item={"title": Attribute("title", "text"), "genres": Attribute("genres", "tags")},
)
ITEMS = make_items(
    5,
    tags={"genres": [["crime"], ["war", "drama"], ["crime", "war"], ["news"], ["war", "drama"]]},
    texts={"title": ["Heat", "Platoon", "Ronin", None, "Glory"]},
)
SOURCES = ["ease", "trending", "popular_near", "fresh", "covisit", "own"]
EASE, TRENDING, NEAR, FRESH, COVISIT, OWN = (1 << bit for bit in range(6))


def reasons(query: Query, rows: list[int], bits: list[int], explored: list[bool] | None = None, **options):  # type: ignore[no-untyped-def]
    presenter = Presenter(SCHEMA, sources=SOURCES, **options)
    return presenter.reasons(
        query, np.array(rows, np.int32), np.array(bits, np.uint32), np.array(explored or [False] * len(rows))
    )


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (EASE, Reason("because", 1)),
        (TRENDING | EASE, Reason("because", 1)),
        (TRENDING, Reason("popular")),
        (TRENDING | NEAR, Reason("popular_near")),
        (TRENDING | FRESH, Reason("new")),
        (OWN, Reason("ranked")),
        (0, Reason("ranked")),
    ],
)
def test_the_most_personal_reason_is_told(bits: int, expected: Reason) -> None:
    assert reasons(make_query(ITEMS, history=[0, 1], segment=7), [4], [bits]) == [expected]


def test_chance_is_told_before_all() -> None:
    assert reasons(make_query(ITEMS, history=[1]), [4, 2], [EASE, EASE], [True, False]) == [
        Reason("explore"),
        Reason("because", 1),
    ]


def test_an_item_about_an_item_is_similar_to_it() -> None:
    query = make_query(ITEMS, history=[1], seed_row=0)
    assert reasons(query, [2, 4], [EASE, TRENDING]) == [Reason("similar", 0), Reason("popular")]


def test_nobody_is_near_without_a_segment() -> None:
    assert reasons(make_query(ITEMS), [0], [NEAR]) == [Reason("popular")]


def test_nothing_is_because_of_an_item_that_shares_nothing() -> None:
    assert reasons(make_query(ITEMS, history=[3]), [4, 4], [EASE, EASE | TRENDING]) == [
        Reason("ranked"),
        Reason("popular"),
    ]


def test_the_source_says_what_contributed() -> None:
    def contributor(query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.where(rows == 4, 3, -1).astype(np.int32)

    query = make_query(ITEMS, history=[3, 0])
    found = reasons(query, [4, 2, 2], [EASE, EASE, EASE | COVISIT], contributors={"ease": contributor})
    assert found == [Reason("because", 3), Reason("ranked"), Reason("because", 0)]


def test_own_sources_have_own_kinds() -> None:
    assert reasons(make_query(ITEMS), [0], [OWN | TRENDING], kinds={"own": "editorial"}) == [Reason("editorial")]
    assert reasons(make_query(ITEMS, history=[2]), [0], [OWN], kinds={"own": "because"}) == [Reason("because", 2)]


def test_the_closest_of_equals_is_the_newest() -> None:
    rows = np.array([2, 4, 3], np.int32)
    assert Closest(SCHEMA)(make_query(ITEMS, history=[0, 1, 4]), rows).tolist() == [0, 1, -1]
    assert Closest(SCHEMA)(make_query(ITEMS), rows).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (Reason("because", 0), "Because you watched Heat"),
        (Reason("similar", 3), "Similar to i3"),
        (Reason("popular"), "Popular right now"),
        (Reason("popular_near"), "Popular near you"),
        (Reason("new"), "New"),
        (Reason("explore"), "Something different"),
        (Reason("ranked"), "Picked for you"),
    ],
)
def test_text(reason: Reason, line: str) -> None:
    assert Wording(SCHEMA).text(reason, ITEMS) == line


def test_text_without_titles_names_the_id() -> None:
    assert Wording(Schema(actions={})).text(Reason("because", 0), ITEMS) == "Because you liked i0"
    assert text(Reason("because", 0), ITEMS, "absent") == "Because you liked i0"
