"""The JSON of the public contract as typed structs: what requests may say and what answers look like."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, TypeVar

import msgspec

from penchant.core.errors import InvalidRequest
from penchant.core.events import AttributeValue
from penchant.core.values import format_time

MAX_ITEMS = 1_000
"""Most items of one slate, of `items` and of `exclude`."""
MAX_ROWS, MAX_ROW = 20, 50
"""Most rows of a page, and most items of one."""
MAX_WAIT_MS = 10_000

Id = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z",
        extra_json_schema={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"},
    ),
]
"""1 to 128 characters, none of them a control character."""

Token = Annotated[
    str,
    msgspec.Meta(pattern=r"\A[A-Za-z0-9_~-]{1,16384}\Z", extra_json_schema={"pattern": "^[A-Za-z0-9_~-]{1,16384}$"}),
]
"""A place in the log, as an answer to `/v1/events` gave it; callers treat it as opaque."""

Where = dict[str, Any]
"""Attribute → a value, a list of values (any of them), or {"lte": …} with lte, lt, gte, gt, eq, ne, in, not_in."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller asks for: a slate of `n` items for a user on a surface."""

    user_id: Id | None = None
    session_id: Id | None = None
    """Groups the events of an anonymous user; `user_id` wins when both are given."""
    surface: Id = "home"
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_ITEMS)] = 20
    item_id: Id | None = None
    """The item that the slate is about, for surfaces about an item."""
    items: Annotated[list[Id], msgspec.Meta(max_length=MAX_ITEMS)] | None = None
    """Rank exactly these instead of retrieving."""
    exclude: Annotated[list[Id], msgspec.Meta(max_length=MAX_ITEMS)] = []
    where: Where = {}
    context: dict[str, Any] = {}
    fields: list[str] = []
    """Item attributes to send along with each item."""
    explain: bool = False
    record: bool = True
    after: Token | None = None
    """Answer from state at or past this position, or say `stale` when `wait_ms` ran out."""
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_WAIT_MS)] = 50


class ReasonAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item is shown; `item_id` is the item that the reason names, if any."""

    kind: str
    item_id: str | None = None
    text: str


class AnswerItem(msgspec.Struct, frozen=True, kw_only=True):
    """One shown item; `rank` counts from 1."""

    item_id: str
    rank: int
    score: float
    propensity: float
    sources: list[str]
    reason: ReasonAnswer
    attributes: dict[str, AttributeValue] = {}


class TraceStage(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage did: milliseconds, rows in and out, how many it dropped and why."""

    kind: str
    name: str
    ms: float
    rows_in: int
    rows_out: int
    dropped: int = 0
    why: str | None = None
    error: str | None = None


class TraceItem(msgspec.Struct, frozen=True, kw_only=True):
    """The features of a shown item (null is missing) and what each added to its score."""

    item_id: str
    features: dict[str, float | None] = {}
    contributions: dict[str, float] = {}


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer came about; `items` in the order of the slate."""

    stages: list[TraceStage]
    items: list[TraceItem] = []


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A slate. `degraded` names what failed or was left out; empty when all went well."""

    request_id: str
    surface: str
    position: str
    artifact: str | None = None
    experiment: dict[str, str] = {}
    items: list[AnswerItem]
    degraded: list[str] = []
    trace: Trace | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a page: the item that it is about, in `reason`, and its slate, which has a request id of its own."""

    reason: ReasonAnswer
    slate: Answer


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows about what a user took, the newest first; no item is in two of them."""

    user_id: str
    rows: list[Row]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not taken; `index` is its place in the batch (NDJSON: its line), from 0."""

    index: int
    id: str | None
    field: str
    reason: str
    message: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch; `position` is at or past every event of it."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]
    position: str


class ItemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An item as the state has it; `counters` are all-time counts of accepted interactions by action."""

    item_id: str
    attributes: dict[str, AttributeValue]
    listed: bool
    counters: dict[str, int]
    features: dict[str, Any]


class RecentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One of a user's interactions; `ts` is RFC 3339."""

    item_id: str
    action: str
    value: float | None
    ts: str


class UserAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A user's live state at `position`; `recent` is newest first."""

    user_id: str
    attributes: dict[str, AttributeValue]
    counters: dict[str, int]
    recent: list[RecentAnswer]
    features: dict[str, Any]
    position: str


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """Events accepted but not yet relayed."""

    pending: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the process is doing; `lag` is what the state has not folded yet. `reached` answers `?position=`."""

    position: str
    lag_events: int
    lag_ms: int
    items: int
    users: int
    artifact: str | None
    outbox: Outbox
    build: str
    reached: bool | msgspec.UnsetType = msgspec.UNSET


class EventBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/events`; events are parsed one by one, so that a bad one does not spoil the others."""

    events: list[Any]


class ItemBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/items`: item events without their `type`."""

    items: list[Any]


T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)

encode = _encoder.encode
"""Any struct of this page as JSON bytes."""

rfc3339 = format_time
"""Milliseconds as RFC 3339 UTC with milliseconds, as times go out."""


def decode_request(body: bytes) -> Request:
    """The request of a body; raises `InvalidRequest` naming the field and the fix."""
    return decode(_requests, body)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A body by its decoder; raises `InvalidRequest` for anything that is not what the decoder reads."""
    try:
        return decoder.decode(body)
    except UnicodeDecodeError:
        raise InvalidRequest("", "invalid_utf8", _utf8_message(body)) from None
    except RecursionError:
        raise InvalidRequest(
            "", "too_deep", "the JSON is nested too deeply; no field needs more than 3 levels"
        ) from None
    except msgspec.ValidationError as error:
        raise _explained(str(error), decoder.type) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidRequest("", "invalid_json", f"not JSON: {error}; send one JSON document in UTF-8") from None


def position_of(token: str, field: str) -> int:
    """The log position behind a token; raises `InvalidRequest` for what no log ever gave.

    >>> position_of("812", "after")
    812
    """
    if not (token.isascii() and token.isdigit() and len(token) <= 18):
        raise InvalidRequest(field, "invalid_token", "not a position; pass on what an answer gave as `position`")
    return int(token)


_COMPLAINTS = (
    (re.compile(r"Object contains unknown field `(.*)`", re.S), "unknown_field"),
    (re.compile(r"Object missing required field `(.*)`", re.S), "missing"),
    (re.compile(r"matching regex"), "invalid_id"),
    (re.compile(r"of length|out of range|[<>]=? -?\d"), "out_of_range"),
    (re.compile(r"got `"), "wrong_type"),
)


def _explained(text: str, kind: Any) -> InvalidRequest:
    """A complaint of the decoder as field, reason and fix; paths as in `items.3`."""
    said, _, where = text.rpartition(" - at `")
    if not said:
        said, where = text, ""
    path = where.rstrip("`").removeprefix("key in ").replace("[...]", "").replace("[", ".").replace("]", "")
    path = path.removeprefix("$").lstrip(".")
    found = ((pattern.search(said), reason) for pattern, reason in _COMPLAINTS)
    match, reason = next(((match, reason) for match, reason in found if match), (None, "invalid_value"))
    if match and reason == "unknown_field":
        names = kind.__struct_fields__
        near = difflib.get_close_matches(match[1][:60], names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
        name = ascii(match[1][:60])
        return InvalidRequest(_join(path, name.strip("'")), reason, f"{name} is no field here; {hint}")
    if match and reason == "missing":
        return InvalidRequest(_join(path, match[1]), reason, f"{match[1]} is required; add it")
    if reason == "invalid_id" and path == "after":
        return InvalidRequest(path, "invalid_token", "not a position; pass on what an answer gave as `position`")
    if reason == "invalid_id":
        return InvalidRequest(path, reason, f"{path}: use 1 to 128 characters without control characters")
    return InvalidRequest(path, reason, f"{path or 'the body'}: {said[0].lower() + said[1:].replace('`', '')}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _utf8_message(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8; encode the body as UTF-8"
    return "the body is not UTF-8; encode it as UTF-8"
