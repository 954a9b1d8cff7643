"""A deployment that several modules share, and the figures that tests measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from penchant.testing.servers import Kafka, Postgres, Redis
from servers.cluster.world import Cluster, Service, film, make_folder
from servers.conftest import fresh

FOLDER = Path(__file__).resolve().parents[3] / ".figures"
FILMS = 60


@pytest.fixture
def figures(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Keeps what a test measured in `.figures/NAME.txt` and prints it, whatever pytest does with its output."""
    name = request.node.name.removeprefix("test_").translate(str.maketrans("[", ".", "]"))
    path = FOLDER / f"cluster_{request.path.stem.removeprefix('test_')}.{name}.txt"
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        FOLDER.mkdir(exist_ok=True)
        path.write_text("".join(f"{one}\n" for one in lines))
        with capsys.disabled():
            print(f"\n{path.stem}: {line}")

    return tell


@dataclass(frozen=True)
class Deployment:
    """Services that run, with a catalogue of films, and servers that only they use, but for Kafka."""

    cluster: Cluster
    redis: Redis
    postgres: Postgres
    database: str
    collect: Service
    """Its outbox is a file."""
    shared: Service
    """Its outbox is in PostgreSQL, where applications write too."""
    stream: Service
    serve: Service


@pytest.fixture(scope="session")
def deployment(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with ExitStack() as stack:
        kafka.start()
        redis, postgres = stack.enter_context(Redis()), stack.enter_context(Postgres())
        database = postgres.create_database("shared")
        folder = make_folder(tmp_path_factory.mktemp("deployment"), "films")
        environment = {
            "PENCHANT_LOG__URL": kafka.topic_url(fresh("films")),
            "PENCHANT_STATE__URL": redis.url,
            "PENCHANT_ARCHIVE__EVERY": "5s",
        }
        cluster = stack.enter_context(Cluster(folder, environment))
        collect, stream, serve = (cluster.service(verb) for verb in ("collect", "stream", "serve"))
        other = make_folder(tmp_path_factory.mktemp("shared"), "films")
        shared = cluster.service("collect", folder=other, PENCHANT_OUTBOX__URL=database)
        for service in cluster.services:
            service.ready()
        serve.reaches(collect.send([film(number) for number in range(FILMS)])["position"], 10_000)
        yield Deployment(cluster, redis, postgres, database, collect, shared, stream, serve)
