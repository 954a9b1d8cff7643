"""What the state keeps of an item's and a user's attributes, and its codec."""

from __future__ import annotations

import msgspec

from penchant.core.clock import Millis
from penchant.core.events import AttributeValue


class ItemProfile(msgspec.Struct, frozen=True, kw_only=True):
    """An item: `row` counts items in the order in which the log first named them; `status` as in `core.items`."""

    item_id: str
    row: int
    status: int
    listed_at: Millis = 0
    attributes: dict[str, AttributeValue] = {}


class UserProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A user's attributes."""

    user_id: str
    attributes: dict[str, AttributeValue] = {}


_encoder = msgspec.msgpack.Encoder()
_item: msgspec.msgpack.Decoder[ItemProfile] = msgspec.msgpack.Decoder(ItemProfile)
_user: msgspec.msgpack.Decoder[UserProfile] = msgspec.msgpack.Decoder(UserProfile)


def encode_profile(profile: ItemProfile | UserProfile) -> bytes:
    """The profile as msgpack."""
    return _encoder.encode(profile)


def decode_item(data: bytes) -> ItemProfile:
    """The item that `encode_profile` wrote."""
    return _item.decode(data)


def decode_user(data: bytes) -> UserProfile:
    """The user that `encode_profile` wrote."""
    return _user.decode(data)
