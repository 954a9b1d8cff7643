"""What the clients say and understand, without a socket: one call with its retries as a small state machine."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from penchant.core.errors import PenchantError
from penchant.core.events import Event, to_builtins
from penchant.serving import wire
from penchant.serving.problems import ProblemDocument

T = TypeVar("T")
MAX_EVENTS = 1_000
MAX_BYTES = 1_000_000
"""What one body carries at most; longer batches are sent in several."""

_TRY_AGAIN = frozenset({429, 502, 503, 504})
_problem = msgspec.json.Decoder(ProblemDocument)


class ApiError(PenchantError):
    """A call did not get its answer; `request_id` is the name that the server's log knows it by."""

    def __init__(self, message: str, *, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class Refused(ApiError):
    """The server will not answer this call as it is; `problem` says why and how to mend it."""

    def __init__(self, problem: ProblemDocument, *, request_id: str) -> None:
        field = problem.errors[0].field if problem.errors else ""
        where = f"{field}: " if field and field not in problem.detail else ""
        super().__init__(f"{problem.status} {problem.title}: {where}{problem.detail}", request_id=request_id)
        self.status = problem.status
        self.problem = problem


class Unavailable(ApiError):
    """The server could not be reached or could not answer now, however often it was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a call is tried, and how long the pauses are: doubling from `first` to `most` seconds, with jitter.

    `jitter` draws from [0, 1). A longer `Retry-After` of the server is kept to, up to `most`.
    """

    attempts: int = 4
    first: float = 0.1
    most: float = 5.0
    jitter: Callable[[], float] = random.SystemRandom().random

    def pause(self, tried: int, at_least: float = 0.0) -> float:
        """Seconds to wait after that many tries."""
        ceiling = min(self.most, self.first * 2.0 ** (tried - 1))
        return min(self.most, max(at_least, ceiling * (0.5 + self.jitter() / 2)))


class Conversation(Generic[T]):
    """One call: what to send, told what came back, says how long to pause before sending it again.

    Every call here may be repeated: events have ids, and a slate's impression is recorded once per request id.
    `size` is the number of events in it, `waits` the seconds that the server may take on purpose.
    """

    def __init__(
        self,
        method: str,
        path: str,
        decode: Callable[[bytes], T],
        *,
        body: bytes | None = None,
        size: int = 1,
        waits: float = 0.0,
        also: frozenset[int] = frozenset(),
        retry: Retry,
    ) -> None:
        self.method = method
        self.path = path
        self.body = body
        self.size = size
        self.waits = waits
        self.request_id = uuid.uuid4().hex
        self._decode = decode
        self._answers = also | {200, 202}
        self._retry = retry
        self._tried = 0
        self._result: tuple[T] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of this call."""
        content = {} if self.body is None else {"Content-Type": "application/json"}
        return {"X-Request-Id": self.request_id, **content}

    @property
    def result(self) -> T:
        """The answer, once `received` returned None."""
        if self._result is None:
            raise RuntimeError("the answer has not been received")
        return self._result[0]

    def received(self, status: int, headers: Mapping[str, str], body: bytes) -> float | None:
        """Take an answer: None when it is the result, else the seconds to wait before the next try.

        Raises `Refused`, and `Unavailable` when the tries are used up.
        """
        if status in self._answers:
            try:
                self._result = (self._decode(body),)
            except msgspec.DecodeError as error:
                text = f"the answer is none of Penchant's ({error}); is the address right?"
                raise Unavailable(text, request_id=self.request_id) from None
            return None
        problem = _problem_of(status, body)
        if status not in _TRY_AGAIN:
            raise Refused(problem, request_id=self.request_id)
        after = headers.get("retry-after", "")
        return self._again(problem.detail, float(after) if after.isdigit() and len(after) < 9 else 0.0)

    def failed(self, error: Exception) -> float:
        """Take a failure of the connection: the seconds to wait; raises `Unavailable` when the tries are used up."""
        return self._again(str(error) or type(error).__name__, 0.0)

    def _again(self, why: str, at_least: float) -> float:
        self._tried += 1
        if self._tried >= self._retry.attempts:
            raise Unavailable(f"tried {self._tried} times: {why}", request_id=self.request_id)
        return self._retry.pause(self._tried, at_least)


def sending(events: Sequence[Event | Mapping[str, Any]], retry: Retry) -> list[Conversation[wire.Accepted]]:
    """The calls that send events, in order; events without an id get one, so that a repeated call counts once."""
    bodies: list[list[bytes]] = [[]]
    size = 0
    for event in events:
        raw = to_builtins(event) if isinstance(event, Event) else dict(event)
        if raw.get("id") is None:
            raw["id"] = uuid.uuid4().hex
        row = msgspec.json.encode(raw)
        size += len(row) + 1
        if bodies[-1] and (len(bodies[-1]) >= MAX_EVENTS or size > MAX_BYTES):
            bodies.append([])
            size = len(row) + 1
        bodies[-1].append(row)
    decode = msgspec.json.Decoder(wire.Accepted).decode
    return [
        Conversation(
            "POST",
            "/v1/events",
            decode,
            body=b'{"events":[' + b",".join(rows) + b"]}",
            size=len(rows),
            also=frozenset({422}),
            retry=retry,
        )
        for rows in bodies
    ]


def merged(sizes: Sequence[int], parts: Sequence[wire.Accepted]) -> wire.Accepted:
    """One answer for a batch that was sent in several bodies; indexes count through all of them."""
    rejected, before = [], 0
    for size, part in zip(sizes, parts, strict=True):
        rejected += [msgspec.structs.replace(one, index=one.index + before) for one in part.rejected]
        before += size
    return wire.Accepted(
        accepted=sum(part.accepted for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        rejected=rejected,
        position=parts[-1].position,
    )


def recommending(request: wire.Request, retry: Retry) -> Conversation[wire.Answer]:
    """The call that asks for a slate."""
    decode = msgspec.json.Decoder(wire.Answer).decode
    waits = request.wait_ms / 1_000 if request.after is not None else 0.0
    body = msgspec.json.encode(request)
    return Conversation("POST", "/v1/recommendations", decode, body=body, waits=waits, retry=retry)


def rows_of(user_id: str, n: int, size: int, where: wire.Where, retry: Retry) -> Conversation[wire.Rows]:
    """The call that asks for rows."""
    asked = urlencode({"n": n, "size": size, **({"where": msgspec.json.encode(where)} if where else {})})
    path = f"/v1/users/{quote(user_id, safe='')}/rows?{asked}"
    return Conversation("GET", path, msgspec.json.Decoder(wire.Rows).decode, retry=retry)


def looking(path: str, kind: type[T], retry: Retry, *ids: str) -> Conversation[T]:
    """A call that only looks; `{}` in the path stand for ids."""
    decode = msgspec.json.Decoder(kind).decode
    return Conversation("GET", path.format(*(quote(one, safe="") for one in ids)), decode, retry=retry)


def _problem_of(status: int, body: bytes) -> ProblemDocument:
    """The problem document of an answer, or one made up for an answer that came from something in between."""
    try:
        return _problem.decode(body)
    except msgspec.DecodeError:
        detail = f"answered {status} without saying why; something between here and the server may have"
        return ProblemDocument(type="about:blank", title="Refused", status=status, detail=detail, errors=[])
