"""The fold of a log in Kafka into Redis: events a second by one worker and by two, and what readers feel meanwhile.

    python -m bench.cluster_fold [--events 100000] [--workers 1 2] [--json]

Kafka and Redis are private and on loopback, on the same cores as everything else. The events are in Kafka before the
workers (`penchant stream`, one process each) start; the clock runs from the first message folded to the last. Item
partitions are folded as well: an event counts when its person's partition and all deeds of it are in.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from bench.chaos.fleet import Service, wait_ready
from bench.chaos.world import Events, make_folder

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.clock import SystemClock
from penchant.core.parse import parse_event
from penchant.core.partitions import META_KEY
from penchant.core.state import profile_key, user_key
from penchant.log.joins import Joins
from penchant.log.outbox_sqlite import SqliteOutbox
from penchant.log.relay import Relay
from penchant.settings import load
from penchant.testing.servers import Kafka, Redis, free_port


def measure(events: int = 100_000, workers: tuple[int, ...] = (1, 2), partitions: int = 256) -> dict[str, Any]:
    """By number of workers: events/s, of which a second of each worker's own time, and the reader's times."""
    told: dict[str, Any] = {"events": events, "load_before": os.getloadavg()}
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka())
        redis = stack.enter_context(Redis())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-fold-")))
        make_folder(folder, partitions, 16)
        for count in workers:
            name = f"fold{count}"
            environment = {
                "PENCHANT_PROJECT__NAME": name,
                "PENCHANT_LOG__URL": kafka.topic_url(name),
                "PENCHANT_STATE__URL": redis.url,
                "PENCHANT_ARCHIVE__EVERY": "1h",
            }
            parts = ClusterParts.of(folder, load(folder, environment))
            told[f"relayed_per_s_{count}"] = _relay(parts, folder / f"{name}.sqlite", events)
            told[f"workers_{count}"] = _fold(parts, folder, environment, count)
    told["load_after"] = os.getloadavg()
    return told


def _relay(parts: ClusterParts, path: Path, events: int) -> float:
    """Put the catalogue and the events into the log; events a second."""
    parts.ensure_topics()
    state = parts.state()
    schema = parts.definition.schema
    outbox = SqliteOutbox(path, schema=schema, layout=parts.layout, clock=SystemClock(), lateness_ms=1 << 40)
    made = Events(1, users=20_000, items=2_000, size=1_000)
    outbox.append([parse_event(raw, schema) for raw in made.catalogue()])
    for number in range(events // made.size):
        outbox.append([parse_event(raw, schema) for raw in made.batch(number)])
    joins = Joins(state, parts.layout, schema)
    relay = Relay(outbox, parts.sender, parts.layout, joins, rng=random.Random(0))
    began, sent = time.perf_counter(), 0
    while count := relay.step():
        sent += count
    rate = sent / (time.perf_counter() - began)
    relay.close()
    outbox.close()
    state.close()
    return rate


def _fold(parts: ClusterParts, folder: Path, environment: dict[str, str], count: int) -> dict[str, Any]:
    state, reader = parts.state(), parts.reader()
    partitions = parts.layout.all()
    people = partitions[: parts.layout.users]
    ends = reader.ends(people)
    total = sum(ends.values())
    services = []
    stop = threading.Event()
    times: list[float] = []
    try:
        for number in range(count):
            port = free_port()
            service = Service(folder, environment, f"stream{count}-{number}", "stream", "--port", str(port))
            services.append(service)
            wait_ready(f"http://127.0.0.1:{port}")

        def folded() -> int:
            return sum(view.position for view in state.read([(partition, []) for partition in people]))

        while not folded():
            time.sleep(0.01)
        began, first = time.perf_counter(), folded()
        asking = threading.Thread(target=_ask, args=(parts, stop, times))
        asking.start()
        while folded() < total:
            time.sleep(0.05)
        people_s = time.perf_counter() - began
        items = partitions[parts.layout.users :]
        while True:
            last = reader.ends(items)
            if all(
                view.position >= last[p] for p, view in zip(items, state.read([(p, []) for p in items]), strict=True)
            ):
                break
            time.sleep(0.05)
        whole_s = time.perf_counter() - began
        stop.set()
        asking.join()
        cpu = sum(_cpu(service.process.pid) for service in services)
    finally:
        stop.set()
        for service in services:
            service.stop()
        state.close()
        reader.close()
    milliseconds = np.array(times) * 1_000
    return {
        "events_per_s": (total - first) / whole_s,
        "events_per_s_people_only": (total - first) / people_s,
        "events_per_core_second": total / cpu,
        "reads": len(times),
        "read_p50_ms": float(np.percentile(milliseconds, 50)),
        "read_p99_ms": float(np.percentile(milliseconds, 99)),
    }


def _ask(parts: ClusterParts, stop: threading.Event, times: list[float]) -> None:
    """One reader, 200 reads a second, as a request reads."""
    rng = random.Random(3)
    state = parts.state()
    while not stop.wait(0.005):
        user = f"u{rng.randrange(20_000)}"
        began = time.perf_counter()
        state.read([(parts.layout.user(user), [META_KEY, user_key(user), profile_key(user)])])
        times.append(time.perf_counter() - began)
    state.close()


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process, start included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster_fold", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--partitions", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told = measure(given.events, tuple(given.workers), given.partitions)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
