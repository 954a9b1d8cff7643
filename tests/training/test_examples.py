from __future__ import annotations

import numpy as np
import pytest

from penchant.core.errors import ContractError
from penchant.core.events import UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import LATE, Record
from penchant.training.examples import Examples, read_examples
from penchant.training.interactions import interactions_csr
from training.world import COLUMNS, HOUR, NAMES, SCHEMA, ListLog, click, clicking_log, impression, record, served


def _read(records: list[Record], **options: object) -> Examples:
    return read_examples(ListLog(records), SCHEMA, names=NAMES, attribution_ms=HOUR, **options)  # type: ignore[arg-type]


def _rows(count: int, start: float = 0.0) -> np.ndarray:
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3) + np.float32(start)


def test_rows_are_the_features_as_served_with_what_followed() -> None:
    rows = _rows(3)
    rows[1, 2] = np.nan
    found = _read(
        [
            record(1, 100, impression("u", ["a", "b", "c"], served(rows, simulated=True), "r")),
            record(2, 150, click("u", "b", "r")),
            record(3, 160, click("u", "b", "r", "like")),
            record(4, 170, click("u", "c")),
            record(5, 170, click("v", "a")),
            record(6, 170, click("u", "a", "another request")),
        ]
    )
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(found.X, rows)
    assert found.labels["click"].tolist() == [0, 1, 1]
    assert found.labels["like"].tolist() == [0, 1, 0]
    assert found.labels["view"].tolist() == [0, 0, 0]
    assert found.ranks.tolist() == [1, 2, 3]
    assert found.propensities.tolist() == [0.5] * 3
    assert found.weights.tolist() == [1.0] * 3
    assert found.groups.tolist() == [0, 3]
    assert (found.ts.tolist(), found.positions.tolist(), found.simulated.tolist()) == ([100], [1], [True])
    assert found.users.tolist() == [hash_id("u")]
    assert found.items.tolist() == [hash_id(item) for item in "abc"]
    assert (found.columns, found.names) == (COLUMNS, NAMES)


def test_the_window_is_closed_at_its_end_and_an_earlier_click_is_no_answer() -> None:
    found = _read(
        [
            record(1, 50, click("u", "a")),
            record(2, 100, impression("u", ["a", "b", "c"], served(_rows(3)))),
            record(3, 100 + HOUR, click("u", "b")),
            record(4, 101 + HOUR, click("u", "c")),
        ]
    )
    assert found.labels["click"].tolist() == [0, 1, 0]


def test_a_click_goes_to_the_newest_slate_also_to_one_without_features() -> None:
    found = _read(
        [
            record(1, 100, impression("u", ["a"], served(_rows(1)))),
            record(2, 200, impression("u", ["a"])),
            record(3, 300, click("u", "a")),
            record(4, 400, impression("u", ["b"], served(_rows(1)))),
            record(5, 500, impression("u", ["b"], served(_rows(1)))),
            record(6, 600, click("u", "b")),
        ]
    )
    assert found.labels["click"].tolist() == [0, 0, 1]
    assert found.left_out == {"no features": 1}


def test_requests_come_oldest_first_whatever_the_order_of_the_log() -> None:
    found = _read(
        [
            record(1, 300, impression("u", ["a", "b"], served(_rows(2)))),
            record(2, 100, impression("v", ["c"], served(_rows(1, 50)))),
        ]
    )
    assert found.ts.tolist() == [100, 300]
    assert found.groups.tolist() == [0, 1, 3]
    assert found.X[0, 0] == 50
    chosen = found.where(np.array([False, True]))
    assert (chosen.ts.tolist(), chosen.groups.tolist(), chosen.X[:, 0].tolist()) == ([300], [0, 2], [0.0, 3.0])
    older, newer = found.split(0.5)
    assert (older.ts.tolist(), newer.ts.tolist(), newer.groups.tolist()) == ([100], [300], [0, 2])


def test_only_rows_of_one_kind_of_columns() -> None:
    records = [
        record(1, 100, impression("u", ["a"], served(_rows(1, 1), "old"))),
        record(2, 200, impression("u", ["a"], served(_rows(1, 2), "new"))),
        record(3, 300, impression("u", ["a"], served(_rows(0)))),
    ]
    found = _read(records)
    assert (found.columns, found.X[:, 0].tolist()) == ("new", [2.0])
    assert found.left_out == {"other columns": 1, "no features": 1}
    assert _read(records, columns="old").X[:, 0].tolist() == [1.0]
    assert _read(records, end=1).X[:, 0].tolist() == [1.0]
    with pytest.raises(ContractError, match="feature values"):
        read_examples(ListLog(records), SCHEMA, names=("a", "b"), attribution_ms=HOUR)


def test_who_was_erased_is_absent_and_may_come_back() -> None:
    found = _read(
        [
            record(1, 100, impression("u", ["a"], served(_rows(1)))),
            record(2, 100, impression("v", ["a"], served(_rows(1)))),
            record(3, 110, UserErased(user_id="u")),
            record(4, 120, impression("u", ["b"], served(_rows(1)))),
            record(5, 130, impression("", ["b"], served(_rows(1)))),
        ]
    )
    assert found.positions.tolist() == [2, 4]
    assert found.left_out == {"no user": 1, "erased": 1}


def test_late_records_do_not_count() -> None:
    found = _read(
        [
            record(1, 100, impression("u", ["a"], served(_rows(1)))),
            record(2, 100, impression("v", ["a"], served(_rows(1))), LATE),
            record(3, 110, click("u", "a"), LATE),
        ]
    )
    assert (len(found), found.labels["click"].sum(), found.left_out) == (1, 0, {"late": 1})


def test_nothing_to_learn_from_is_not_an_error() -> None:
    found = _read([])
    assert (len(found), found.requests, found.X.shape) == (0, 0, (0, 3))
    assert found.split(0.2)[1].requests == 0


def test_a_bounded_reading_draws_whole_requests_and_says_with_what_weight() -> None:
    log = clicking_log(400)
    everything = read_examples(log, SCHEMA, names=NAMES, attribution_ms=HOUR)
    drawn = read_examples(log, SCHEMA, names=NAMES, attribution_ms=HOUR, max_rows=1_000)
    assert len(drawn) <= 1_000
    assert np.diff(drawn.groups).tolist() == [8] * drawn.requests
    assert drawn.weights.sum() == pytest.approx(len(everything), rel=0.2)
    assert drawn.left_out["sampled out"] + drawn.requests == everything.requests
    kept = np.isin(everything.positions, drawn.positions)
    rows = np.repeat(kept, 8)
    np.testing.assert_array_equal(drawn.X, everything.X[rows])
    np.testing.assert_array_equal(drawn.labels["click"], everything.labels["click"][rows])
    again = read_examples(log, SCHEMA, names=NAMES, attribution_ms=HOUR, max_rows=1_000)
    np.testing.assert_array_equal(again.positions, drawn.positions)


def test_interactions_are_positive_accepted_and_of_people_who_are_there() -> None:
    records = [
        record(1, 1, click("u", "a")),
        record(2, 2, click("u", "a", action="like")),
        record(3, 3, click("u", "b", action="hide")),
        record(4, 4, click("u", "c", action="view")),
        record(5, 5, click("v", "b")),
        record(6, 6, click("v", "a"), LATE),
        record(7, 7, click("w", "a")),
        record(8, 8, UserErased(user_id="w")),
        record(9, 9, click("w", "d")),
        record(10, 10, click("", "a")),
    ]
    found = interactions_csr(ListLog(records), SCHEMA)
    pairs = {
        (int(found.users[row]), int(found.items[column])) for row, column in zip(*found.matrix.nonzero(), strict=True)
    }
    assert pairs == {(hash_id(user), hash_id(item)) for user, item in ("ua", "vb", "wd")}
    assert found.matrix.dtype == np.float32
    assert set(found.matrix.data.tolist()) == {1.0}
    assert interactions_csr(ListLog(records), SCHEMA, end=1).items.tolist() == [hash_id("a")]
    assert interactions_csr(ListLog([]), SCHEMA).matrix.shape == (0, 0)


def test_interactions_come_oldest_first_also_where_late_ones_do_not() -> None:
    records = [record(1, 5, click("u", "a")), record(2, 3, click("v", "b")), record(3, 5, click("u", "b"))]
    found = interactions_csr(ListLog(records), SCHEMA)
    names = {hash_id(name): name for name in "abuv"}
    told = [names[int(found.users[row])] + names[int(found.items[column])]
            for row, column in zip(found.rows, found.columns, strict=True)]  # fmt: skip
    assert told == ["vb", "ua", "ub"]
    assert found.ts.tolist() == [3, 5, 5]


def test_the_most_popular_items_stay() -> None:
    records = [record(n + 1, n, click(f"u{n}", "abacabad"[n])) for n in range(8)]
    found = interactions_csr(ListLog(records), SCHEMA, max_items=2)
    assert set(found.items.tolist()) == {hash_id("a"), hash_id("b")}
    assert found.items.tolist() == sorted(found.items.tolist())
    assert found.matrix.sum() == 6
    assert len(found.rows) == len(found.columns) == len(found.ts) == 6
    assert set(found.columns.tolist()) == {0, 1}
