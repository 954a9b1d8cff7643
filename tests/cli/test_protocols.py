"""`penchant evaluate --protocol`: tables, JSON, and errors that name the option and what to give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from penchant.cli import app
from penchant.evaluation.protocols import RECIPES
from penchant.evaluation.recommenders import Ease


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"COLUMNS": "160"})


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{user} {item}\n" for user in range(40) for item in rng.permutation(30)[:9]))
    return path


def test_a_table_and_a_document(lines: Path) -> None:
    told = run("--protocol", "loo-full", "--data", lines, "--model", "ease")
    assert told.exit_code == 0, told.output
    for word in ("loo-full v1, test, 40 cases", "HR@10", "ease", "popularity", "itemknn", "coverage", " MB"):
        assert word in told.output
    told = run("--protocol", "loo-full", "--data", lines, "--validation", "--users", "20", "--seed", "3", "--json")
    document = json.loads(told.stdout)
    assert (document["part"], document["cases"], document["seed"]) == ("validation", 20, 3)
    assert [one["model"] for one in document["models"]] == ["popularity", "recent-popularity", "itemknn"]
    assert document["published"] == []


def test_parameters_are_set_by_name(lines: Path) -> None:
    def figures(*words: str) -> list[object]:
        told = run("--protocol", "loo-full", "--data", lines, "--json", *words)
        assert told.exit_code == 0, told.output
        return [row["figures"] for row in json.loads(told.stdout)["models"]]

    plain = figures("--model", "ease")
    assert figures("--model", "ease", "--set", "ease.reg=500.0") == plain
    assert figures("--model", "ease", "--set", "ease.reg=1", "--set", "ease.decay=0.1") != plain
    assert figures("--model", "session-knn", "--set", "session-knn.model.recent=2", "--set", "session-knn.length=1")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("ease", "is not MODEL.NAME=VALUE"),
        ("ease.rge=1", "did you mean 'reg'?"),
        ("ease.reg=much", "could not convert"),
        ("ease.reg.reg=1", "reg has no parts"),
        ("ials.dim=3", "add --model ials"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(lines: Path, given: str, told: str) -> None:
    answer = run("--protocol", "loo-full", "--data", lines, "--model", "ease", "--set", given)
    assert answer.exit_code != 0
    assert told in " ".join(answer.output.split())


def test_a_blend_tells_its_weights(lines: Path) -> None:
    words = ("--protocol", "loo-full", "--data", lines, "--model", "blend:ease+popularity")
    told = run(*words)
    assert told.exit_code == 0, told.output
    assert "blend:ease+popularity: " in told.output
    rows = json.loads(run(*words, "--json").stdout)["models"]
    assert set(rows[0]["weights"]) == {"ease", "popularity"}
    assert sum(rows[0]["weights"].values()) == pytest.approx(1)
    assert "weights" not in rows[1]
    for name, expected in (("blend:eese+ials", "eese"), ("blend:ease", "two different"), ("blend:ease+ease", "two")):
        told = run("--protocol", "loo-full", "--data", lines, "--model", name)
        assert told.exit_code == 1
        assert "--model" in told.output
        assert expected in told.output


def test_a_model_alone_and_in_a_blend_is_fitted_once(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    fit = Ease.fit
    monkeypatch.setattr(Ease, "fit", lambda self, log: (fits.append(len(log)), fit(self, log))[1])
    blend = ("--model", "blend:ease+popularity")
    told = run("--protocol", "loo-full", "--data", lines, *blend, "--model", "ease", "--json")
    assert told.exit_code == 0, told.output
    assert len(fits) == 1
    alone = run("--protocol", "loo-full", "--data", lines, "--model", "ease", "--json")
    of = {row["model"]: row["figures"] for row in json.loads(told.stdout)["models"]}
    assert of["ease"] == json.loads(alone.stdout)["models"][0]["figures"]


def test_all_protocols_read_their_files(lines: Path, tmp_path: Path) -> None:
    texts = {"train.txt": "0 1 2 3\n1 2 4\n", "test.txt": "0 4\n1 3\n", "period_0.txt": "1 1\n1 2\n2 1\n2 2\n"}
    texts |= {"period_1.txt": "1 1\n1 2\n", "period_2.txt": "1 2\n1 1\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    ratings = "".join(
        f"{user},{item},{4 + item % 2},{user + item}\n" for user in range(20) for item in range(user % 3, 8)
    )
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + ratings)
    paths = {"strong": lines} | dict.fromkeys(("split", "continual", "loo-full"), tmp_path)
    paths |= dict.fromkeys(("time-split", "time-split-successive"), tmp_path)
    for name, path in paths.items():
        told = run("--protocol", name, "--data", path, "--json")
        assert told.exit_code == 0, told.output
        models = [one["model"] for one in json.loads(told.stdout)["models"]]
        assert ("recent-popularity" in models) == (name != "split")
    told = run("--protocol", "continual", "--data", tmp_path, "--live")
    assert told.exit_code == 0, told.output
    assert "popularity (live)" in told.output
    assert "itemknn (live)" not in told.output
    assert set(paths) <= set(RECIPES)


def test_impressions_are_ordered_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "shown.csv"
    rows = [
        (u, int(i), 1_700_000_000 + 40_000 * (u % 5) + u, int(rng.random() < 0.4)) for u in range(60) for i in range(4)
    ]
    path.write_text("user_id,item_id,timestamp,is_click\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    told = run("--protocol", "per-impression", "--data", path, "--live")
    assert told.exit_code == 0, told.output
    for word in (
        "per-impression v1",
        "AUC",
        "NDCG@10 minus popularity",
        "click-rate (live)",
        "within an hour",
        "not judged",
    ):
        assert word in " ".join(told.output.split()), told.output
    told = run("--protocol", "per-impression", "--data", path, "--model", "click-rate", "--json")
    document = json.loads(told.stdout)
    assert document["models"][0]["model"] == "click-rate"
    assert document["models"][0]["coverage"] is None
    assert set(document["models"][0]["figures"]) == {"AUC", "MRR", "NDCG@5", "NDCG@10"}


def test_errors_name_the_option_and_the_fix(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, told in (
        (("--protocol", "loo-ful"), "--protocol: there is no 'loo-ful'; did you mean 'loo-full'?"),
        (("--protocol", "loo-full"), "--data: --protocol loo-full needs"),
        (
            ("--protocol", "loo-full", "--data", lines, "--model", "eease"),
            "--model: there is no 'eease'; did you mean 'ease'?",
        ),
        (("--protocol", "loo-full", "--data", tmp_path / "none"), "--data: there is no"),
        (("--protocol", "loo-full", "--data", tmp_path / "empty"), "without ratings.csv"),
        (("--protocol", "split", "--data", lines), "neither train.txt nor"),
        (("--protocol", "continual", "--data", lines), "--data: "),
        (("--protocol", "strong", "--data", lines, "--live"), "--live: strong asks"),
        (("--protocol", "time-split", "--data", lines), "has no times"),
        (("--protocol", "per-impression"), "--data: --protocol per-impression needs a file"),
        (("--protocol", "per-impression", "--data", tmp_path), "is a folder; give a .parquet"),
        (("--protocol", "per-impression", "--data", lines), "give a .parquet, .csv or .jsonl"),
        (("--protocol", "per-impression", "--data", lines, "--model", "ease"), "--model: per-impression has no 'ease'"),
    ):
        result = run(*words)
        assert result.exit_code == 1, words
        assert told in " ".join(result.output.split()), result.output
    result = run("--protocol", "prequential", "--data", lines)
    assert result.exit_code == 2
    assert "leave it out" in result.output
    result = run("--users", "5")
    assert result.exit_code == 2
    assert "--protocol" in result.output
