"""Recorded ratings replayed in time order through HTTP; slates asked for before some of them, and judged by them."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penchant.assembly import Embedded, open_folder
from penchant.cli.context import err, out
from penchant.cli.demo.folder import announce, stay, write_settings
from penchant.cli.demo.server import STARTING, DemoFailed, Server, Training
from penchant.cli.evaluate import results
from penchant.cli.importers import Options
from penchant.cli.importers import open as open_source
from penchant.cli.init import preset
from penchant.cli.progress import Tell, bars
from penchant.client import Client
from penchant.core.events import Event, Interaction
from penchant.core.hashing import hash_id
from penchant.core.schema import Schema
from penchant.evaluation.prequential import Variant
from penchant.serving import wire
from penchant.settings import parse

K = 10
SETTINGS = """
[surfaces.popular]
sources = [{ name = "trending", n = 1000 }]
filters = ["seen", "hidden", "listed"]
rank = "source"
"""
"""The baseline: decayed popularity under the same filters."""


def replay_ratings(
    folder: Path, data: Path, *, requests: int, seed: int, once: bool, begun: float, json: bool
) -> dict[str, Any]:
    """Send the first half, train, then walk through the second half: slates before likes, then the likes themselves.

    `live` is what the server shows, `frozen` what it would show had its state stopped at the half, `popular` decayed
    popularity of the live server. Same requests, same filters; what is judged is whether the film liked next is shown.
    """
    text = preset("ratings") + SETTINGS
    write_settings(folder, text)
    schema = Schema.of(parse(text))
    source = open_source(data, Options(schema=schema), None)
    events = list(source.events)
    positive = {name for name, action in schema.actions.items() if action.weight > 0}
    likes = [at for at, event in enumerate(events) if isinstance(event, Interaction) and event.action in positive]
    if len(likes) < 2 * K:
        raise DemoFailed(f"{data} has only {len(likes)} ratings that count as likes; more are needed")
    half = likes[len(likes) // 2]
    picked = np.unique(np.linspace(len(likes) // 2, len(likes) - 1, requests).astype(int))
    targets = [likes[at] for at in picked.tolist()]
    server = Server(folder)
    try:
        with bars() as tell, Client(server.url, timeout=30.0) as client:
            tell(STARTING, 0, 1)
            server.wait_ready()
            tell(STARTING, 1, 1)
            sent = _send(client, events[:half], tell, 0, half, "first half")
            first = time.monotonic() - begun
            tell("train", 0, 1)
            # Ratings come without impressions: they tell an order, not how likely anything is.
            trained = Training(folder, simulate=4_000, seed=seed, objective="lambdarank").result()
            tell("train", 1, 1)
            client.recommend(wire.Request(user_id="u", record=False, after=sent, wait_ms=10_000))
            with _frozen(folder) as frozen:
                variants, users, latency = _walk(client, frozen, events, half, targets, tell)
        rows = [one.report(None if one is variants[0] else variants[0], users) for one in variants]
        live, frozen_figures, popular = (float(row[f"ndcg@{K}"]) for row in rows)
        figures: dict[str, Any] = {
            "variants": rows,
            "training": trained,
            "events": len(events),
            "request": latency,
            "seconds": {"first_slate": round(first, 1), "total": round(time.monotonic() - begun, 1)},
            "passed": live > popular and live > frozen_figures,
        }
        if not json:
            announce(trained, json)
            out.print(results(rows, K, f"{data.name}: {len(users)} slates, each judged by the film liked next"))
            out.print(f"request p50 / p99 {latency['p50_ms']:.1f} / {latency['p99_ms']:.1f} ms (reading its own write)")
            out.print(f"time to first slate {first:.1f} s, total {figures['seconds']['total']:.1f} s")
        if not once:
            stay(server, str(users[-1]) if users else "1", folder)
    finally:
        server.stop()
    return figures


def _send(client: Client, events: Sequence[Event], tell: Tell, done: int, total: int, step: str) -> str:
    position = "0"
    for at in range(0, len(events), 1_000):
        chunk = events[at : at + 1_000]
        position = client.send(chunk).position
        tell(step, done + at + len(chunk), total)
    return position


def _walk(
    client: Client, frozen: Embedded, events: Sequence[Event], half: int, targets: Sequence[int], tell: Tell
) -> tuple[list[Variant], list[int], dict[str, float]]:
    """Ask before each target, then go on; ranks of the film that was liked, by variant, and the users."""
    ranks: dict[str, list[int]] = {"live": [], "frozen": [], "popular": []}
    users: list[int] = []
    seconds: list[float] = []
    position, at = "0", half
    for done, target in enumerate(targets, start=1):
        if target > at:
            position = _send(client, events[at:target], lambda *_: None, 0, 1, "")
            at = target
        event = events[target]
        if not isinstance(event, Interaction):
            raise TypeError(type(event).__name__)
        for name, surface in (("live", "home"), ("popular", "popular")):
            request = wire.Request(
                user_id=event.user_id, surface=surface, n=K, record=False, after=position, wait_ms=10_000
            )
            begun = time.perf_counter()
            answer = client.recommend(request)
            if name == "live":
                seconds.append(time.perf_counter() - begun)
            ranks[name].append(_rank(answer, event.item_id))
        answer = frozen.recommend(wire.Request(user_id=event.user_id, n=K, record=False))
        ranks["frozen"].append(_rank(answer, event.item_id))
        users.append(hash_id(event.user_id))
        tell("second half", done, len(targets))
    _send(client, events[at:], lambda *_: None, 0, 1, "")
    p50, p99 = np.percentile(np.array(seconds) * 1_000, [50, 99])
    variants = [Variant(name, np.array(found, np.int64), K) for name, found in ranks.items()]
    return variants, users, {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def _rank(answer: wire.Answer, item_id: str) -> int:
    return next((shown.rank for shown in answer.items if shown.item_id == item_id), 0)


def _frozen(folder: Path) -> Embedded:
    """An engine on a copy of the folder that folds nothing more."""
    copy = folder / "frozen"
    copy.mkdir()
    shutil.copy(folder / "penchant.toml", copy)
    shutil.copytree(folder / "artifacts", copy / "artifacts", dirs_exist_ok=True)
    for name in ("log.sqlite", "state.sqlite"):
        with sqlite3.connect(folder / name) as source, sqlite3.connect(copy / name) as target:
            source.backup(target)
        source.close()
        target.close()
    err.print("[dim]a copy of the state was frozen here[/]")
    return open_folder(copy, background=False, fold=False)
