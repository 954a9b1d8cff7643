"""Reads of a person's features from a private Redis, alone and beside commits.

    python -m bench.redis_read [--brief]

A read is what a request needs: fence, `#meta`, features (2.2 kB) and attributes of one user, one MGET. Alone: one by
one. 64 at once: as `penchant serve` reads for its requests, in the event loop as each comes, for 64 that come every
20 ms or so; and as threads. Timed from the moment that a read could begin: waiting for the others counts. Beside
commits: another process commits batches of one partition after the other (a feature blob and ids per event) meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from penchant.core.partitions import META_KEY, Commit, Layout, Meta, Partition, encode_meta
from penchant.core.state import Key, profile_key, user_key
from penchant.stores.redis import RedisState
from penchant.testing.servers import Redis

AT_ONCE = 64
LAYOUT = Layout(users=256, items=16)
BLOB, PROFILE, IDS = 2_200, 120, 200


def opened(url: str) -> RedisState:
    """The state that all processes of the measurement share."""
    return RedisState(url, name="bench", fingerprint="bench", layout=LAYOUT, timeout_ms=10_000)


def measure(users: int = 20_000, reads: int = 20_000, seconds: float = 4.0) -> dict[str, Any]:
    """Latencies in milliseconds, rates per second."""
    with Redis() as server:
        state = opened(server.url)
        asked = fill(state, users)
        told: dict[str, Any] = {"load": os.getloadavg()[0], "alone": latencies(state, asked, reads // 4)}
        told[f"requests_{AT_ONCE}"] = asyncio.run(requests(state, asked, reads // 2))
        told[f"threads_{AT_ONCE}"] = threads(state, asked, reads // 4)
        for batch in (100, 250):
            told[f"commits_{batch}"] = beside_commits(server.url, state, asked, batch, seconds)
        state.close()
    return told


def fill(state: RedisState, users: int) -> list[tuple[Partition, list[Key]]]:
    """Features of people; what a request of each reads."""
    rng = random.Random(1)
    writes: dict[Partition, dict[Key, bytes | None]] = {}
    asked = []
    for number in range(users):
        user_id = f"user-{number}"
        partition = LAYOUT.user(user_id)
        keys = [user_key(user_id), profile_key(user_id)]
        writes.setdefault(partition, {META_KEY: encode_meta(Meta(clock=1))}).update(
            {keys[0]: rng.randbytes(BLOB), keys[1]: rng.randbytes(PROFILE)}
        )
        asked.append((partition, [META_KEY, *keys]))
    state.commit([Commit(partition, 0, 1, some) for partition, some in writes.items()])
    return asked


def latencies(state: RedisState, asked: Sequence[tuple[Partition, list[Key]]], reads: int) -> dict[str, float]:
    """Of reads one after the other."""
    rng, took = random.Random(2), []
    for _ in range(reads):
        one = rng.choice(asked)
        started = time.perf_counter()
        state.read([one])
        took.append(time.perf_counter() - started)
    return shown(took)


async def requests(
    state: RedisState, asked: Sequence[tuple[Partition, list[Key]]], reads: int, pause: float = 0.02
) -> dict[str, float]:
    """Of those who ask again after pauses of drawn lengths."""
    loop, took = asyncio.get_running_loop(), []

    async def ask(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(reads // AT_ONCE):
            one = rng.choice(asked)
            due = loop.time() + rng.expovariate(1 / pause)
            await asyncio.sleep(due - loop.time())
            state.read([one])
            took.append(loop.time() - due)

    async def keep_awake() -> None:
        """A loop that sleeps wakes up to a millisecond late, which is not the read's."""
        while True:
            await asyncio.sleep(0)

    awake = asyncio.create_task(keep_awake())
    began = time.perf_counter()
    await asyncio.gather(*(ask(seed) for seed in range(AT_ONCE)))
    awake.cancel()
    return {**shown(took), "per_s": len(took) / (time.perf_counter() - began)}


def threads(state: RedisState, asked: Sequence[tuple[Partition, list[Key]]], reads: int) -> dict[str, float]:
    """Of threads that each ask again as soon as they are answered."""
    took: list[float] = []

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(reads // AT_ONCE):
            one = rng.choice(asked)
            started = time.perf_counter()
            state.read([one])
            took.append(time.perf_counter() - started)

    running = [threading.Thread(target=ask, args=(seed,)) for seed in range(AT_ONCE)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return shown(took)


def beside_commits(
    url: str, state: RedisState, asked: Sequence[tuple[Partition, list[Key]]], batch: int, seconds: float
) -> dict[str, float]:
    """Reads while another process commits as fast as it can; events per second of that."""
    context = multiprocessing.get_context("spawn")
    answers, go = context.Queue(), context.Event()
    committer = context.Process(target=commit, args=(url, batch, seconds, go, answers))
    committer.start()
    answers.get()
    go.set()
    rng, took, until = random.Random(3), [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        one = rng.choice(asked)
        started = time.perf_counter()
        state.read([one])
        took.append(time.perf_counter() - started)
        time.sleep(0.0005)
    events, commit_ms = answers.get()
    committer.join()
    return {"events_per_s": events, "commit_ms": commit_ms, **shown(took)}


def commit(url: str, batch: int, seconds: float, go: Any, answers: Any) -> None:
    """Commits batches: for each event the features of a person and the ids seen; one partition after the other."""
    state, rng = opened(url), random.Random(4)
    blob, ids = rng.randbytes(BLOB), rng.randbytes(IDS)
    partitions = LAYOUT.all()[: LAYOUT.users]
    fences = {p: view.position for p, view in zip(partitions, state.read([(p, []) for p in partitions]), strict=True)}
    answers.put("ready")
    go.wait()
    took, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        partition = partitions[len(took) % len(partitions)]
        writes: dict[Key, bytes | None] = {META_KEY: b"m" * 60}
        for number in range(batch):
            writes[b"uwriter-%d" % number] = blob
            writes[b"dwriter-%d" % number] = ids
        fence = fences[partition]
        started = time.perf_counter()
        (found,) = state.commit([Commit(partition, fence, fence + batch, writes)])
        took.append(time.perf_counter() - started)
        assert found is None
        fences[partition] += batch
    answers.put((len(took) * batch / seconds, 1_000 * float(np.median(took))))
    state.close()


def shown(took: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    p50, p99 = np.percentile(took, [50, 99]) * 1_000
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.redis_read", description=__doc__)
    parser.add_argument("--brief", action="store_true", help="smaller, in about ten seconds")
    given = parser.parse_args()
    told = measure(users=5_000, reads=4_000, seconds=1.5) if given.brief else measure()
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
