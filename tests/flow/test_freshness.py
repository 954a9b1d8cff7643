"""A click through HTTP changes the very next slate: always with `after`, in a few milliseconds without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from flow.world import FILMS, film, viewer
from penchant.cli.demo.server import Server
from penchant.core.events import to_builtins

CLICKS = 220
FILMS_SHOWN = 400


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("freshness")
    (folder / "penchant.toml").write_text(FILMS, encoding="utf-8")
    server = Server(folder)
    try:
        server.wait_ready()
        with httpx.Client(base_url=server.url, timeout=20.0) as client:
            first = [to_builtins(film(number)) for number in range(FILMS_SHOWN)]
            first += [to_builtins(viewer(number)) for number in range(20)]
            first += [
                {"type": "interaction", "user_id": f"crowd {number % 70}", "item_id": f"f{number}", "action": "click"}
                for number in range(FILMS_SHOWN)
            ]
            told = _sent(client, first)
            for number in range(20):  # kernels are loaded, the pages are warm
                _slate(client, f"u{number}", after=told["position"], wait_ms=10_000)
            yield client
    finally:
        server.stop()


def _sent(client: httpx.Client, events: list[dict[str, object]]) -> dict[str, str]:
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    told: dict[str, str] = answer.json()
    return told


def _slate(client: httpx.Client, user: str, **more: object) -> dict[str, list[dict[str, str]]]:
    answer = client.post("/v1/recommendations", json={"user_id": user, "n": 10, **more})
    assert answer.status_code == httpx.codes.OK, answer.text
    told: dict[str, list[dict[str, str]]] = answer.json()
    return told


def _shown(slate: dict[str, list[dict[str, str]]]) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def _click(client: httpx.Client, user: str, item: str, number: str) -> dict[str, str]:
    return _sent(
        client, [{"type": "interaction", "user_id": user, "item_id": item, "action": "click", "id": f"click {number}"}]
    )


def test_the_next_slate_after_a_click_has_seen_it(client: httpx.Client, figures: Callable[[str], None]) -> None:
    changed, times = 0, []
    for number in range(CLICKS):
        user = f"u{number % 20}"
        item = _shown(_slate(client, user))[number % 5]
        told = _click(client, user, item, f"a{number}")
        start = time.perf_counter()
        slate = _slate(client, user, after=told["position"], wait_ms=5_000)
        times.append(1e3 * (time.perf_counter() - start))
        assert "stale" not in slate["degraded"]
        assert int(str(slate["position"])) >= int(told["position"])
        changed += item not in _shown(slate)
    p50, p99 = np.percentile(times, [50, 99])
    figures(
        f"{changed} of {CLICKS} clicks changed the very next slate asked with `after`"
        f" (the slate took p50 {p50:.1f} ms, p99 {p99:.1f} ms)"
    )
    assert changed == CLICKS


def test_without_after_the_click_shows_within_milliseconds(
    client: httpx.Client, figures: Callable[[str], None]
) -> None:
    times, at_once = [], 0
    for number in range(CLICKS):
        user = f"u{(number * 7) % 20}"
        item = _shown(_slate(client, user))[number % 5]
        _click(client, user, item, f"b{number}")
        start = time.perf_counter()
        tries = 1
        while item in _shown(_slate(client, user, record=False)):
            tries += 1
            assert time.perf_counter() - start < 5
        times.append(1e3 * (time.perf_counter() - start))
        at_once += tries == 1
    p50, p99 = np.percentile(times, [50, 99])
    figures(
        f"{CLICKS} clicks without `after`: from the 202 to a slate without the item p50 {p50:.1f} ms,"
        f" p99 {p99:.1f} ms, most {max(times):.1f} ms; the very next slate in {at_once} of {CLICKS}"
    )
    assert p99 <= 1_000  # 100 on a machine of its own; others share this one
