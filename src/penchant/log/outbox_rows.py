"""Rows of the outbox in PostgreSQL as events, or as refusals."""

from __future__ import annotations

import json
from typing import NamedTuple

import msgspec

from penchant.core.clock import Millis
from penchant.core.errors import InvalidEvent
from penchant.core.events import decode_event
from penchant.core.outbox import Pending
from penchant.core.parse import parse_event
from penchant.core.schema import Schema


class Row(NamedTuple):
    """One of `body` (a collector's, checked) and `event` (an application's, JSON) is there."""

    xid: int
    id: int
    accepted_at: Millis
    body: bytes | None
    event: str | None


class Refused(NamedTuple):
    """A row that is no event, and why."""

    xid: str
    row: int
    field: str
    reason: str
    message: str


def pending_or_refused(row: Row, schema: Schema) -> Pending | Refused:
    """The event of the row, its `ts` set; raises nothing, whatever an application wrote.

    >>> row = Row(7, 1, 9, None, '{"type": "item_removed", "item_id": "i1"}')
    >>> pending_or_refused(row, Schema(actions={})).event
    ItemRemoved(item_id='i1', ts=9, id=None)
    >>> pending_or_refused(row._replace(event="[]"), Schema(actions={})).reason
    'wrong_type'
    """
    if row.body is not None:
        return Pending((row.xid, row.id), row.accepted_at, decode_event(row.body))
    try:
        event = parse_event(json.loads(row.event or ""), schema)
    except InvalidEvent as error:
        return _refused(row, error.field, error.reason, error.message)
    except (ValueError, RecursionError) as error:
        return _refused(row, "", "invalid_json", f"not JSON that can be read: {error}")
    ts = row.accepted_at if event.ts is None else min(event.ts, row.accepted_at)
    return Pending((row.xid, row.id), row.accepted_at, msgspec.structs.replace(event, ts=ts))


def _refused(row: Row, field: str, reason: str, message: str) -> Refused:
    return Refused(str(row.xid), row.id, field, reason, message.replace("\0", ""))
