"""Events in and folded: how many a second, and how soon the next slate knows of one.

    python -m bench.ingest [--events 100000]

The preset `films` with its eighteen features; 2,000 films, 5,000 viewers, both drawn by popularity. Appends are
durable before they return (`synchronous=FULL`); folding goes on beside them until nothing is left.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penchant.assembly import open_folder
from penchant.assembly.parts import open_parts
from penchant.cli.init import preset
from penchant.core.events import Event, ItemUpdate, UserUpdate
from penchant.serving import wire
from penchant.settings import load
from penchant.stream.runner import StreamRunner

BATCH = 1_000
ACTIONS = ("click", "click", "click", "watch", "like", "hide")


def world(folder: Path, films: int, viewers: int, seed: int = 0) -> list[Event]:
    """The settings of the preset in `folder`, and its films and viewers as events."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penchant.toml").write_text(preset("films"))
    rng = np.random.default_rng(seed)
    genres = [f"genre{n}" for n in range(20)]
    events: list[Event] = [
        ItemUpdate(
            item_id=f"film{film}",
            attributes={
                "title": " ".join(f"word{int(n)}" for n in 5_000 * rng.random(3) ** 3),
                "genres": [genres[n] for n in rng.choice(20, int(rng.integers(1, 4)), replace=False)],
                "creator": f"creator{int(rng.zipf(1.5)) % (films // 5 + 1)}",
                "country": f"country{int(rng.integers(0, 12))}",
                "year": int(rng.integers(1950, 2024)),
                "runtime": int(rng.integers(60, 200)),
                "adult": bool(rng.random() < 0.02),
            },
        )
        for film in range(films)
    ]
    events += [
        UserUpdate(user_id=f"viewer{n}", attributes={"country": f"country{n % 12}", "age": 18 + n % 60, "adult": True})
        for n in range(viewers)
    ]
    return events


def interactions(count: int, films: int, viewers: int, seed: int = 1, skew: int = 2) -> list[dict[str, Any]]:
    """Interactions as JSON objects; a fifth of the films and viewers make most of them."""
    rng = np.random.default_rng(seed)
    who = (viewers * rng.random(count) ** 2).astype(int).tolist()
    what = (films * rng.random(count) ** skew).astype(int).tolist()
    how = rng.integers(0, len(ACTIONS), count).tolist()
    told: list[dict[str, Any]] = []
    for number, (viewer, film, action) in enumerate(zip(who, what, how, strict=True)):
        event = {
            "type": "interaction",
            "id": f"e{seed}-{number}",
            "user_id": f"viewer{viewer}",
            "item_id": f"film{film}",
            "action": ACTIONS[action],
        }
        if ACTIONS[action] == "watch":
            event["value"] = 60.0 * (number % 90)
        told.append(event)
    return told


def measure(events: int = 100_000, films: int = 2_000, viewers: int = 5_000) -> dict[str, Any]:
    """Events a second in one process (fold in a thread beside the appends) and in two; latencies of single events."""
    raw = interactions(events, films, viewers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told: dict[str, Any] = {
            "events": events,
            "batch": BATCH,
            "one_process": _together(folder / "a", raw, films, viewers),
        }
        told["two_processes"] = _apart(folder / "b", raw, films, viewers)
        told["single"] = _singles(folder / "a", films, viewers, min(300, events))
    return told


def _start(folder: Path, films: int, viewers: int) -> None:
    first = world(folder, films, viewers)
    parts = open_parts(folder, load(folder))
    try:
        parts.log.append(first)
        runner = StreamRunner(parts.log, parts.store, parts.definition.folds())
        while runner.step():
            pass
    finally:
        parts.close()


def _together(folder: Path, raw: Sequence[object], films: int, viewers: int) -> dict[str, float]:
    _start(folder, films, viewers)
    with open_folder(folder, environ={}) as engine:
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(raw), BATCH):
            engine.send(raw[start : start + BATCH])
        appended = time.perf_counter()
        while engine.runner.position < engine.parts.log.end():
            time.sleep(0.002)
        folded = time.perf_counter()
        return {
            "append_per_s": len(raw) / (appended - began),
            "end_to_end_per_s": len(raw) / (folded - began),
            "lag_at_the_last_append_ms": (folded - appended) * 1_000,
            "cpu_us_per_event": (time.process_time() - cpu) / len(raw) * 1e6,
        }


def _apart(folder: Path, raw: Sequence[object], films: int, viewers: int) -> dict[str, float]:
    _start(folder, films, viewers)
    context = multiprocessing.get_context("spawn")
    ready, told = context.Event(), context.Queue()
    process = context.Process(target=_fold, args=(folder, ready, told, len(raw)))
    process.start()
    ready.wait()
    with open_folder(folder, fold=False, environ={}) as engine:
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(raw), BATCH):
            engine.send(raw[start : start + BATCH])
        appended, spent = time.perf_counter(), time.process_time() - cpu
        fold_cpu = told.get()
        folded = time.perf_counter()
    process.join()
    return {
        "append_per_s": len(raw) / (appended - began),
        "append_per_cpu_s": len(raw) / spent,
        "fold_per_cpu_s": len(raw) / fold_cpu,
        "end_to_end_per_s": len(raw) / (folded - began),
        "lag_at_the_last_append_ms": (folded - appended) * 1_000,
    }


def _fold(folder: Path, ready: Any, told: Any, wanted: int) -> None:
    parts = open_parts(folder, load(folder))
    runner = StreamRunner(parts.log, parts.store, parts.definition.folds())
    target = parts.log.end() + wanted
    while runner.step():
        pass
    _warm(parts)
    ready.set()
    parts.log.wait(runner.position, 60.0)
    cpu = time.process_time()
    while runner.position < target:
        if not runner.step():
            parts.log.wait(runner.position, 0.05)
    told.put(time.process_time() - cpu)
    parts.close()


def _warm(parts: Any) -> None:
    """Load the compiled loops of the fold: on a copy of the state that nothing keeps."""
    from penchant.assembly.surfaces import SurfaceCompiler
    from penchant.assembly.warmup import WarmUp

    compiler = SurfaceCompiler(parts.definition, parts.artifacts)
    WarmUp(parts.definition).run(compiler.compile(""), None)


def _singles(folder: Path, films: int, viewers: int, count: int) -> dict[str, float]:
    """One event after another: until it is durable, and until a slate asked for with `after` knows of it."""
    durable, fresh = [], []
    with open_folder(folder, environ={}) as engine:
        for event in interactions(count, films, viewers, seed=7):
            began = time.perf_counter()
            accepted = engine.send([event])
            durable.append(time.perf_counter() - began)
            request = wire.Request(user_id=event["user_id"], n=20, after=accepted.position, wait_ms=5_000, record=False)
            engine.recommend(request)
            fresh.append(time.perf_counter() - began)
    return {
        f"{name}_p{percent}_ms": float(np.percentile(times, percent)) * 1_000
        for name, times in (("durable", durable), ("event_to_slate", fresh))
        for percent in (50, 99)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    print(json.dumps(measure(parser.parse_args().events), indent=2))


if __name__ == "__main__":
    main()
