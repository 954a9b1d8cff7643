"""Import into a deployment on several machines, train and evaluate on its archive, and look at it from the terminal."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from penchant.core.clock import SystemClock
from penchant.testing.servers import Kafka
from servers.cluster.world import Cluster, Json, chunks, click, film, make_folder, until, verb

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

ARCHIVE = """
[archive]
every = "1s"
"""


def lines(path: Path, events: list[Json]) -> str:
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return str(path)


def told(*arguments: str, of: Cluster, code: int = 0) -> Any:
    return json.loads(verb(of.folder, of.environment, *arguments, "--json", code=code).stdout)


def test_from_history_to_a_model_that_serves(kafka: Kafka, topic: str, redis_url: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    now = SystemClock().now()
    environment = {"PENCHANT_LOG__URL": kafka.topic_url(topic), "PENCHANT_STATE__URL": redis_url}
    folder = make_folder(tmp_path / "history", topic, ARCHIVE)
    films = [film(number) for number in range(60)]
    views = [
        click(
            f"u{rng.randrange(30)}", f"f{rng.randrange(60)}", id=f"old-{number}", ts=now - 7_200_000 + number * 10_000
        )
        for number in range(600)
    ]
    with Cluster(folder, environment) as cluster:
        # Too old to count: said before anything is taken.
        old = [*films, click("u1", "f1", id="older", ts=now - 90 * 86_400_000)]
        refused = verb(folder, environment, "import", lines(tmp_path / "old.jsonl", old), code=1)
        assert "nothing was taken" in refused.stderr
        assert "penchant migrate" in refused.stderr
        # Nobody runs: the verb relays and folds.
        sources = [lines(tmp_path / "films.jsonl", films), lines(tmp_path / "views.jsonl", views)]
        figures = told("import", *sources, of=cluster)
        assert (figures["accepted"], figures["late"], figures["stopped"]) == (660, 0, None)
        assert figures["folded_seconds"] is not None
        slate = told("recommend", "u1", of=cluster)
        assert len(slate["items"]) == 10
        assert not slate["degraded"]
        empty = tmp_path / "elsewhere"
        make_folder(empty, topic, ARCHIVE)
        said = verb(empty, environment, "train", code=1).stderr
        assert "archive" in said
        assert "empty" in said

        collect, stream, serve = (cluster.service(name) for name in ("collect", "stream", "serve"))
        for service in (collect, stream, serve):
            service.ready()
        figures = told("import", *sources, of=cluster)
        assert (figures["accepted"], figures["duplicates"]) == (0, 660)
        served: list[Json] = []
        for number in range(80):
            answer = serve.slate(f"u{number % 30}")
            served += [
                click(
                    f"u{number % 30}",
                    item["item_id"],
                    id=f"new-{number}-{item['item_id']}",
                    request_id=answer["request_id"],
                )
                for item in rng.sample(answer["items"], 2)
            ]
        assert serve.slate("u1", record=False)["artifact"] is None
        for some in chunks(served):
            token = collect.send(some)["position"]
        serve.reaches(token)

        def trained() -> Any:
            """The archive follows by the second."""
            found = told("train", "--force", "--simulate", "50", "--surface", "home", of=cluster)
            return found if found["requests"] >= 80 else None

        model = until(trained, 90, pause=1.0)
        assert model["published"]
        assert model["simulated"] == 0 or model["requests"] > model["simulated"]
        until(lambda: serve.slate("u1", record=False)["artifact"] == f"sha256:{model['artifact']}", 30)
        answer = serve.slate("u1", record=False)
        assert answer["items"]
        assert not answer["degraded"]
        report = told("evaluate", "--requests", "40", of=cluster)
        assert {one["name"] for one in report["variants"]} == {"live", "frozen", "popular"}
        for name in (["explain", answer["request_id"]], ["replay"]):
            said = verb(folder, environment, *name, code=1).stderr
            assert "log in Kafka" in said
