"""`penchant evaluate --protocol freshness` and `--plot`: tables, documents, files, and errors that say what to give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from penchant.cli import app


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"COLUMNS": "200"})


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    taken = [(user, item) for user in range(12) for item in rng.permutation(40)[:25]]
    times = np.sort(rng.integers(0, 40 * 86_400, len(taken)))
    rows = [f"{user},{item},4,{time}" for (user, item), time in zip(rng.permutation(taken), times, strict=True)]
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{rng.integers(12)} {rng.integers(40)}\n" for _ in range(300)))
    return path


def test_a_curve_by_time(ratings: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib, of the extra plots")
    asked = ("--protocol", "freshness", "--data", ratings, "--every", "0s,1h,1d", "--cases", "20")
    told = run(*asked, "--plot", tmp_path / "curve.html")
    assert told.exit_code == 0, told.output
    for word in ("user state", "everything", "minus fresh, 95 %", "20 asked for", "every 1d"):
        assert word in told.output
    assert "<svg" in (tmp_path / "curve.html").read_text()
    told = run(*asked, "--model", "itemknn", "--refit", "1h", "--json", "--seed", "3")
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert (document["cases"], document["seed"], document["models_every"], document["unit"]) == (20, 3, "1h", "time")
    every = [one["every"] for one in document["points"] if one["component"] == "models"]
    assert every == ["1h", "1d"]


def test_a_curve_by_events(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "periods").mkdir()
    texts = {f"period_{n}.txt": "".join(f"{at // 3} {(at * 7 + n) % 11}\n" for at in range(60)) for n in range(3)}
    for name, text in texts.items():
        (tmp_path / "periods" / name).write_text(text)
    for data, k in ((lines, 10), (tmp_path / "periods", 20)):
        told = run("--protocol", "freshness", "--data", data, "--every", "0,5,never", "--refit", "5", "--json")
        assert told.exit_code == 0, told.output
        document = json.loads(told.stdout)
        assert (document["unit"], document["k"], document["filter_seen"]) == ("events", k, k == 10)


def test_the_report_of_a_protocol_as_a_plot(lines: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib, of the extra plots")
    told = run("--protocol", "loo-full", "--data", lines, "--plot", tmp_path / "out.png", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["protocol"] == "loo-full"
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_errors_name_the_option_and_the_fix(lines: Path, ratings: Path, tmp_path: Path) -> None:
    asked = ("--protocol", "freshness")
    for words, told in (
        (asked, "--data: --protocol freshness needs a file"),
        ((*asked, "--data", tmp_path / "none"), "--data: there is no"),
        ((*asked, "--data", lines, "--every", "0s,1m"), "no times; give numbers of events: --every 0,100,1k,10k,never"),
        ((*asked, "--data", ratings, "--every", "0s,1x"), "--every: '1x' is no interval"),
        ((*asked, "--data", ratings, "--refit", "10k"), "--refit: give one interval above 0"),
        ((*asked, "--data", ratings, "--refit", "0s"), "--refit: give one interval above 0"),
        ((*asked, "--data", ratings, "--model", "eease"), "--model: there is no 'eease'; did you mean 'ease'?"),
        ((*asked, "--data", ratings, "--model", "ease", "--model", "ials"), "--model: --protocol freshness renews one"),
        ((*asked, "--data", ratings, "--plot", tmp_path / "out.pdf"), "--plot: out.pdf ends in none of"),
        (("--protocol", "freshnes"), "did you mean 'freshness'?"),
    ):
        result = run(*words)
        assert result.exit_code == 1, (words, result.output)
        assert told in " ".join(result.output.split()), result.output
    for words in (
        (*asked, "--live"),
        ("--protocol", "loo-full", "--data", lines, "--every", "1m"),
        ("--plot", tmp_path / "out.png"),
        ("--cases", "5"),
    ):
        assert run(*words).exit_code == 2, words
