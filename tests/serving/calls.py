"""Calls into an ASGI application, without a socket; each runs in an event loop of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Caller:
    """A client whose methods return when the answer is there."""

    def __init__(self, app: Any, **headers: str) -> None:
        self._app = app
        self._headers = headers

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._call(method, path, options))

    async def _call(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server", headers=self._headers) as client:
            return await client.request(method, path, **options)

    def send(self, *events: dict[str, Any]) -> httpx.Response:
        return self("POST", "/v1/events", json={"events": list(events)})

    def recommend(self, **request: Any) -> httpx.Response:
        return self("POST", "/v1/recommendations", json=request)
