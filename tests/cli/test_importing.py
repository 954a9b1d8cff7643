"""What `penchant import` takes, refuses, writes and says."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import made
from penchant.cli import app
from penchant.settings import load

run = CliRunner()


def told(*arguments: object, code: int = 0) -> Any:
    result = run.invoke(app, ["import", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_second_import_gives_duplicates_only(tmp_path: Path) -> None:
    folder, source = made.folder(tmp_path / "in"), made.jsonl(tmp_path / "events.jsonl", made.events())
    first = told(source, "--dir", folder)
    assert (first["accepted"], first["duplicates"], first["late"], first["rejected"]) == (640, 0, 0, 0)
    assert first["position"] == 640
    again = told(source, "--dir", folder, "--batch", 100)
    assert (again["accepted"], again["duplicates"], again["late"], again["position"]) == (0, 640, 0, 640)
    longer = told(made.jsonl(source, made.events(n=700)), "--dir", folder)
    assert (longer["accepted"], longer["duplicates"], longer["late"]) == (100, 640, 0)


def test_time_follows_the_data(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "in", made.SETTINGS.replace('"events"', '"system"'))
    told(made.jsonl(tmp_path / "events.jsonl", made.events()), "--dir", folder)
    with sqlite3.connect(folder / "log.sqlite") as db:
        rows = db.execute("SELECT ts, ingested_at, verdict FROM log").fetchall()
    db.close()
    assert all(ts == ingested and not verdict for ts, ingested, verdict in rows)


def test_sources_are_merged_by_time(tmp_path: Path) -> None:
    everything = made.events()
    sources = [made.jsonl(tmp_path / f"{part}.jsonl", everything[part::3]) for part in range(3)]
    taken = told(*sources, "--dir", made.folder(tmp_path / "in"))
    assert (taken["accepted"], taken["late"]) == (640, 0)


def test_items_without_time_leave_history_in_time(tmp_path: Path) -> None:
    items = [{k: v for k, v in one.items() if k != "ts"} for one in made.events(n=0)]
    folder = made.folder(tmp_path / "in", made.SETTINGS.replace('"events"', '"system"'))
    assert told(made.jsonl(tmp_path / "items.jsonl", items), "--dir", folder)["accepted"] == 40
    history = told(made.jsonl(tmp_path / "events.jsonl", made.events()[40:]), "--dir", folder)
    assert (history["accepted"], history["late"], history["stopped"]) == (600, 0, None)


def test_history_behind_the_log_is_stopped_at_the_first_late_event(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "in")
    day = 86_400_000
    newer = [dict(one, ts=one["ts"] + 30 * day) for one in made.events(seed=2)]
    told(made.jsonl(tmp_path / "newer.jsonl", newer), "--dir", folder)
    source = made.jsonl(tmp_path / "older.jsonl", made.events()[40:])
    stopped = told(source, "--dir", folder, code=1)
    assert stopped["late"] == 1
    assert "lateness" in stopped["stopped"]
    assert "new folder" in stopped["stopped"]
    kept = told(source, "--dir", folder, "--late")
    assert (kept["late"], kept["duplicates"], kept["stopped"]) == (599, 1, None)
    with_room = made.SETTINGS + '\n[log]\nlateness = "60d"\n'
    made.folder(folder, with_room)
    assert told(made.jsonl(tmp_path / "o2.jsonl", made.events(seed=5)[40:]), "--dir", folder)["late"] == 0


def test_a_new_folder_gets_settings_from_ratings(tmp_path: Path) -> None:
    taken = told(made.movielens(tmp_path / "ml"), "--dir", tmp_path / "new")
    assert taken["wrote_settings"]
    assert taken["accepted"] == 150
    settings = load(tmp_path / "new", {})
    assert settings.project.name == "new"
    assert set(settings.actions) == {"like", "watch", "dislike"}
    result = run.invoke(app, ["recommend", "1", "--dir", str(tmp_path / "new"), "--json", "-n", "5"])
    assert len(json.loads(result.stdout)["items"]) == 5


def test_a_new_folder_gets_settings_from_events(tmp_path: Path) -> None:
    source = made.jsonl(tmp_path / "events.jsonl", made.events())
    assert told(source, "--dir", tmp_path / "new")["accepted"] == 640
    settings = load(tmp_path / "new", {})
    assert settings.attributes.item == {"title": "text", "genres": "tags"}
    assert settings.clock.source == "events"
    assert "by_genres" in settings.features
    assert {"home", "similar", "because", "trending"} <= set(settings.surfaces)


def test_a_table_of_interactions_alone_can_be_recommended_from(tmp_path: Path) -> None:
    rows = [f"u{at % 7},i{at % 11},{made.START // 1_000 + at}" for at in range(77)]
    source = tmp_path / "clicks.csv"
    source.write_text("uid,sku,at\n" + "\n".join(rows) + "\n", encoding="utf-8")
    mapping = "user_id=uid,item_id=sku,ts=at,action=:click"
    assert told(source, "--map", mapping, "--dir", tmp_path / "new")["accepted"] == 77
    result = run.invoke(app, ["recommend", "new", "--dir", str(tmp_path / "new"), "--json", "-n", "5"])
    assert len(json.loads(result.stdout)["items"]) == 5


def test_what_is_no_event_is_counted_and_named(tmp_path: Path) -> None:
    source = made.jsonl(tmp_path / "events.jsonl", [*made.events(n=5), {"type": "interaction", "user_id": "u"}])
    with source.open("a") as file:
        file.write("no json\n")
    taken = told(source, "--dir", made.folder(tmp_path / "in"))
    assert (taken["accepted"], taken["rejected"]) == (45, 2)
    assert [one["place"] for one in taken["first_rejected"]] == ["line 46", "line 47"]
    assert all(one["message"] and one["reason"] for one in taken["first_rejected"])


def test_undeclared_actions_are_told_as_settings(tmp_path: Path) -> None:
    made_up = [dict(one, action="zap") for one in made.events(n=5)[40:]]
    source = made.jsonl(tmp_path / "events.jsonl", made_up)
    folder = made.folder(tmp_path / "in")
    result = run.invoke(app, ["import", str(source), "--dir", str(folder)])
    assert result.exit_code == 1
    assert "[actions]\nzap = {" in result.stderr
    assert "nothing could be taken" in result.stderr
    ratings = run.invoke(app, ["import", str(made.movielens(tmp_path / "ml")), "--dir", str(folder)])
    assert ratings.exit_code == 1
    assert "like = { weight = 1.0" in ratings.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing.jsonl", "--dir", "in"], 1, "does not exist"),
        (["events.jsonl", "--dir", "in", "--map", "a=b"], 1, "--map is for tables"),
        (["events.jsonl", "--dir", "in", "--format", "xml"], 2, "xml"),
        (["events.jsonl", "--dir", "in", "--batch", "0"], 2, "batch"),
        (["events.jsonl"], 1, "--dir NEW"),
        (["items.jsonl", "--dir", "new"], 1, "no interactions"),
        ([], 2, "SOURCE"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    made.folder(tmp_path / "in")
    made.jsonl(tmp_path / "events.jsonl", made.events(n=5))
    made.jsonl(tmp_path / "items.jsonl", made.events(n=0))
    result = run.invoke(app, ["import", *arguments])
    assert result.exit_code == code
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_was_cut_off_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    folder = made.folder(tmp_path / "in")
    source = made.jsonl(tmp_path / "events.jsonl", made.events(n=6_000))
    process = made.start("import", source, "--dir", folder, "--batch", "1", "--json")
    deadline = time.monotonic() + 60
    while _held(folder) < 300 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    assert process.returncode in (-9, 130)
    held = _held(folder)
    assert 300 <= held < 6_040
    taken = told(source, "--dir", folder)
    assert (taken["accepted"], taken["duplicates"], taken["late"]) == (6_040 - held, held, 0)
    assert taken["position"] == _held(folder) == 6_040


def _held(folder: Path) -> int:
    if not (folder / "log.sqlite").exists():
        return 0
    db = sqlite3.connect(folder / "log.sqlite")
    try:
        return int(db.execute("SELECT count(*) FROM log").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        db.close()
