"""Events in the transaction of an application that has Penchant's outbox in its PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from penchant.core.events import Event, to_builtins

R_co = TypeVar("R_co", covariant=True)

SQL = "SELECT penchant.emit(%s::jsonb)"


class Cursor(Protocol[R_co]):
    """A cursor or connection of psycopg, synchronous or not, or anything else with its `execute`."""

    def execute(self, query: Any, params: Any, /) -> R_co: ...


def emit(cursor: Cursor[R_co], event: Event | Mapping[str, Any]) -> R_co:
    """Write an event in the transaction of `cursor`: it counts if and when that commits, and never otherwise.

    `event` is one of Penchant's, or the JSON object of the public contract. Give it an `id` made of what it is about
    (`"order-812"`), and it counts once however often it is written. Whether it is a good event is found out when it is
    relayed: a bad one goes to the table `penchant.outbox_refused` with the reason. Returns what `execute` returns, to
    be awaited where that is; its one row says False for an id that is known already.

    >>> class Shown:
    ...     def execute(self, query, params):
    ...         return query, *params
    >>> emit(Shown(), {"type": "item_removed", "item_id": "i1"})
    ('SELECT penchant.emit(%s::jsonb)', '{"type":"item_removed","item_id":"i1"}')
    """
    raw = to_builtins(event) if isinstance(event, Event) else event
    return cursor.execute(SQL, (msgspec.json.encode(raw).decode(),))
