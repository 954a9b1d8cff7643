"""From an event at `penchant collect` to what `penchant serve` answers, over Kafka, Redis and PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest

from penchant.client.outbox import emit
from penchant.core.clock import SystemClock
from servers.cluster.conftest import FILMS, Deployment
from servers.cluster.world import Service, click, film, until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.pg, pytest.mark.slow]

CLICKS = 100


def _both(deployment: Deployment) -> list[Service]:
    return [deployment.collect, deployment.shared]


def test_every_slate_asked_with_after_has_seen_the_click(
    deployment: Deployment, figures: Callable[[str], None]
) -> None:
    serve, changed, times = deployment.serve, 0, []
    for number in range(CLICKS):
        collect = _both(deployment)[number % 2]
        user = f"after-{number % 10}"
        item = serve.shown(user, record=False)[number % 5]
        began = time.perf_counter()
        told = collect.send([click(user, item, id=f"after-{number}")])
        slate = serve.slate(user, after=told["position"], wait_ms=10_000, record=False)
        times.append(1e3 * (time.perf_counter() - began))
        assert slate["degraded"] == []
        changed += item not in [one["item_id"] for one in slate["items"]]
    p50, p99 = np.percentile(times, [50, 99])
    figures(f"{changed} of {CLICKS} slates asked with `after` have seen the click; p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    assert changed == CLICKS


@pytest.mark.parametrize("which", [0, 1])
def test_answers_about_users_and_items_say_what_was_sent(deployment: Deployment, which: int) -> None:
    collect, serve, user, item = _both(deployment)[which], deployment.serve, f"told-{which}", f"f{which}"
    before = serve.get(f"/v1/items/{item}")["counters"]["watch"]
    token = collect.send(
        [
            {"type": "user", "user_id": user, "attributes": {"country": "PL"}},
            click(user, item, "watch", value=30.5),
            click(user, item, "watch", value=1.5),
            click(user, "f9"),
            click(user, "nowhere"),
        ]
    )["position"]
    for service in (serve, deployment.collect, deployment.stream):
        service.reaches(token)
    about = serve.get(f"/v1/users/{user}")
    assert about["attributes"] == {"country": "PL"}
    assert about["counters"] == {"view": 0, "click": 2, "watch": 2, "hide": 0}
    assert [one["action"] for one in about["recent"]] == ["click", "click", "watch", "watch"]
    # An item that nobody has named before has its name from the next picture of the items.
    until(lambda: _recent(serve, user) == ["nowhere", "f9", item, item])
    assert about["features"]["user_clicks_1h"] == 2
    until(lambda: serve.get(f"/v1/items/{item}")["counters"]["watch"] == before + 2)
    assert not {item, "f9"} & set(serve.shown(user, n=FILMS, after=about["position"]))


def test_an_application_writes_events_in_its_own_transaction(deployment: Deployment) -> None:
    serve = deployment.serve
    with psycopg.connect(deployment.database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (number int, item text)")
        connection.execute("INSERT INTO orders VALUES (812, 'f7')")
        emit(connection, click("buyer", "f7", id="order-812"))
    with psycopg.connect(deployment.database) as connection:
        connection.execute("INSERT INTO orders VALUES (813, 'f8')")
        emit(connection, click("buyer", "f8", id="order-813"))
        connection.rollback()
    with psycopg.connect(deployment.database) as connection:
        emit(connection, click("buyer", "f9", id="order-814"))
    wanted = ["f9", "f7"]
    until(lambda: _recent(serve, "buyer") == wanted)
    # The collector knows what the application has sent.
    assert deployment.shared.send([click("buyer", "f7", id="order-812")])["duplicates"] == 1


def test_an_event_through_two_collectors_counts_once(deployment: Deployment) -> None:
    collect, shared, serve = deployment.collect, deployment.shared, deployment.serve
    events = [click("twice", f"f{number}", id=f"twice-{number}") for number in range(10)]
    first = collect.send(events)
    second = shared.send(events)
    assert (first["accepted"], second["accepted"]) == (10, 10), "outboxes know nothing of each other"
    assert shared.send(events)["duplicates"] == 10
    for told in (first, second):
        serve.reaches(told["position"])
    assert serve.get("/v1/users/twice")["counters"]["click"] == 10
    items = [serve.get(f"/v1/items/f{number}")["counters"]["click"] for number in range(10)]
    time.sleep(0.5)
    assert [serve.get(f"/v1/items/f{number}")["counters"]["click"] for number in range(10)] == items


def test_what_comes_too_late_is_kept_and_not_counted(deployment: Deployment) -> None:
    collect, serve, now = deployment.collect, deployment.serve, SystemClock().now()
    hour = 3_600_000
    token = collect.send(
        [
            click("late", "f20", ts=now - 100 * hour),
            click("late", "f21", ts=now - 3 * hour),
            click("late", "f22", ts=now + 5 * hour),
        ]
    )["position"]
    serve.reaches(token)
    about = serve.get("/v1/users/late")
    assert about["counters"]["click"] == 2
    assert [one["item_id"] for one in about["recent"]] == ["f22", "f21"]
    assert about["features"]["user_clicks_1h"] == 1


def test_an_erased_user_is_gone(deployment: Deployment) -> None:
    collect, serve = deployment.collect, deployment.serve
    token = collect.send(
        [{"type": "user", "user_id": "gone", "attributes": {"country": "DE"}}, click("gone", "f30", id="gone-1")]
    )["position"]
    serve.reaches(token)
    counted = until(lambda: serve.get("/v1/items/f30")["counters"]["click"])
    assert serve.get("/v1/users/gone")["counters"]["click"] == 1
    answer = collect.client.delete("/v1/users/gone")
    assert answer.status_code == httpx.codes.ACCEPTED
    serve.reaches(answer.json()["position"])
    serve.get("/v1/users/gone", status=httpx.codes.NOT_FOUND)
    assert serve.get("/v1/items/f30")["counters"]["click"] == counted, "what items count names nobody"
    keys = deployment.redis.ask("EVAL", "return #redis.call('KEYS', ARGV[1])", "0", "films:*:?gone")
    assert keys == "0"
    serve.reaches(collect.send([click("gone", "f31")])["position"])
    assert [one["item_id"] for one in serve.get("/v1/users/gone")["recent"]] == ["f31"]


def test_the_catalogue_changes_at_once_for_who_asks_with_after(deployment: Deployment) -> None:
    collect, serve = deployment.collect, deployment.serve

    def wrote(method: str, item: str, **body: Any) -> str:
        answer = collect.client.request(method, f"/v1/items/{item}", **body)
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return str(answer.json()["position"])

    def shown(token: str) -> list[str]:
        slate = serve.slate("nobody", n=FILMS + 10, after=token, wait_ms=10_000, record=False)
        assert slate["degraded"] == []
        return [item["item_id"] for item in slate["items"]]

    new = film(900)["attributes"]
    assert "f900" in shown(wrote("PUT", "f900", json={"attributes": new}))
    token = wrote("PATCH", "f900", json={"attributes": {"creator": "somebody else"}})
    serve.reaches(token)
    assert serve.get("/v1/items/f900")["attributes"] == {**new, "creator": "somebody else"}
    asked = {"after": token, "wait_ms": 10_000, "fields": ["creator"], "items": ["f900"], "record": False}
    assert serve.slate("nobody", **asked)["items"][0]["attributes"] == {"creator": "somebody else"}
    assert "f900" not in shown(wrote("PATCH", "f900", json={"attributes": {}, "listed": False}))
    assert "f900" in shown(wrote("PATCH", "f900", json={"attributes": {}, "listed": True}))
    token = wrote("DELETE", "f900")
    assert "f900" not in shown(token)
    serve.get("/v1/items/f900", status=httpx.codes.NOT_FOUND)
    # By way of the other outbox it comes after what that one has sent of it.
    answer = deployment.shared.client.put("/v1/items/f901", json={"attributes": new})
    assert "f901" in shown(answer.json()["position"])


def test_what_was_shown_comes_back_as_a_feature(deployment: Deployment) -> None:
    serve = deployment.serve
    shown = serve.shown("viewer", n=5)
    item = shown[0]

    def seen(about: str) -> float:
        return float(serve.get(about)["features"].get("total_impression") or 0)

    before = until(lambda: seen(f"/v1/items/{item}"))
    while item not in serve.shown("viewer", n=5):
        pass
    until(lambda: seen(f"/v1/items/{item}") > before)
    serve.shown("viewer", n=5, record=False)


def test_services_say_what_is_not_theirs(deployment: Deployment) -> None:
    assert deployment.collect.client.post("/v1/recommendations", json={}).status_code == httpx.codes.NOT_FOUND
    assert deployment.stream.client.get("/v1/items/f1").status_code == httpx.codes.NOT_FOUND
    assert deployment.stream.client.post("/v1/events", json={"events": []}).status_code == httpx.codes.NOT_FOUND
    refused = deployment.serve.client.get("/v1/status", params={"position": "u001-12"})
    assert refused.status_code == httpx.codes.BAD_REQUEST
    for service in (deployment.collect, deployment.stream, deployment.serve):
        text = service.client.get("/metrics").text
        assert "penchant_build_info" in text
        assert "Traceback" not in service.said(), service.said()


def _recent(serve: Service, user: str) -> list[str]:
    answer = serve.client.get(f"/v1/users/{user}")
    return [one["item_id"] for one in answer.json()["recent"]] if answer.status_code == httpx.codes.OK else []
