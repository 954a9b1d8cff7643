"""RankLens through the commands: import, learn from four fifths of the users, rank what the other fifth saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets import dataset

ROOT = Path(__file__).resolve().parents[2]
LEAST = 0.600


@pytest.fixture
def events() -> Path:
    return dataset("ranklens/events.jsonl.gz")


def penchant(*arguments: object) -> str:
    command = [sys.executable, "-m", "penchant", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_ranklens(events: Path, tmp_path: Path, figures: Callable[[str], None]) -> None:
    folder = tmp_path / "ranklens"
    penchant("init", folder, "--preset", "rankings")
    taken = json.loads(penchant("import", events, "--dir", folder, "--no-fold", "--json"))
    assert taken["accepted"] == taken["events"] > 50_000
    told: dict[str, Any] = json.loads(penchant("evaluate", "--rankings", "--json", "--dir", folder))
    orders = {order["name"]: order for order in told["orders"]}
    lines = [
        f"{name}: NDCG@10 {one['ndcg']:.4f} [{one['interval'][0]:.4f}, {one['interval'][1]:.4f}]"
        for name, one in orders.items()
    ]
    figures(
        f"seed {told['seed']}, {told['judged']} rankings of {told['test_users']} users whom neither the ranker nor "
        f"the counts of items knew ({told['train_users']} others came before); {'; '.join(lines)}"
    )
    assert orders["ranker"]["ndcg"] >= LEAST
    assert all(one["behind"][0] > 0 for name, one in orders.items() if name != "ranker")
