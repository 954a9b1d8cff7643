"""What was shown, ordered inside each impression, beside a plain computation one impression at a time."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets import dataset
from penchant.evaluation.datasets import Unsuited
from penchant.evaluation.impressions import ORDERERS, Impressions, Rows, judge_impressions, read_impressions
from penchant.evaluation.impressions.models import Counters
from penchant.evaluation.protocols import Options
from penchant.testing.oracles import metrics as oracle

DAY, HOUR = 86_400_000, 3_600_000


@dataclass
class Noted:
    """Remembers what it was given; scores have ties."""

    name: str = "noted"
    past: list[Rows] = field(default_factory=list)
    asked: list[Rows] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    learned: int = 0

    def fit(self, past: Rows) -> None:
        self.past.append(past)
        self.learned = 0

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        assert not rows.clicked.any()
        self.asked.append(rows)
        self.told.append(self.learned)
        return (rows.items % 3).astype(np.float32)


class Learning(Noted):
    def learn(self, rows: Rows) -> None:
        self.learned += len(rows)


def made(seed: int) -> Impressions:
    rng = np.random.default_rng(seed)
    n = 900
    users = rng.integers(0, 12, n).astype(np.int32)
    times = rng.integers(0, 4 * DAY, n) // 1_000 * 1_000
    rows = Rows(users, rng.integers(0, 20, n).astype(np.int32), times, rng.random(n) < 0.3, 12, 20)
    return Impressions.of("made", rows, users * 1_000 + times // (6 * HOUR), "six hours")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("part", ["test", "validation"])
def test_the_last_day_is_ordered_by_what_came_before(part: str, live: bool) -> None:
    data = made(1)
    model = Learning() if live else Noted()
    report = judge_impressions(data, [model], Options(part=part, live=live))
    times = data.rows.times
    end = int(times.max()) - (DAY if part == "validation" else 0)
    begin = end - DAY
    assert sorted(model.past[0].times.tolist()) == sorted(times[times <= begin].tolist())
    expected: dict[str, list[float]] = {"AUC": [], "MRR": [], "NDCG@5": [], "NDCG@10": []}
    told = []
    for at in range(len(data)):
        rows = data.rows.take(slice(int(data.offsets[at]), int(data.offsets[at + 1])))
        assert len(set(rows.users.tolist())) == 1
        if not begin < rows.times[0] <= end or rows.clicked.all() or not rows.clicked.any():
            continue
        scores, gains = (rows.items % 3).tolist(), rows.clicked.astype(float).tolist()
        order = oracle.slow_order(scores, gains)
        expected["AUC"].append(oracle.slow_auc(scores, gains))
        expected["MRR"].append(oracle.slow_mean_reciprocal(order, int(sum(gains))))
        for k in (5, 10):
            expected[f"NDCG@{k}"].append(oracle.slow_ndcg(order, order, k))
        told.append(int(((times > begin) & (times < rows.times[0])).sum()) if live else 0)
    assert report.cases == len(told) > 20
    assert model.told == told  # never what happened at the time of the impression, or after it
    assert report.rows[0].figures == pytest.approx({name: np.mean(one) for name, one in expected.items()}, abs=1e-9)
    assert report.rows[0].live == live


def test_counters_fade_as_a_sum_over_rows_does() -> None:
    rng = np.random.default_rng(4)
    n, half = 400, 6 * HOUR
    rows = Rows(
        np.zeros(n, np.int32), rng.integers(0, 8, n).astype(np.int32), np.sort(rng.integers(0, 2 * DAY, n)),
        rng.random(n) < 0.4, 1, 8,
    )  # fmt: skip
    far = Rows(rows.users, rows.items, rows.times + 400 * half, rows.clicked, 1, 8)
    for rate in (False, True):
        model = Counters("made", rate=rate, half_life_ms=half, prior=3.0)
        model.fit(rows.take(slice(0, 150)))
        for at in range(150, n, 50):
            model.learn(rows.take(slice(at, at + 50)))
        for now, seen in ((rows, rows), (far, far)):
            if now is far:
                model.learn(far)
            last = now.times.max()
            weights = 0.5 ** ((last - seen.times) / half)
            shown = np.bincount(seen.items, weights, 8)
            clicks = np.bincount(seen.items, weights * seen.clicked, 8)
            mean = clicks.sum() / shown.sum()
            expected = (clicks + 3 * mean) / (shown + 3) if rate else clicks
            np.testing.assert_allclose(model.scores(now), expected[now.items], rtol=1e-5)


def test_tables_by_impression_or_by_the_hour(tmp_path: Path) -> None:
    path = tmp_path / "shown.csv"
    path.write_text(
        "user_id,video_id,time_ms,is_click,tab\n"
        "7,a,1700002800000,1,0\n7,b,1700002800500,0,0\n7,c,1700002800500,0,1\n7,d,1700006400000,0,0\n8,a,1700002800001,0,0\n"
    )
    data = read_impressions(path)
    assert [data.rows.items[a:b].tolist() for a, b in zip(data.offsets, data.offsets[1:], strict=False)] == [
        [0, 1], [0], [2], [3]
    ]  # fmt: skip
    assert data.rows.clicked.tolist() == [True, False, False, False, False]
    assert "hour" in data.by
    assert "tab" in data.by
    path.write_text(
        "user,item,time,clicked,impression\n"
        "1,5,2024-01-01 10:00:00,0,x\n1,6,2024-01-01 12:00:00,1,x\n2,5,2024-01-01 10:00:00,0,x\n"
    )
    data = read_impressions(path)
    assert np.diff(data.offsets).tolist() == [2, 1]
    assert data.rows.times[0] == 1_704_103_200_000
    path.write_text("user,item,time\n1,2,3\n")
    with pytest.raises(Unsuited, match=r"no column clicked .*it has user, item, time"):
        read_impressions(path)
    path.write_text("user,item,time,clicked\n1,2,1700000000,1\n1,,1700000000,0\n")
    with pytest.raises(Unsuited, match="item is empty"):
        read_impressions(path)


def test_events_are_answered_by_request_or_by_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    shown = [{"item_id": "a"}, {"item_id": "b"}]
    events = [
        {"type": "item", "item_id": "a", "attributes": {}},
        {"type": "impression", "user_id": "u", "items": shown, "ts": 1_700_000_000_000, "request_id": "r1"},
        {"type": "impression", "user_id": "u", "items": shown, "ts": 1_700_000_060_000, "request_id": "r2"},
        {"type": "interaction", "user_id": "u", "item_id": "b", "action": "click", "ts": 1_700_000_070_000,
         "request_id": "r1"},
        {"type": "interaction", "user_id": "u", "item_id": "a", "action": "click", "ts": 1_700_000_070_000},
        {"type": "interaction", "user_id": "u", "item_id": "c", "action": "click", "ts": 1_700_000_070_000},
        {"type": "interaction", "user_id": "v", "item_id": "a", "action": "click", "ts": 1_700_000_070_000},
    ]  # fmt: skip
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, events)).encode()))
    data = read_impressions(path)
    assert data.rows.clicked.tolist() == [False, True, True, False]
    assert data.rows.items.tolist() == [0, 1, 0, 1]
    assert np.diff(data.offsets).tolist() == [2, 2]
    path.write_bytes(b'{"type": "impression", "user_id": "u"}\n')
    with pytest.raises(Unsuited, match="line 1"):
        read_impressions(path)
    path.write_bytes(b'{"type": "item"}\n')
    with pytest.raises(Unsuited, match="no impressions"):
        read_impressions(path)


def test_what_cannot_be_judged_is_said() -> None:
    rows = Rows(np.zeros(3, np.int32), np.arange(3, dtype=np.int32), np.arange(3), np.array([True, False, False]), 1, 3)
    with pytest.raises(Unsuited, match="longer log"):
        judge_impressions(Impressions.of("made", rows, np.zeros(3, np.int64), "all"), [Noted()])
    later = Rows(rows.users, rows.items, np.array([0, 3 * DAY, 3 * DAY]), rows.clicked, 1, 3)
    with pytest.raises(Unsuited, match="no impression"):
        judge_impressions(Impressions.of("made", later, np.arange(3), "one"), [Noted()])


def test_click_rates_order_better_than_chance_on_kuairand() -> None:
    data = read_impressions(dataset("kuairand-pure/exposures_apr25_apr30.parquet"))
    report = judge_impressions(data, [make(7) for make in ORDERERS.values()])
    figures = {row.name: row.figures["AUC"] for row in report.rows}
    assert report.cases == 875
    assert figures["click-rate"] > 0.55
    assert abs(figures["chance"] - 0.5) < 0.05
