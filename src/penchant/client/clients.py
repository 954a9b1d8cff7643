"""The clients: the same calls, once waiting and once awaiting. All they share is in `conversation`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from penchant.client.conversation import Conversation, Retry, looking, merged, recommending, rows_of, sending
from penchant.core.events import Event
from penchant.serving import wire

T = TypeVar("T")


class Client:
    """A client that waits. Safe to call from several threads; use it as a context manager, or close it.

    Raises `Refused` for what the server will not answer as it is, `Unavailable` when it cannot be reached.

    >>> with Client("http://127.0.0.1:8080") as client:
    ...     client.close()
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = 5.0,
        *,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(key), timeout=timeout, transport=transport)
        self._timeout = timeout
        self._retry = retry or Retry()
        self._sleep = sleep

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, events: Sequence[Event | Mapping[str, Any]]) -> wire.Accepted:
        """Send events, built or as JSON objects; what is rejected is in the answer, by its place in `events`.

        Durable when it returns. A repeated try counts nothing twice; to repeat the call yourself, give events ids.
        """
        parts = sending(events, self._retry)
        return merged([part.size for part in parts], [self._run(part) for part in parts])

    def recommend(self, request: wire.Request) -> wire.Answer:
        """The slate for a request."""
        return self._run(recommending(request, self._retry))

    def rows(self, user_id: str, n: int = 3, size: int = 10, where: wire.Where | None = None) -> wire.Rows:
        """A row for each of the newest items that the user took."""
        return self._run(rows_of(user_id, n, size, where or {}, self._retry))

    def item(self, item_id: str) -> wire.ItemAnswer:
        """One item as the state has it."""
        return self._run(looking("/v1/items/{}", wire.ItemAnswer, self._retry, item_id))

    def user(self, user_id: str) -> wire.UserAnswer:
        """One user's live state."""
        return self._run(looking("/v1/users/{}", wire.UserAnswer, self._retry, user_id))

    def status(self) -> wire.Status:
        """Where the engine stands."""
        return self._run(looking("/v1/status", wire.Status, self._retry))

    def _run(self, talk: Conversation[T]) -> T:
        while True:
            try:
                answer = self._http.request(
                    talk.method,
                    talk.path,
                    content=talk.body,
                    headers=talk.headers,
                    timeout=self._timeout + talk.waits,
                )
            except httpx.TransportError as error:
                pause: float | None = talk.failed(error)
            else:
                pause = talk.received(answer.status_code, answer.headers, answer.content)
            if pause is None:
                return talk.result
            self._sleep(pause)


class AsyncClient:
    """A client that awaits; otherwise as `Client`."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout: float = 5.0,
        *,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout, transport=transport)
        self._timeout = timeout
        self._retry = retry or Retry()
        self._sleep = sleep

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, events: Sequence[Event | Mapping[str, Any]]) -> wire.Accepted:
        """As `Client.send`."""
        parts = sending(events, self._retry)
        return merged([part.size for part in parts], [await self._run(part) for part in parts])

    async def recommend(self, request: wire.Request) -> wire.Answer:
        """As `Client.recommend`."""
        return await self._run(recommending(request, self._retry))

    async def rows(self, user_id: str, n: int = 3, size: int = 10, where: wire.Where | None = None) -> wire.Rows:
        """As `Client.rows`."""
        return await self._run(rows_of(user_id, n, size, where or {}, self._retry))

    async def item(self, item_id: str) -> wire.ItemAnswer:
        """As `Client.item`."""
        return await self._run(looking("/v1/items/{}", wire.ItemAnswer, self._retry, item_id))

    async def user(self, user_id: str) -> wire.UserAnswer:
        """As `Client.user`."""
        return await self._run(looking("/v1/users/{}", wire.UserAnswer, self._retry, user_id))

    async def status(self) -> wire.Status:
        """As `Client.status`."""
        return await self._run(looking("/v1/status", wire.Status, self._retry))

    async def _run(self, talk: Conversation[T]) -> T:
        while True:
            try:
                answer = await self._http.request(
                    talk.method,
                    talk.path,
                    content=talk.body,
                    headers=talk.headers,
                    timeout=self._timeout + talk.waits,
                )
            except httpx.TransportError as error:
                pause: float | None = talk.failed(error)
            else:
                pause = talk.received(answer.status_code, answer.headers, answer.content)
            if pause is None:
                return talk.result
            await self._sleep(pause)


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}
