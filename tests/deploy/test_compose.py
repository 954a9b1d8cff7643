"""The compose file is one that docker compose reads, and keeps the rules of the house; the checker catches bad ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from deploy.conftest import DEPLOY, run
from penchant.cli import app
from penchant.serving.auth import check_bind, load_keys
from penchant.settings import parse

HERE = Path(__file__).parent
OURS = {"collect": 8081, "stream": 8082, "serve": 8080}
ENVIRONMENT = dict(line.split("=", 1) for line in (HERE / "environment").read_text().split())


def services() -> dict[str, Any]:
    text = (DEPLOY / "compose.yaml").read_text()
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: ENVIRONMENT[match[1]], text)
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.mark.deploy
def test_the_file_is_good(compose: Path) -> None:
    assert run(compose, DEPLOY / "compose.yaml", HERE / "environment") == (0, "")


@pytest.mark.deploy
@pytest.mark.parametrize("file", sorted((HERE / "bad").glob("*.yaml")), ids=lambda path: path.stem)
def test_bad_files_are_caught(compose: Path, file: Path) -> None:
    code, told = run(compose, file)
    assert code == 1
    for expected in re.findall(r"^# said: (.*)$", file.read_text(), re.M):
        assert expected in told


@pytest.mark.deploy
@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_without_a_secret_nothing_starts(compose: Path, variable: str, tmp_path: Path) -> None:
    lines = [f"{name}={value}" for name, value in ENVIRONMENT.items() if name != variable]
    (tmp_path / "environment").write_text("\n".join(lines))
    code, told = run(compose, DEPLOY / "compose.yaml", tmp_path / "environment")
    assert code == 1
    assert f"required variable {variable} is missing" in told


@pytest.mark.parametrize("name", OURS)
def test_our_services_listen_where_they_are_asked(name: str) -> None:
    service = services()[name]
    port = str(OURS[name])
    assert service["command"][:5] == [name, "--host", "0.0.0.0", "--port", port]
    assert service["healthcheck"]["test"][-2:] == [port, "/readyz"]
    assert service.get("ports", [f"127.0.0.1:{port}:{port}"]) == [f"127.0.0.1:{port}:{port}"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_know_their_options(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in services()[name]["command"] if word.startswith("--")} <= known


def test_settings_and_keys_are_those_of_penchant() -> None:
    environment = services()["serve"]["environment"]
    settings = parse((DEPLOY / "penchant.toml").read_text(), environment)
    assert settings.log.url == "kafka://redpanda:9092/penchant"
    assert settings.state.url == "redis://redis:6379/0"
    assert settings.outbox.url == settings.copy.url == "postgresql://penchant:secret@postgres:5432/penchant"
    keys = load_keys(environment)
    check_bind("0.0.0.0", keys)
    assert keys.scopes("key1") == {"ingest"}
    assert keys.scopes("key2") == keys.scopes("key3") == {"read"}


def test_redis_throws_nothing_away() -> None:
    command = services()["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"


def test_images_are_pinned() -> None:
    for name, service in services().items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name


def test_one_version_everywhere() -> None:
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    assert services()["serve"]["image"] == f"penchant:{version}"
    assert f"penchant:{version}" in (DEPLOY / "Dockerfile").read_text()
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        assert [image["newTag"] for image in yaml.safe_load(path.read_text())["images"]] == [version], path
