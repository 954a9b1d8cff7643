from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from penchant.client import AsyncClient, Client, Refused, Retry, Unavailable
from penchant.core.events import Interaction, ItemUpdate
from penchant.serving import wire
from penchant.serving.auth import Keys
from penchant.serving.http import create_app
from penchant.settings import parse
from serving.fake_engine import FakeEngine

SETTINGS = parse('[actions]\nclick = { weight = 1.0 }\n[attributes.item]\ntitle = "text"\n')
TAKEN = {"accepted": 1, "duplicates": 0, "rejected": [], "position": "7"}
RETRY = Retry(attempts=4, first=0.1, most=5.0, jitter=lambda: 1.0)

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler, pauses: list[float] | None = None) -> Client:
    sleep = (pauses if pauses is not None else []).append
    return Client("http://server", "key", retry=RETRY, transport=httpx.MockTransport(handler), sleep=sleep)


def answers(*replies: httpx.Response | Exception, seen: list[httpx.Request] | None = None) -> Handler:
    waiting = list(replies)

    def handler(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        reply = waiting.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return handler


def test_a_repeated_send_carries_the_same_event_ids_and_request_id():
    seen: list[httpx.Request] = []
    pauses: list[float] = []
    handler = answers(
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503),
        httpx.Response(202, json=TAKEN),
        seen=seen,
    )
    with client_of(handler, pauses) as client:
        accepted = client.send([Interaction(user_id="u", item_id="i", action="click")])
    assert accepted == msgspec.convert(TAKEN, wire.Accepted)
    assert len({request.content for request in seen}) == 1
    assert len({request.headers["x-request-id"] for request in seen}) == 1
    assert json.loads(seen[0].content)["events"][0]["id"]
    assert seen[0].headers["authorization"] == "Bearer key"
    assert pauses == [0.1, 0.2, 0.4]


def test_the_callers_own_ids_are_kept():
    seen: list[httpx.Request] = []
    with client_of(answers(httpx.Response(202, json=TAKEN), seen=seen)) as client:
        client.send([{"type": "item_removed", "item_id": "i", "id": "mine"}])
    assert json.loads(seen[0].content) == {"events": [{"type": "item_removed", "item_id": "i", "id": "mine"}]}


def test_retry_after_is_kept_to_up_to_a_bound():
    pauses: list[float] = []
    handler = answers(
        httpx.Response(503, headers={"Retry-After": "2"}),
        httpx.Response(503, headers={"Retry-After": "99999"}),
        httpx.Response(503, headers={"Retry-After": "soon"}),
        httpx.Response(202, json=TAKEN),
    )
    with client_of(handler, pauses) as client:
        client.send([{"type": "item_removed", "item_id": "i"}])
    assert pauses == [2.0, 5.0, 0.4]


def test_jitter_draws_from_the_upper_half():
    low, high = Retry(jitter=lambda: 0.0), Retry(jitter=lambda: 0.999)
    assert low.pause(2) == pytest.approx(0.1)
    assert 0.19 < high.pause(2) <= 0.2
    assert high.pause(30) <= high.most


def test_it_gives_up_after_the_last_try():
    with (
        client_of(answers(*[httpx.ConnectError("refused")] * 4)) as client,
        pytest.raises(Unavailable, match="4 times"),
    ):
        client.send([{"type": "item_removed", "item_id": "i"}])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 500])
def test_a_refusal_is_raised_once_with_its_problem(status: int):
    problem = {
        "type": "urn:x",
        "title": "No",
        "status": status,
        "detail": "mend it",
        "errors": [{"index": None, "field": "n", "reason": "out_of_range", "message": "n must be 1 or more"}],
    }
    with client_of(answers(httpx.Response(status, json=problem))) as client, pytest.raises(Refused) as caught:
        client.recommend(wire.Request(user_id="u"))
    assert caught.value.status == status
    assert caught.value.problem.errors[0].reason == "out_of_range"
    assert "mend it" in str(caught.value)


def test_an_answer_from_something_in_between_is_named_as_such():
    with client_of(answers(httpx.Response(404, text="<html>nginx"))) as client, pytest.raises(Refused, match="between"):
        client.status()
    with (
        client_of(answers(httpx.Response(200, text="<html>login"))) as client,
        pytest.raises(Unavailable, match="address"),
    ):
        client.status()


def test_a_batch_of_rejected_events_is_an_answer():
    body = {
        "accepted": 0,
        "duplicates": 0,
        "rejected": [{"index": 0, "id": None, "field": "type", "reason": "missing", "message": "say which"}],
        "position": "3",
    }
    with client_of(answers(httpx.Response(422, json=body))) as client:
        assert client.send([{}]).rejected[0].reason == "missing"


def test_a_long_batch_goes_in_several_bodies_and_comes_back_as_one():
    def handler(request: httpx.Request) -> httpx.Response:
        count = len(json.loads(request.content)["events"])
        rejected = [{"index": count - 1, "id": None, "field": "f", "reason": "r", "message": "m"}]
        return httpx.Response(202, json={**TAKEN, "accepted": count - 1, "rejected": rejected})

    with client_of(handler) as client:
        accepted = client.send([{"type": "item_removed", "item_id": "i"}] * 2_500)
    assert accepted.accepted == 2_497
    assert [one.index for one in accepted.rejected] == [999, 1_999, 2_499]


def test_bodies_stay_below_the_servers_bound():
    sizes: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sizes.append(len(request.content))
        return httpx.Response(202, json=TAKEN)

    with client_of(handler) as client:
        client.send([{"type": "item", "item_id": "i", "attributes": {"title": "x" * 10_000}}] * 300)
    assert len(sizes) > 1
    assert max(sizes) <= 1_048_576


def test_an_empty_batch_asks_for_the_position():
    with client_of(answers(httpx.Response(202, json={**TAKEN, "accepted": 0}))) as client:
        assert client.send([]).position == "7"


def test_ids_are_quoted_in_paths():
    seen: list[httpx.Request] = []
    item = {"item_id": "a/b %", "attributes": {}, "listed": True, "counters": {}, "features": {}}
    with client_of(answers(httpx.Response(200, json=item), seen=seen)) as client:
        client.item("a/b %")
    assert seen[0].url.raw_path == b"/v1/items/a%2Fb%20%25"


def test_unknown_fields_of_a_newer_server_are_ignored():
    with client_of(answers(httpx.Response(202, json={**TAKEN, "news": 1}))) as client:
        assert client.send([]).position == "7"


def test_the_async_client_talks_to_a_server():
    engine = FakeEngine(SETTINGS)
    app = create_app(engine, SETTINGS, Keys.parse("secret:ingest+read"))

    async def talk() -> Any:
        async with AsyncClient("http://server", "secret", transport=httpx.ASGITransport(app)) as client:
            await client.send([ItemUpdate(item_id="a/b", attributes={"title": "Heat"})])
            accepted = await client.send([Interaction(user_id="u", item_id="a/b", action="click", id="e1")])
            again = await client.send([Interaction(user_id="u", item_id="a/b", action="click", id="e1")])
            slate = await client.recommend(wire.Request(user_id="u", fields=["title"], after=accepted.position))
            return again, slate, await client.item("a/b"), await client.user("u"), await client.status()

    again, slate, item, user, status = asyncio.run(talk())
    assert again.duplicates == 1
    assert slate.items[0].attributes == {"title": "Heat"}
    assert slate.degraded == []
    assert item.counters == {"click": 1}
    assert user.recent[0].item_id == "a/b"
    assert status.position == "2"


def test_the_async_client_retries_too():
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def talk() -> wire.Accepted:
        transport = httpx.MockTransport(answers(httpx.ConnectError("no"), httpx.Response(202, json=TAKEN)))
        async with AsyncClient("http://server", retry=RETRY, transport=transport, sleep=sleep) as client:
            return await client.send([])

    assert asyncio.run(talk()).position == "7"
    assert pauses == [0.1]
