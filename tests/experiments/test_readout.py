from __future__ import annotations

import numpy as np
import pytest

from penchant.core.events import UserErased
from penchant.core.log import Record
from penchant.experiments.intervals import newcombe, wilson
from penchant.experiments.readout import read_out
from training.world import HOUR, ListLog, click, impression, record, served

CLICK = frozenset({"click"})
NONE = np.empty((0, 3), np.float32)


def test_intervals_of_the_papers() -> None:
    # Newcombe 1998, table II, method 10: (a) 56/70 - 48/80, (c) 9/10 - 3/10, (e) 5/56 - 0/29.
    for counts, expected in {
        (56, 70, 48, 80): (0.0524, 0.3339),
        (9, 10, 3, 10): (0.1705, 0.8090),
        (5, 56, 0, 29): (-0.0381, 0.1926),
    }.items():
        found = newcombe(*counts)
        assert (found.low, found.high) == pytest.approx(expected, abs=5e-5)
    assert wilson(0, 10).low == pytest.approx(0.0)
    assert wilson(10, 10).high == pytest.approx(1.0)
    assert wilson(0, 0)[1:] == (0.0, 1.0)
    assert newcombe(0, 0, 1, 2)[1:] == (-1.0, 1.0)


def _log(rates: dict[str, float], users: int, slates: int) -> ListLog:
    rng = np.random.default_rng(0)
    records: list[Record] = []
    for arm, rate in rates.items():
        for user in range(users):
            for slate in range(slates):
                name, request, ts = f"{arm}{user}", f"{arm}{user}-{slate}", slate * 10
                records.append(
                    record(len(records) + 1, ts, impression(name, ["a", "b"], served(NONE, arm=arm), request))
                )
                if rng.random() < rate:
                    records.append(record(len(records) + 1, ts + 1, click(name, "b", request)))
                    records.append(record(len(records) + 1, ts + 2, click(name, "a", request)))
    return ListLog(records)


def test_arms_are_compared_with_control() -> None:
    found = read_out(_log({"control": 0.2, "model": 0.4}, 200, 2), "ranker", CLICK, attribution_ms=HOUR)
    control, model = found.arms["control"], found.arms["model"]
    assert (control.users, control.slates, control.lift) == (200, 400, None)
    assert model.rate.low < 0.4 < model.rate.high
    assert model.lift is not None
    assert 0 < model.lift.low < 0.2 < model.lift.high
    assert model.answered == round(model.rate.estimate * 400)


def test_slates_of_one_user_are_not_independent() -> None:
    """Half of the users answer always, the others never: ten slates each tell no more than one."""
    records: list[Record] = []
    for user in range(100):
        for slate in range(10):
            request = f"{user}-{slate}"
            shown = impression(f"u{user}", ["a"], served(NONE, arm="control"), request)
            records.append(record(len(records) + 1, slate, shown))
            if user % 2:
                records.append(record(len(records) + 1, slate, click(f"u{user}", "a", request)))
    rate = read_out(ListLog(records), "ranker", CLICK, attribution_ms=HOUR).arms["control"].rate
    assert rate.high - rate.low == pytest.approx(wilson(50, 100).high - wilson(50, 100).low, rel=0.02)


def test_what_does_not_count() -> None:
    log = ListLog(
        [
            record(1, 1, impression("u", ["a"], served(NONE, arm="control"), "r1")),
            record(2, 1, impression("v", ["a"], served(NONE, arm="control", simulated=True), "r2")),
            record(3, 1, impression("w", ["a"], served(NONE, arm="control"), "r3")),
            record(4, 1, impression("x", ["a"], served(NONE), "r4")),
            record(5, 2, click("u", "a", "r1", "like")),
            record(6, 2 + HOUR, click("u", "a", "r1")),
            record(7, 3, UserErased(user_id="w")),
        ]
    )
    control = read_out(log, "ranker", CLICK, attribution_ms=HOUR).arms["control"]
    assert (control.users, control.slates, control.answered) == (1, 1, 0)
    assert read_out(log, "other", CLICK, attribution_ms=HOUR).arms == {}
    assert read_out(ListLog([]), "ranker", CLICK, attribution_ms=HOUR).arms == {}
