"""One HTTP call as handlers see it: what was asked, read within bounds, and what is answered."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, ParamSpec, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from penchant.serving.problems import Problem

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
JSON = b"application/json"
NDJSON = b"application/x-ndjson"
BODY_SECONDS = 30.0
"""How long a body may take to arrive."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_PARAMETERS = 20

P = ParamSpec("P")
T = TypeVar("T")


class Disconnected(Exception):
    """The caller went away; nobody is there to be answered."""


class Reply(NamedTuple):
    """An answer: ready bytes."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Mapping[str, str] = {}


class Call:
    """A call in progress; `scope` and `receive` as in ASGI."""

    __slots__ = ("_receive", "request_id", "scope")

    def __init__(self, scope: Any, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self.request_id = request_id_of(self.header(b"x-request-id"))

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower-case) name."""
        for key, value in self.scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return None

    def path_id(self, name: str) -> str:
        """An id from the path, percent-decoded; the path is matched undecoded, so that an id may hold a slash."""
        try:
            found = unquote_to_bytes(self.scope["path_params"][name]).decode()
        except UnicodeDecodeError:
            raise Problem(400, "invalid_utf8", "encode ids in the path as UTF-8, then in percent", field=name) from None
        if not 1 <= len(found) <= 128 or _CONTROL.search(found):
            raise Problem(400, "invalid_id", "use 1 to 128 characters without control characters", field=name)
        return found

    def parameters(self, *allowed: str) -> dict[str, str]:
        """The query parameters, each at most once; others than `allowed` are refused by name."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        try:
            pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
        except UnicodeDecodeError:
            raise Problem(400, "invalid_utf8", "encode the query as UTF-8, then in percent") from None
        except ValueError:
            raise Problem(400, "out_of_range", f"send at most {_MAX_PARAMETERS} query parameters") from None
        found: dict[str, str] = {}
        for name, value in pairs:
            if name not in allowed:
                there = f"there are: {', '.join(allowed)}" if allowed else "there are none"
                raise Problem(400, "unknown_field", f"{name[:60]!a} is no parameter here; {there}", field=name[:60])
            if name in found:
                raise Problem(400, "repeated", f"{name} is given twice; give it once", field=name)
            found[name] = value
        return found

    async def body(self, limit: int, *types: bytes) -> bytes:
        """The whole body, of one of the content types; stops reading as soon as it is longer than `limit`."""
        self._check_headers(limit, types or (JSON,))
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(limit)
        except TimeoutError:
            text = f"the body did not arrive within {BODY_SECONDS:.0f} s; send it again"
            raise Problem(408, "too_slow", text, headers={"Connection": "close"}) from None

    @property
    def content_type(self) -> bytes:
        """The media type of the body, lower-case, without parameters."""
        return (self.header(b"content-type") or b"").partition(b";")[0].strip().lower()

    def _check_headers(self, limit: int, types: tuple[bytes, ...]) -> None:
        if self.content_type not in types:
            wanted = " or ".join(kind.decode() for kind in types)
            raise Problem(415, "unsupported_media_type", f"send Content-Type: {wanted}", field="Content-Type")
        charset = (self.header(b"content-type") or b"").lower().partition(b"charset=")[2].strip(b' "')
        if charset not in {b"", b"utf-8", b"utf8"}:
            raise Problem(415, "unsupported_media_type", "send the body in UTF-8", field="Content-Type")
        if (self.header(b"content-encoding") or b"identity").strip().lower() not in {b"identity", b""}:
            text = "send the body as it is, without Content-Encoding"
            raise Problem(415, "unsupported_encoding", text, field="Content-Encoding")
        length = self.header(b"content-length") or b""
        if length.isdigit() and int(length[:20]) > limit:
            raise too_large(limit)

    async def _read(self, limit: int) -> bytes:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            whole: bytes = message.get("body", b"")
            if len(whole) > limit:
                raise too_large(limit)
            return whole
        parts, size = [], 0
        while message["type"] == "http.request":
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > limit:
                raise too_large(limit)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await self._receive()
        raise Disconnected


class Lane:
    """Threads for calls that wait. Beyond `most` calls at once it refuses, rather than let a queue grow without end.

    The threads start with the first call, also with the first after `close`.
    """

    def __init__(self, name: str, *, threads: int, most: int) -> None:
        self._name = name
        self._count = threads
        self._most = most
        self._busy = 0
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the call, made in a thread; raises `Problem` 503 when the lane is full."""
        if self._busy >= self._most:
            raise Problem(503, "busy", "too many calls at once; send it again", headers={"Retry-After": "1"})
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        self._busy += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))
        finally:
            self._busy -= 1

    def close(self) -> None:
        """Let the calls end that have begun."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)


def request_id_of(sent: bytes | None) -> str:
    """The caller's own id of the call when it is 1 to 128 visible characters, else a new one."""
    if sent is not None and _REQUEST_ID.match(sent):
        return sent.decode("ascii")
    return new_request_id()


_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()


def new_request_id() -> str:
    """An id that no other request has: random by process, then counted, as randomness of the system is slow to get."""
    return f"{_PROCESS}{next(_numbers):016x}"


def too_large(limit: int) -> Problem:
    """The refusal of a body that is too long."""
    text = f"the body is longer than {limit} bytes; send less at once, or raise max_body_bytes in [server]"
    return Problem(413, "too_large", text)
