"""Small made data, and the command line as a process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

START = 1_700_000_000_000

SETTINGS = """
[project]
name = "made"

[clock]
source = "events"

[server]
port = 0

[actions]
click = { weight = 1.0 }
hide = { weight = -1.0 }

[attributes.item]
title = "text"
genres = "tags"

[features.clicks_1d]
entity = "item"
of = "click"
window = "1d"

[features.genre_clicks]
entity = ["user", "genres"]
of = "click"

[training]
trees = 5
leaves = 4
"""


def folder(path: Path, settings: str = SETTINGS) -> Path:
    """A folder with settings."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "penchant.toml").write_text(settings, encoding="utf-8")
    return path


def events(n: int = 600, items: int = 40, users: int = 30, seed: int = 1) -> list[dict[str, Any]]:
    """Items and interactions a minute apart, in order of time; without ids."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = [
        {
            "type": "item",
            "item_id": f"i{at}",
            "attributes": {"title": f"Film {at}", "genres": [f"g{at % 5}"]},
            "ts": START,
        }
        for at in range(items)
    ]
    for at in range(n):
        item = min(int(rng.expovariate(6 / items)), items - 1)
        made.append(
            {
                "type": "interaction",
                "user_id": f"u{rng.randrange(users)}",
                "item_id": f"i{item}",
                "action": "hide" if rng.random() < 0.05 else "click",
                "ts": START + 60_000 * (at + 1),
            }
        )
    return made


def jsonl(path: Path, made: list[dict[str, Any]]) -> Path:
    """The events, one a line."""
    path.write_text("".join(json.dumps(one) + "\n" for one in made), encoding="utf-8")
    return path


def movielens(path: Path, users: int = 12, films: int = 30) -> Path:
    """A MovieLens folder."""
    path.mkdir(parents=True)
    rng = random.Random(2)
    rows = [f"{film},Film {film} (19{film % 90 + 10}),Drama|Comedy\n" for film in range(1, films + 1)]
    (path / "movies.csv").write_text("movieId,title,genres\n" + "".join(rows), encoding="utf-8")
    ratings = [
        f"{user},{film},{rng.choice(['2.0', '3.5', '4.0', '5.0'])},{1_000_000_000 + 3_600 * at}\n"
        for at, (user, film) in enumerate(
            (user, film) for user in range(1, users + 1) for film in rng.sample(range(1, films + 1), 10)
        )
    ]
    (path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(ratings), encoding="utf-8")
    return path


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """`penchant` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "penchant", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
