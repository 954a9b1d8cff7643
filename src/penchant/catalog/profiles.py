"""Profiles of items and users while a batch changes them: what folds of the catalogue have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from penchant.core.clock import Millis
from penchant.core.events import AttributeValue, ItemRemoved, ItemUpdate, UserUpdate
from penchant.core.fold import Working
from penchant.core.items import LISTED, REMOVED, UNKNOWN, UNLISTED
from penchant.core.profiles import ItemProfile, UserProfile, decode_item, decode_user, encode_profile
from penchant.core.state import Key, catalog_key, profile_key

ROWS_KEY: Key = b"#rows"
"""The row that the next new item gets, as eight little-endian bytes."""


class ItemProfiles:
    """The item profiles that a batch touches, over the working state.

    `implicit`: items are listed as soon as a record names them.
    """

    def __init__(self, state: Working, *, implicit: bool) -> None:
        self._state = state
        self._implicit = implicit
        self._profiles: dict[str, ItemProfile | None] = {}
        self._changed: dict[str, ItemProfile] = {}
        self._next_row: int | None = None
        self._made = 0

    def load(self, item_ids: Iterable[str]) -> None:
        """Read profiles that item events will change, those not at hand yet."""
        distinct = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._profiles]
        for item_id, blob in zip(distinct, self._state.get_many([catalog_key(i) for i in distinct]), strict=True):
            self._profiles[item_id] = None if blob is None else decode_item(blob)

    def absent(self, item_ids: Iterable[str]) -> list[str]:
        """Those that have no profile yet, in the order given. Nothing is decoded: most items are known."""
        unloaded = [item_id for item_id in item_ids if self._profiles.get(item_id) is None]
        blobs = self._state.get_many([catalog_key(item_id) for item_id in unloaded])
        return [item_id for item_id, blob in zip(unloaded, blobs, strict=True) if blob is None]

    def update(self, event: ItemUpdate, ts: Millis) -> None:
        """An item, loaded before, came or changed."""
        self._set(_updated(self._get_or_new(event.item_id), event, ts))

    def remove(self, event: ItemRemoved) -> None:
        """An item, loaded before, is gone for good."""
        gone = self._get_or_new(event.item_id)
        self._set(msgspec.structs.replace(gone, status=REMOVED, attributes={}))

    def name(self, item_id: str, ts: Millis) -> None:
        """A record named an item that is `absent`."""
        self._set(
            ItemProfile(
                item_id=item_id,
                row=self._take_row(),
                status=LISTED if self._implicit else UNKNOWN,
                listed_at=ts if self._implicit else 0,
            )
        )

    @property
    def made(self) -> int:
        """How many items are new."""
        return self._made

    def _get_or_new(self, item_id: str) -> ItemProfile:
        profile = self._profiles[item_id]
        return profile or ItemProfile(item_id=item_id, row=self._take_row(), status=UNKNOWN)

    def _take_row(self) -> int:
        self._made += 1
        if self._next_row is None:
            self._next_row = int.from_bytes(self._state.get_many([ROWS_KEY])[0] or b"", "little")
        self._next_row += 1
        return self._next_row - 1

    def _set(self, profile: ItemProfile) -> None:
        self._profiles[profile.item_id] = self._changed[profile.item_id] = profile

    def write(self) -> None:
        """Put what has changed."""
        for item_id, profile in self._changed.items():
            self._state.put(catalog_key(item_id), encode_profile(profile))
        if self._next_row is not None:
            self._state.put(ROWS_KEY, self._next_row.to_bytes(8, "little"))


class UserProfiles:
    """The user profiles that a batch changes; they are few, so each is read when it is needed."""

    def __init__(self, state: Working) -> None:
        self._state = state
        self._changed: dict[str, UserProfile | None] = {}

    def update(self, event: UserUpdate) -> None:
        """A user's attributes came or changed; an empty id stands for an erased person, who has none."""
        if not event.user_id:
            return
        old = self.attributes(event.user_id) if event.merge else {}
        attributes = _merged(old, event.attributes)
        self._changed[event.user_id] = UserProfile(user_id=event.user_id, attributes=attributes)

    def attributes(self, user_id: str) -> Mapping[str, AttributeValue]:
        """A user's attributes as they are at this point of the batch."""
        if user_id in self._changed:
            profile = self._changed[user_id]
        else:
            blob = self._state.get_many([profile_key(user_id)])[0]
            profile = None if blob is None else decode_user(blob)
        return profile.attributes if profile else {}

    def erase(self, user_id: str) -> None:
        """The profile goes."""
        if user_id:
            self._changed[user_id] = None

    def write(self) -> None:
        """Put what has changed."""
        for user_id, profile in self._changed.items():
            self._state.put(profile_key(user_id), None if profile is None else encode_profile(profile))


def _updated(old: ItemProfile, event: ItemUpdate, ts: Millis) -> ItemProfile:
    if old.status == REMOVED:
        return old
    if event.listed is not None:
        status = LISTED if event.listed else UNLISTED
    else:
        status = old.status if event.merge and old.status != UNKNOWN else LISTED
    return ItemProfile(
        item_id=old.item_id,
        row=old.row,
        status=status,
        listed_at=ts if old.status == UNKNOWN else old.listed_at,
        attributes=_merged(old.attributes if event.merge else {}, event.attributes),
    )


def _merged(old: Mapping[str, AttributeValue], new: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    # Sorted, so that equal profiles are equal bytes whatever the order in which events named the attributes.
    both = {**old, **new}
    return {name: both[name] for name in sorted(both) if both[name] is not None}
