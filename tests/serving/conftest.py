"""The application under test, called in process without a socket.

`call` reaches the real engine, assembled in a temporary folder; `fake_call` one that tests can see inside and break.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from penchant.assembly import open_folder
from penchant.serving.http import create_app
from penchant.settings import Settings, parse
from serving.calls import Caller
from serving.fake_engine import FakeEngine

TOML = """
[project]
name = "films"
[actions]
view = { weight = 0.1 }
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds", scale = 0 }
hide = { weight = -5.0 }
[attributes.item]
title = "text"
genres = "tags"
year = "number"
price = "number"
category = "category"
creator = "category"
released_at = "timestamp"
adult = "flag"
embedding = "vector:3"
[attributes.user]
country = "category"
age = "number"
adult = "flag"
[attributes.context]
device = "category"
[surfaces.home]
sources = [{ name = "trending", n = 100 }, { name = "fresh", n = 50 }]
filters = ["seen", "hidden", "listed"]
[surfaces.similar]
about = "item"
sources = [{ name = "covisit", n = 100 }, { name = "content", n = 100 }]
filters = ["listed"]
[surfaces.trending]
sources = [{ name = "trending", n = 100 }]
filters = ["listed"]
"""


@pytest.fixture(scope="session")
def settings() -> Settings:
    return parse(TOML)


@pytest.fixture
def fake(settings: Settings) -> FakeEngine:
    """The fake engine, for tests that need to see inside."""
    return FakeEngine(settings)


@pytest.fixture
def fake_app(fake: FakeEngine, settings: Settings) -> FastAPI:
    return create_app(fake, settings)


@pytest.fixture
def fake_call(fake_app: FastAPI) -> Caller:
    return Caller(fake_app)


def open_real(folder: Path) -> Any:
    """The real engine in a folder, to be used as a context manager."""
    (folder / "penchant.toml").write_text(TOML)
    return open_folder(folder)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    with open_real(tmp_path) as opened:
        yield opened


@pytest.fixture
def app(engine: Any, settings: Settings) -> FastAPI:
    return create_app(engine, settings)


@pytest.fixture
def call(app: FastAPI) -> Caller:
    return Caller(app)
