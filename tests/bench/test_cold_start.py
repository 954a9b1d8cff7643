"""What the bench of cold starts counts, on made cases; and that it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penchant.core.events import Interaction

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def beside_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_a_film_is_judged_from_its_arrival_to_its_horizon() -> None:
    from bench.cold_exposure import Plan, Run, figures

    shown = np.full((400, 2), 0, np.int32)
    shown[10:160, 1] = 1  # arrives before slate 5, is shown 150 times from the sixth slate on
    shown[300:, 1] = 2  # arrives too late to be judged
    chance = np.where(shown == 1, 0.25, 0.5)
    run = Run(shown, chance, np.array([-1, 5, 300, 5]), np.array([np.nan, 0.4, 0.9, 0.1]))
    told = figures(run, Plan(horizon=200))
    assert told["reach 20"].tolist() == told["reach 100"].tolist() == [1, 0]  # films 1 and 3, the better one first
    assert told["slates until 100"].tolist() == [105, np.inf]
    assert told["shows, best"].tolist() == [150]
    assert told["clicks, best"].tolist() == [0.25 * 150]
    assert told["clicks later, best"].tolist() == [0.25 * 55]  # slates 105 to 159
    assert told["shows, worst"].tolist() == told["clicks, worst"].tolist() == [0]
    assert told["new films a slate"].mean() == (150 + 100) / 400
    assert told["clicks a slate"].mean() == pytest.approx(chance.sum() / 400)
    assert len(told["clicks a slate"]) == 8


def test_picks_are_of_likes_that_are_no_answers() -> None:
    from bench.cold_people import AHEAD, LEAST, people_of, picks_of

    def visits(user: str, count: int) -> list[Interaction]:
        return [Interaction(user_id=user, item_id=f"i{at}", action="like") for at in range(count)]

    enough = 5 + AHEAD + LEAST
    events = [*visits("early", enough), *visits("u", enough), *visits("few", enough - 1)]
    (person,) = people_of(events, frozenset({"like"}), enough)
    assert person.user_id == "u"
    assert person.asked == {n: enough + n for n in (0, 1, 2, 5)}
    assert person.answers[2] == [f"i{at}" for at in range(2, 12)]
    assert person.later == [f"i{at}" for at in range(15, enough)]
    likes = [["drama", "war"], ["drama"], ["drama", "war"], ["news"]]
    shares = {"drama": 0.9, "war": 0.05, "news": 0.05}
    assert picks_of(likes, shares, telling=False) == ["drama", "war", "news"]
    assert picks_of(likes, shares, telling=True) == ["war", "news", "drama"]


@pytest.mark.slow
def test_it_runs_and_is_the_same_for_a_seed() -> None:
    command = [sys.executable, "-m", "bench.cold_start", "new", "--quick", "--seeds", "1", "--slots", "0", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2_000:]
        told.append({**json.loads(done.stdout), "seconds": 0})
    assert told[0] == told[1]
    assert told[0]["1"]["new films a slate"] > told[0]["0"]["new films a slate"]
