from __future__ import annotations

from collections import Counter

import pytest

from penchant.core.errors import SettingsError
from penchant.experiments.assignment import Assignment
from penchant.settings import Arm, Experiment

TWO = Experiment(
    surface="home", arms={"model": Arm(share=0.3, surface="home_model"), "new": Arm(share=0.2, surface="n")}
)


def test_arms_get_their_shares_and_keep_their_users() -> None:
    assignment = Assignment({"ranker": TWO})
    users = [f"u{n}" for n in range(20_000)]
    first = [assignment.assign("home", user) for user in users]
    assert first == [Assignment({"ranker": TWO}).assign("home", user) for user in users]
    counts = Counter(arm["ranker"] for arm, _ in first)
    assert {name: round(count / len(users), 2) for name, count in counts.items()} == {
        "control": 0.5,
        "model": 0.3,
        "new": 0.2,
    }
    assert {(arm["ranker"], surface) for arm, surface in first} == {
        ("control", "home"),
        ("model", "home_model"),
        ("new", "n"),
    }


def test_experiments_do_not_know_of_each_other() -> None:
    other = Experiment(surface="similar", arms={"model": Arm(share=0.5, surface="s")})
    assignment = Assignment({"ranker": TWO, "look": other})
    both = Counter()
    for n in range(20_000):
        both[assignment.assign("home", f"u{n}")[0]["ranker"], assignment.assign("similar", f"u{n}")[0]["look"]] += 1
    assert both["model", "model"] / 20_000 == pytest.approx(0.15, abs=0.01)


def test_nobody_is_in_an_experiment_of_another_surface_or_without_a_name() -> None:
    assignment = Assignment({"ranker": TWO})
    assert assignment.assign("similar", "u1") == ({}, "similar")
    assert assignment.assign("home", "") == ({}, "home")


def test_growing_an_arm_moves_nobody_out_of_it() -> None:
    grown = Experiment(surface="home", arms={"model": Arm(share=0.6, surface="home_model")})
    small = Experiment(surface="home", arms={"model": Arm(share=0.3, surface="home_model")})
    for n in range(500):
        if Assignment({"x": small}).assign("home", f"u{n}")[0]["x"] == "model":
            assert Assignment({"x": grown}).assign("home", f"u{n}")[0]["x"] == "model"


def test_settings_that_cannot_be_are_refused() -> None:
    arms = {"a": Arm(share=0.7, surface="a"), "b": Arm(share=0.4, surface="b")}
    with pytest.raises(SettingsError, match=r"experiments\.x: .*add up to 1\.1"):
        Assignment({"x": Experiment(surface="home", arms=arms)})
    with pytest.raises(SettingsError, match="is in experiment 'x'"):
        Assignment({"x": TWO, "y": TWO})
