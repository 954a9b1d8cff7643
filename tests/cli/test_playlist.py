"""Playlists for everybody: whole, deterministic, with the share of discovery that was asked for."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from typer.testing import CliRunner

from cli import made
from features.world import TOML
from penchant.assembly import open_folder
from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.cluster.playlists import cluster_world
from penchant.assembly.playlists import Order, maker, playlists
from penchant.cli import app
from penchant.core.clock import ManualClock
from penchant.core.partitions import Commit
from penchant.core.state import profile_key, user_key
from penchant.serving import wire
from penchant.settings import parse
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores
from stream.test_extracting import LAYOUT, Cluster

run = CliRunner()
CREATORS = 67
SETTINGS = (
    made.SETTINGS.replace('genres = "tags"', 'genres = "tags"\ncreator = "category"')
    + """
[attributes.user]
country = "category"

[surfaces.weekly]
sources = [{ name = "covisit", n = 100 }, { name = "content", n = 100 }, { name = "trending", n = 100 }]
[surfaces.weekly.select]
diversity = 0.2
caps = [{ by = "creator", max = 2 }]
"""
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with history; not to be changed."""
    folder = made.folder(tmp_path_factory.mktemp("lists"), SETTINGS)
    events = made.events(n=2_000, items=200, users=60)
    for event in events:
        if event["type"] == "item":
            event["attributes"]["creator"] = f"c{int(event['item_id'][1:]) % CREATORS}"
    events.append({"type": "user", "user_id": "quiet", "attributes": {"country": "de"}, "ts": made.START})
    events.append({"type": "user", "user_id": "u7", "attributes": {"country": "fr"}, "ts": made.START})
    source = made.jsonl(folder / "events.jsonl", events)
    assert run.invoke(app, ["import", str(source), "--dir", str(folder), "--late"]).exit_code == 0
    return folder


def told(*arguments: object, code: int = 0) -> Any:
    result = run.invoke(app, ["playlist", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_everybody_gets_one_with_the_stated_share(served: Path, tmp_path: Path) -> None:
    to = tmp_path / "weekly.jsonl"
    figures = told("--out", to, "--dir", served, "-n", 10)
    lists = lines(to)
    assert figures["playlists"] == len(lists) == 61
    assert [one["user_id"] for one in lists] == sorted(one["user_id"] for one in lists)
    assert "quiet" in {one["user_id"] for one in lists}
    assert figures["degraded"] == figures["empty"] == 0
    for one in lists:
        items = one["items"]
        assert [item["rank"] for item in items] == list(range(1, 11))
        assert len({item["item_id"] for item in items}) == 10
        creators = [int(item["item_id"][1:]) % CREATORS for item in items]
        assert max(map(creators.count, creators)) <= 2
        if one["user_id"] != "quiet":  # to whom everything is new ground
            assert sum(item["discovery"] for item in items) == 3
    assert all(item["discovery"] for one in lists if one["user_id"] == "quiet" for item in one["items"])
    with open_folder(served, background=False) as engine:
        recent = {one["user_id"]: {seen.item_id for seen in engine.user(one["user_id"]).recent} for one in lists[:20]}
    for one in lists[:20]:
        met = {int(item[1:]) % CREATORS for item in recent[one["user_id"]]}
        for item in one["items"]:
            assert item["item_id"] not in recent[one["user_id"]]
            assert not (item["discovery"] and int(item["item_id"][1:]) % CREATORS in met)


def test_without_a_share_it_is_the_slate_of_the_surface(served: Path, tmp_path: Path) -> None:
    to = tmp_path / "plain.jsonl"
    told("--out", to, "--dir", served, "-n", 8, "--discovery", 0)
    with open_folder(served, background=False) as engine:
        for one in lines(to)[:30]:
            request = wire.Request(user_id=one["user_id"], surface="weekly", n=8, record=False)
            answer = engine.recommend(request, one["request_id"])
            assert [item["item_id"] for item in one["items"]] == [item.item_id for item in answer.items]
            assert [item["score"] for item in one["items"]] == [item.score for item in answer.items]
            assert [item["reason"]["text"] for item in one["items"]] == [item.reason.text for item in answer.items]
            assert (one["position"], one["artifact"]) == (answer.position, answer.artifact)


def test_again_it_is_the_same_and_parquet_says_the_same(served: Path, tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl", "three.parquet"):
        told("--out", tmp_path / name, "--dir", served)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    columns = duckdb.sql(f"SELECT * FROM '{tmp_path / 'three.parquet'}'").columns
    rows = duckdb.sql(f"SELECT * FROM '{tmp_path / 'three.parquet'}'").fetchall()
    assert [dict(zip(columns, row, strict=True)) for row in rows] == lines(tmp_path / "one.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "three.parquet", "two.jsonl"]


def test_some_users_get_what_they_get_among_all(served: Path, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("u9\n\nu12\nnobody\nu9\n")
    told("--out", tmp_path / "all.jsonl", "--dir", served)
    told("--out", tmp_path / "some.jsonl", "--dir", served, "--users", tmp_path / "users")
    everybody = {one["user_id"]: one for one in lines(tmp_path / "all.jsonl")}
    found = lines(tmp_path / "some.jsonl")
    assert [one["user_id"] for one in found] == ["nobody", "u12", "u9"]
    assert [everybody[one["user_id"]] for one in found[1:]] == found[1:]
    assert len(found[0]["items"]) == 30


def test_for_people(served: Path, tmp_path: Path) -> None:
    result = run.invoke(app, ["playlist", "--out", str(tmp_path / "a.jsonl"), "--dir", str(served), "--by", "genres"])
    assert result.exit_code == 0
    assert "61 of weekly" in result.stdout
    assert "asked for: 30%" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--out", "x.csv"], 2, "must end in"),
        (["--out", "x.jsonl", "--discovery", "1.5"], 2, "discovery"),
        (["--out", "x.jsonl", "--surface", "hom"], 1, "did you mean 'home'?"),
        (["--out", "x.jsonl", "--by", "title"], 1, "category or tags"),
        (["--out", "x.jsonl", "--users", "none"], 1, "cannot be read"),
    ],
)
def test_mistakes_are_told_and_nothing_is_left(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run.invoke(app, ["playlist", *arguments, "--dir", str(served)])
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_weekly_surface_is_told_how_to_declare_one(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "plain")
    assert "[surfaces.weekly]" in told("--out", tmp_path / "x.jsonl", "--dir", folder, code=1)


def test_nobody_to_make_one_for(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "empty", SETTINGS)
    for name in ("x.jsonl", "x.parquet"):
        assert told("--out", tmp_path / name, "--dir", folder)["playlists"] == 0
        assert (tmp_path / name).exists()


def test_interrupted_it_leaves_the_file_as_it_was(served: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(served, tmp_path / "mine"))
    to = tmp_path / "out" / "weekly.parquet"
    to.parent.mkdir()
    to.write_bytes(b"last week's")
    (tmp_path / "users").write_text("\n".join(f"u{at}" for at in range(50_000)))
    arguments = ["--out", str(to), "--dir", str(folder), "--users", str(tmp_path / "users")]
    command = [sys.executable, "-m", "penchant", "playlist", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not any(path.stat().st_size for path in to.parent.glob(".weekly*/*")) and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "stopped" in said
    assert [path.name for path in to.parent.iterdir()] == ["weekly.parquet"]
    assert to.read_bytes() == b"last week's"


def test_a_state_in_partitions_gives_everybody_theirs(tmp_path: Path) -> None:
    cluster = Cluster(seed=9, events=900)
    log = f'[log]\nurl = "kafka://127.0.0.1:1/t"\npartitions = {LAYOUT.users}\nitem_partitions = {LAYOUT.items}\n'
    settings = parse(f'{log}[state]\nurl = "redis://127.0.0.1:1/0"\n{TOML}')
    state = SeparateStores(lambda _: MemoryStore(fingerprint=""), LAYOUT)
    commits = [Commit(one, 0, cluster.fences[one], cluster.state[one]) for one in LAYOUT.all()]
    assert state.commit(commits) == [None] * len(commits)
    parts = ClusterParts.of(tmp_path, settings, clock=ManualClock(cluster.clock.now()))
    order = Order(surface="home", n=4, share=0.5, by="genres")
    with cluster_world(parts, state) as world:
        assert world.items.count(b"c") == sum(key[:1] == b"c" for some in cluster.state.values() for key in some)
        found = [json.loads(one) for one in playlists(world, order, None, lambda *_: None)]
        some = [json.loads(one) for one in playlists(world, order, ["u3", "new", "u1"], lambda *_: None)]
        make = maker(world, order).make
        blobs = {user: cluster.state[LAYOUT.user(user)] for user in (one["user_id"] for one in found)}
        for one in found:
            user = one["user_id"]
            blob, profile = blobs[user].get(user_key(user)), blobs[user].get(profile_key(user))
            assert one == msgspec.to_builtins(make(user, cluster.fences[LAYOUT.user(user)], blob, profile))
            assert one["position"] == str(cluster.fences[LAYOUT.user(user)])
    known = {key[1:].decode() for one in cluster.state.values() for key in one if key[:1] in (b"u", b"p")}
    assert [one["user_id"] for one in found] == sorted(known)
    assert [one["user_id"] for one in some] == ["new", "u1", "u3"]
    assert any(one["items"] for one in found)
