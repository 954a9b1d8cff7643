"""The six events, as they stand in the log: a tagged union and its codec."""

from __future__ import annotations

from typing import Any

import msgspec

from penchant.core.clock import Millis

AttributeValue = str | float | int | bool | list[Any] | None
"""What an attribute may hold; `None` in a merge takes the attribute away.

A list holds tags, or the numbers of a vector; once checked, a vector is text as `core.vectors` packs it.
"""


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    # Events hold nothing that leads back to them, so the garbage collector need not look at them again and again.
    ts: Millis | None = None
    id: str | None = None


class Interaction(_Event, frozen=True, tag="interaction"):
    """A user did something to an item; `value` measures it (seconds watched, stars given)."""

    user_id: str
    item_id: str
    action: str
    value: float | None = None
    request_id: str | None = None
    context: dict[str, AttributeValue] = {}


class ShownItem(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One item of an impression; `rank` counts from 1."""

    item_id: str
    rank: int | None = None
    propensity: float | None = None


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine adds to an impression of its own, so that the slate can be derived again.

    `request` is the request body as JSON; `features` holds float32 rows, one a shown item, in the column order
    that `columns` (a fingerprint) stands for; `position` is of the user state, `items_position` and `items_time` of
    the item columns. `simulated` marks history that was replayed.
    """

    now: Millis
    request: bytes
    position: int
    items_position: int
    items_time: Millis
    artifact: str
    surface: str
    columns: str
    features: bytes
    scores: bytes
    degraded: list[str] = []
    experiment: dict[str, str] = {}
    simulated: bool = False


class Impression(_Event, frozen=True, tag="impression"):
    """A slate was shown to a user."""

    user_id: str
    items: list[ShownItem]
    surface: str | None = None
    request_id: str | None = None
    served: Served | None = None


class ItemUpdate(_Event, frozen=True, tag="item"):
    """An item came or changed; without `merge` it replaces what was known."""

    item_id: str
    attributes: dict[str, AttributeValue]
    listed: bool | None = None
    merge: bool = False


class ItemRemoved(_Event, frozen=True, tag="item_removed"):
    """An item is gone for good."""

    item_id: str


class UserUpdate(_Event, frozen=True, tag="user"):
    """A user's attributes came or changed."""

    user_id: str
    attributes: dict[str, AttributeValue]
    merge: bool = False


class UserErased(_Event, frozen=True, tag="user_erased"):
    """A user asked to be forgotten."""

    user_id: str


Event = Interaction | Impression | ItemUpdate | ItemRemoved | UserUpdate | UserErased

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The event as msgpack, as the log keeps it.

    >>> decode_event(encode_event(ItemRemoved(item_id="i1", ts=5)))
    ItemRemoved(item_id='i1', ts=5, id=None)
    """
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """The event that `encode_event` wrote."""
    return _decoder.decode(data)


def to_builtins(event: Event) -> dict[str, Any]:
    """The event as the JSON object of the public contract."""
    built: dict[str, Any] = msgspec.to_builtins(event)
    built.pop("served", None)
    return built
