"""From a folder to a cluster, from old features to new ones, from one worker to two, and from an emptied Redis back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import penchant as pc
from penchant.core.clock import SystemClock
from penchant.testing.servers import Kafka, Postgres, Redis
from servers.cluster.world import Cluster, Json, Service, chunks, click, film, make_folder, until, verb
from servers.conftest import fresh

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

HOUR = 3_600_000
NEW = """
[features.user_hides]
entity = "user"
of = "hide"
window = "7d"
"""


def history(seed: int, count: int) -> list[Json]:
    """Films that come, change, go and come back, and people who watch them, late and twice, until some are erased."""
    rng = np.random.default_rng(seed)
    now = SystemClock().now()
    events: list[Json] = [film(number) for number in range(80)]
    for number in range(count):
        at, user, item = int(rng.integers(1_000)), f"u{rng.integers(90)}", f"f{rng.integers(85)}"
        event: Json
        if at < 12:
            event = {"type": "item", "item_id": item, "merge": True, "attributes": {"creator": f"maker {at}"}}
        elif at < 20:
            event = {"type": "item_removed", "item_id": item}
        elif at < 30:
            event = film(int(item[1:])) | {"id": f"again-{number}"}
        elif at < 34:
            event = {"type": "user_erased", "user_id": user}
        elif at < 60:
            event = {"type": "user", "user_id": user, "attributes": {"country": "DEFRPL"[at % 3 * 2 :][:2]}}
        elif at < 80:
            shown = [{"item_id": f"f{one}", "rank": rank} for rank, one in enumerate(rng.integers(85, size=5), 1)]
            event = {"type": "impression", "user_id": user, "surface": "home", "items": shown}
        else:
            action = ("view", "click", "watch", "hide")[at % 4]
            event = click(user, item, action, id=f"e{number - (at % 97 == 0)}")
            if action == "watch":
                event["value"] = at / 10
        if at % 19 == 0:
            event["ts"] = now - int(rng.integers(60)) * HOUR
        events.append(event)
    return events


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="module")
def environment(kafka: Kafka, redis: Redis) -> Mapping[str, str]:
    kafka.start()
    return {"PENCHANT_STATE__URL": redis.url, "PENCHANT_ARCHIVE__EVERY": "1s"}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka, environment: Mapping[str, str]) -> tuple[Path, Any]:
    """A folder with a few thousand events, and where its log goes."""
    folder = make_folder(tmp_path_factory.mktemp("moved"), "moved")
    with pc.open(folder) as engine:
        for some in chunks(history(1, 4_000)):
            engine.send(some)
    return folder, {**environment, "PENCHANT_LOG__URL": kafka.topic_url(fresh("moved"))}


def test_a_folder_moves_and_every_cell_is_the_same(
    moved: tuple[Path, Mapping[str, str]], figures: Callable[[str], None]
) -> None:
    folder, environment = moved
    told = [json.loads(verb(folder, environment, "migrate", "--json").stdout) for _ in range(2)]
    assert told[0] == told[1], "what was sent counts once"
    assert told[0]["wrong"] == 0, told[0]["differ"]
    assert told[0]["users"] > 50
    assert told[0]["items"] >= 80
    figures(f"{told[0]['cells']:,} cells of a folder and of the cluster that it moved to: {told[0]['wrong']} differ")


def test_features_change_beside_the_state_that_serves(
    moved: tuple[Path, Mapping[str, str]], redis: Redis, figures: Callable[[str], None]
) -> None:
    folder, environment = moved
    verb(folder, environment, "migrate")
    with Cluster(folder, environment) as cluster:
        stream, serve = cluster.service("stream"), cluster.service("serve")
        stream.ready()
        serve.ready()
        known = serve.get("/v1/users/u1")
        assert "user_hides" not in known["features"]
        make_folder(folder, "moved", NEW)
        refused = verb(folder, environment, "doctor", "--json", code=None)
        assert "penchant rebuild" in refused.stdout
        changed = cluster.service("serve", "changed")
        until(lambda: changed.alive() or "penchant rebuild" in changed.missing())
        assert changed.answers("/readyz") == httpx.codes.SERVICE_UNAVAILABLE
        collect = cluster.service("collect")
        collect.ready()
        during = collect.send([click("u1", "f2", "hide", id="during")])["position"]
        serve.reaches(during)
        stream.stop()  # who still folds by the old settings would make their state again
        done = json.loads(verb(folder, environment, "rebuild", "--json", "--drop").stdout)
        assert done["wrong"] == 0
        assert done["compared"] > 100
        assert done["dropped"] > 100
        gone = redis.ask("EVAL", "return #redis.call('KEYS', ARGV[1])", "0", f"moved:{done['before']}:*")
        assert int(gone) == 0
        fresh_stream = cluster.service("stream", "stream-new")
        changed.ready()
        fresh_stream.ready()
        changed.reaches(during)
        about = changed.get("/v1/users/u1")
        assert about["counters"] == _counters(known, hide=1)
        assert about["features"]["user_hides"] == about["counters"]["hide"]
        again = verb(folder, environment, "rebuild", code=1)
        assert "nothing to rebuild" in again.stderr
        figures(f"{done['messages']:,} messages folded anew beside the live state, {done['compared']:,} profiles equal")


def _counters(known: Json, **more: int) -> dict[str, int]:
    """The counters of an answer, with some more."""
    return {action: count + more.get(action, 0) for action, count in known["counters"].items()}


@pytest.mark.pg
@pytest.mark.parametrize("copied", [False, True])
def test_two_workers_share_and_an_emptied_redis_comes_back(
    tmp_path: Path, kafka: Kafka, redis: Redis, postgres: Postgres, copied: bool, figures: Callable[[str], None]
) -> None:
    name = f"emptied{copied:d}"
    folder = make_folder(tmp_path / name, name)
    environment = {
        "PENCHANT_LOG__URL": kafka.topic_url(fresh(name)),
        "PENCHANT_STATE__URL": redis.database_url(3 + copied),
        "PENCHANT_ARCHIVE__EVERY": "1s",
    }
    if copied:
        postgres.start()
        environment |= {
            "PENCHANT_COPY__URL": postgres.create_database(fresh("copy")),
            "PENCHANT_COPY__EVERY": "1s",
        }
    with Cluster(folder, environment) as cluster:
        collect, serve = cluster.service("collect"), cluster.service("serve")
        streams = [cluster.service("stream", f"stream-{number}") for number in range(2)]
        for service in cluster.services:
            service.ready()
        tokens = [collect.send(some)["position"] for some in chunks(history(2, 1_500), 250)]
        for token in tokens:
            serve.reaches(token)
        folded = [until(lambda one=one: _folded(one), 30) for one in streams]  # type: ignore[misc]
        before = {user: serve.get(f"/v1/users/{user}") for user in ("u1", "u2", "u3")}
        until(lambda: serve.get("/v1/status")["lag_events"] == 0, 30)
        items = {item: serve.get(f"/v1/items/{item}")["counters"] for item in _known(serve)}
        _flush(redis, 3 + copied)
        until(lambda: serve.client.get("/v1/users/u1").status_code == httpx.codes.OK, 60)

        def back() -> bool:
            users = {user: serve.client.get(f"/v1/users/{user}").json() for user in before}
            found = {item: serve.client.get(f"/v1/items/{item}").json().get("counters") for item in items}
            return found == items and all(_same(users[user], before[user]) for user in before)

        until(back, 60)
        told = collect.send([click("u1", "f3", id="after-all")])["position"]
        serve.reaches(told)
        assert serve.get("/v1/users/u1")["counters"] == _counters(before["u1"], click=1)
        figures(
            f"two workers folded {folded} partition batches; a Redis that was emptied came back"
            f" {'with' if copied else 'without'} a copy, {len(before)} users and {len(items)} items as they were"
        )
        for service in streams:
            assert "Traceback" not in service.said(), service.said()[-3_000:]


def _flush(redis: Redis, number: int) -> None:
    import redis as client

    with client.Redis.from_url(redis.database_url(number)) as connection:
        connection.flushdb()


def _same(left: Json, right: Json) -> bool:
    return all(left.get(part) == right[part] for part in ("attributes", "counters", "recent"))


def _known(serve: Service) -> list[str]:
    every = [f"f{number}" for number in range(40)]
    return [item for item in every if serve.client.get(f"/v1/items/{item}").status_code == httpx.codes.OK]


def _folded(stream: Service) -> float:
    """Messages that a worker has folded."""
    lines = stream.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("penchant_folded_messages_total"))
