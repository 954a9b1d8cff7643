"""Every verb: its help, its exit codes, its JSON, on one small trained folder."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import penchant
from cli import made
from penchant.assembly import open_folder
from penchant.cli import app
from penchant.serving import wire
from penchant.training.fusion import LEAST, Evidence

run = CliRunner()
VERBS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
CONTRACT = {"init", "import", "up", "collect", "stream", "serve", "train"} | {
    "evaluate",
    "replay",
    "recommend",
    "explain",
    "demo",
    "doctor",
}


def told(*arguments: object, code: int = 0) -> Any:
    """What a verb prints with --json: one document, whatever goes to standard error."""
    result = run.invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with history and ten recorded slates; not to be changed."""
    folder = made.folder(tmp_path_factory.mktemp("served"))
    source = made.jsonl(folder / "events.jsonl", made.events(n=1_500))
    assert run.invoke(app, ["import", str(source), "--dir", str(folder)]).exit_code == 0
    with open_folder(folder, background=False) as engine:
        for at in range(10):
            engine.recommend(wire.Request(user_id=f"u{at}", n=5), f"r{at}")
        engine.settle()
    return folder


@pytest.fixture
def mine(served: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(served, tmp_path / "mine"))


def test_all_verbs_of_the_contract_are_there() -> None:
    assert set(VERBS) >= CONTRACT


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str) -> None:
    result = run.invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert any(line.startswith(f"penchant {verb}") for line in lines), result.stdout


def test_version_and_nothing() -> None:
    assert run.invoke(app, ["--version"]).stdout.strip() == f"penchant {penchant.__version__}"
    assert run.invoke(app, []).exit_code in (0, 2)
    assert run.invoke(app, ["--help"]).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["recommend"],
        ["recommend", "u1", "-n", "0"],
        ["recommend", "u1", "--surfce", "home"],
        ["evaluate", "--share", "2"],
        ["evaluate", "--ranker", "--rankings"],
        ["train", "--objective", "magic"],
        ["up", "--clock", "sundial"],
        ["up", "--workers", "0"],
        ["explain"],
        ["init"],
    ],
)
def test_usage_mistakes_exit_with_2(arguments: list[str], served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served)
    result = run.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert not result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["recommend", "u1"], ["train"], ["evaluate"], ["replay"], ["explain", "r"], ["doctor"], ["up"], ["stream"]],
)
def test_without_a_folder_it_says_how_to_make_one(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run.invoke(app, arguments)
    assert result.exit_code == 1
    assert "penchant init" in result.stderr
    assert not result.stdout


def test_init_writes_once(tmp_path: Path) -> None:
    assert told("init", tmp_path / "new", "--preset", "news")["preset"] == "news"
    text = (tmp_path / "new" / "penchant.toml").read_text()
    again = run.invoke(app, ["init", str(tmp_path / "new")])
    assert (again.exit_code, (tmp_path / "new" / "penchant.toml").read_text()) == (1, text)
    assert "exists already" in again.stderr
    unknown = run.invoke(app, ["init", str(tmp_path / "other"), "--preset", "nws"])
    assert unknown.exit_code == 1
    assert "news" in unknown.stderr


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("window", "windw", "did you mean 'window'?"),
        ("[training]", "[trainin]", "did you mean 'training'?"),
        ('of = "click"', 'of = "clik"', "did you mean 'click'?"),
    ],
)
def test_unknown_settings_name_the_nearest(tmp_path: Path, was: str, now: str, says: str) -> None:
    folder = made.folder(tmp_path, made.SETTINGS.replace(was, now, 1))

    result = run.invoke(app, ["recommend", "u1", "--dir", str(folder)])
    assert result.exit_code == 1
    assert says in result.stderr


def test_recommend(served: Path) -> None:
    slate = told("recommend", "u1", "-n", 5, "--dir", served)
    assert [shown["rank"] for shown in slate["items"]] == [1, 2, 3, 4, 5]
    assert slate["trace"] is None
    explained = told("recommend", "u1", "-n", 5, "--explain", "--dir", served)
    assert explained["trace"]["stages"]
    assert [shown["item_id"] for shown in explained["items"]] == [shown["item_id"] for shown in slate["items"]]
    plain = run.invoke(app, ["recommend", "nobody", "-n", "5", "--explain", "--dir", str(served)])
    assert plain.exit_code == 0
    assert "Film" in plain.stdout
    similar = told("recommend", "u1", "--surface", "similar", "--item", "i1", "-n", 3, "--dir", served)
    assert "i1" not in [shown["item_id"] for shown in similar["items"]]
    wrong = run.invoke(app, ["recommend", "u1", "--surface", "hom", "--dir", str(served)])
    assert wrong.exit_code == 1
    assert "home" in wrong.stderr
    assert "Traceback" not in wrong.output


@pytest.mark.parametrize("verb", [["train"], ["evaluate"], ["recommend", "u1"]])
def test_unknown_surfaces_name_the_nearest(verb: list[str], served: Path) -> None:
    result = run.invoke(app, [*verb, "--surface", "trendin", "--dir", str(served)])
    assert result.exit_code == 1
    assert "did you mean 'trending'?" in result.stderr


def test_explain_and_replay(served: Path) -> None:
    one = told("explain", "r3", "--dir", served)
    assert (one["equal"], one["differences"], one["user_id"], len(one["items"])) == (True, [], "u3", 5)
    assert run.invoke(app, ["explain", "r3", "--features", "--dir", str(served)]).exit_code == 0
    all_of_them = told("replay", "--dir", served)
    assert (all_of_them["derived"], all_of_them["equal"], all_of_them["differ"]) == (10, 10, [])
    unknown = run.invoke(app, ["explain", "nothing", "--dir", str(served)])
    assert unknown.exit_code == 1
    assert "no impression" in unknown.stderr


def test_evaluate(served: Path) -> None:
    report = told("evaluate", "--requests", 40, "--dir", served)
    assert next(variant["name"] for variant in report["variants"]) == "live"
    assert len(report["variants"]) == 3
    assert run.invoke(app, ["evaluate", "--requests", "10", "--dir", str(served)]).exit_code == 0
    ranked = told("evaluate", "--requests", 10, "--ranker", "--objective", "lambdarank", "--dir", served)
    assert "ranker (lambdarank)" in ranked["model"]


def test_train_publishes_what_the_next_slate_uses(mine: Path) -> None:
    dry = told("train", "--simulate", 200, "--dry-run", "--dir", mine)
    assert not dry["published"]
    assert told("recommend", "u1", "--dir", mine)["artifact"] in (None, "")
    forced = told("train", "--simulate", 200, "--force", "--dir", mine)
    assert forced["published"]
    assert forced["artifact"] in told("recommend", "u1", "--dir", mine)["artifact"]
    assert told("explain", "r3", "--dir", mine)["equal"]
    checks = {check["name"]: check for check in told("doctor", "--dir", mine)["checks"]}
    assert checks["artifact"]["status"] == "ok"
    assert "verifies" in checks["artifact"]["message"]


def test_train_names_the_sources_that_gain_nothing(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = {"covisit": 1.98, "ease": LEAST, "content": 1.0, "fresh": LEAST}
    monkeypatch.setattr(Evidence, "weights", lambda _: learned)
    said = run.invoke(app, ["train", "--simulate", "100", "--dry-run", "--dir", str(mine)]).stdout
    assert "covisit 1.98, ease 0.01, content 1.00, fresh 0.01: how much" in said
    assert "ease, fresh gain nothing here: unless a ranker reads them, [surfaces.home] does as well without" in said


# doctor


def checks(folder: Path, code: int = 0) -> dict[str, dict[str, str]]:
    before = _picture(folder)
    report = told("doctor", "--dir", folder, code=code)
    assert _picture(folder) == before, "it changed something"
    assert report["passed"] is (code == 0)
    assert run.invoke(app, ["doctor", "--dir", str(folder)]).exit_code == code
    return {check["name"]: check for check in report["checks"]}


def _picture(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_sound_folder(served: Path) -> None:
    found = checks(served)
    assert {check["status"] for check in found.values()} == {"ok"}
    assert {"settings", "features", "surfaces", "log", "state", "artifact", "disk", "clock", "keys", "server"} <= set(
        found
    )


def test_a_new_folder(tmp_path: Path) -> None:
    assert {check["status"] for check in checks(made.folder(tmp_path)).values()} == {"ok"}


def test_broken_settings_do_not_hide_the_rest(mine: Path) -> None:
    made.folder(mine, made.SETTINGS.replace("window", "windw"))
    found = checks(mine, code=1)
    assert "did you mean 'window'?" in found["settings"]["message"]
    assert found["log"]["status"] == "ok"


@pytest.mark.parametrize("text", ["no toml", "[actions]\n", "[log]\nurl = 'kafka://x/y'\n[actions]\na = {}\n"])
def test_settings_that_cannot_be_used(mine: Path, text: str) -> None:
    made.folder(mine, text)
    assert "fail" in {check["status"] for check in checks(mine, code=1).values()}


def test_changed_features_mean_a_rebuild(mine: Path) -> None:
    made.folder(mine, made.SETTINGS.replace('"1d"', '"30d"'))
    found = checks(mine)
    assert found["state"]["status"] == "warn"
    assert "folds all" in found["state"]["message"]


def test_a_state_behind_and_ahead(mine: Path) -> None:
    _sql(mine / "state.sqlite", "UPDATE fence SET position = position - 7")
    assert "7 events behind" in checks(mine)["state"]["message"]
    _sql(mine / "state.sqlite", "UPDATE fence SET position = position + 70")
    assert "past the end" in checks(mine)["state"]["message"]


@pytest.mark.parametrize("name", ["log", "state"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "holes"])
def test_damaged_files(mine: Path, name: str, damage: str) -> None:
    path = mine / f"{name}.sqlite"
    data = bytearray(path.read_bytes())
    if damage == "empty":
        data = bytearray()
    elif damage == "garbage":
        data[:] = b"garbage " * (len(data) // 8)
    else:
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    assert checks(mine, code=1)[name]["status"] == "fail"


def test_a_damaged_artifact(mine: Path) -> None:
    (mine / "artifacts").mkdir()
    (mine / "artifacts" / "live").write_text("nonsense")
    found = checks(mine, code=1)["artifact"]
    assert "damaged" in found["message"]
    (mine / "artifacts" / "live").write_text(json.dumps({"live": "0" * 64}))
    assert checks(mine, code=1)["artifact"]["status"] == "fail"


def test_old_data_under_the_machine_s_clock(mine: Path) -> None:
    made.folder(mine, made.SETTINGS.replace('"events"', '"system"'))
    found = checks(mine)["clock"]
    assert found["status"] == "warn"
    assert 'source = "events"' in found["fix"]


def test_a_clock_behind_the_log(mine: Path) -> None:
    _sql(
        mine / "log.sqlite",
        "UPDATE log SET ingested_at = ingested_at + 1000000000000000 WHERE position = (SELECT max(position) FROM log)",
    )
    assert "NTP" in (checks(mine, code=1)["clock"]["fix"])


def test_strangers_without_keys(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENCHANT_KEYS", raising=False)
    made.folder(mine, made.SETTINGS.replace("port = 0", 'port = 0\nhost = "0.0.0.0"'))
    assert "PENCHANT_KEYS" in checks(mine, code=1)["keys"]["message"]
    monkeypatch.setenv("PENCHANT_KEYS", "a-long-enough-key:admin")
    assert checks(mine)["keys"]["status"] == "ok"


def test_while_the_engine_runs(mine: Path) -> None:
    with open_folder(mine, background=False) as engine:
        engine.recommend(wire.Request(user_id="u1", n=5), "later")
        engine.settle()
        report = told("doctor", "--dir", mine)
        assert report["passed"]


def _sql(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()
