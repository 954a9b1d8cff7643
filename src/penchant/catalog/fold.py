"""The fold that keeps what is known of items and users: attributes, life cycle, and the row that each item has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from penchant.core.clock import Millis
from penchant.core.events import (
    AttributeValue,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    UserErased,
    UserUpdate,
)
from penchant.core.fold import Working
from penchant.core.hashing import fingerprint
from penchant.core.items import LISTED, REMOVED, UNKNOWN, UNLISTED
from penchant.core.log import Record
from penchant.core.profiles import ItemProfile, UserProfile, decode_item, decode_user, encode_profile
from penchant.core.schema import Schema
from penchant.core.state import Key, catalog_key, profile_key, user_key

ROWS_KEY: Key = b"#rows"
"""The row that the next new item gets, as eight little-endian bytes."""

_FORMAT = "1"


class CatalogFold:
    """Item and user profiles as the log's events leave them.

    * Rows count from 0 in the order in which records first name an item: `item` and `item_removed` events,
      interactions and impressions alike, whatever their verdict and whether or not their user was erased.
    * `item` replaces the attributes, or with `merge` changes those it names, where `None` takes one away. `listed` left
      out means listed when it replaces or when the item is new, and as before when it merges.
    * `item_removed` is for good: the attributes go, the row stays as a mark, and neither interactions nor later `item`
      events bring the item back. An item that may return is unlisted (`"listed": false`), not removed.
    * An interaction or impression with an item that no `item` event brought makes it `UNKNOWN`, or `LISTED` from that
      moment on where `implicit` is set.
    * `user_erased` drops all that is kept under the user's keys; an empty `user_id` stands for an erased person, so
      user events that carry it do nothing.
    """

    def __init__(self, schema: Schema, implicit: bool = False) -> None:
        del schema  # attributes were checked when the event was taken; profiles keep them as they came
        self.fingerprint = fingerprint("catalog", _FORMAT, "implicit" if implicit else "explicit")
        self._named_status = LISTED if implicit else UNKNOWN
        self._implicit = implicit

    def apply(self, records: Sequence[Record], state: Working) -> None:
        """Fold records in which every item or user event comes before every interaction and impression."""
        items = _ItemProfiles(state)
        items.load(_item_events(records))
        users = _UserProfiles(state)
        named: dict[str, Millis] = {}
        for record in records:
            event = record.event
            if type(event) is Interaction:  # most are
                if event.item_id not in named:
                    named[event.item_id] = record.ts
                continue
            match event:
                case Impression():
                    for shown in event.items:
                        named.setdefault(shown.item_id, record.ts)
                case ItemUpdate():
                    items.set(_updated(items.get_or_new(event.item_id), event, record.ts))
                case ItemRemoved():
                    gone = items.get_or_new(event.item_id)
                    items.set(msgspec.structs.replace(gone, status=REMOVED, attributes={}))
                case UserUpdate():
                    users.update(event)
                case UserErased():
                    users.erase(event.user_id)
        for item_id in items.absent(named):
            items.set(
                ItemProfile(
                    item_id=item_id,
                    row=items.take_row(),
                    status=self._named_status,
                    listed_at=named[item_id] if self._implicit else 0,
                )
            )
        items.write()
        users.write()


class _ItemProfiles:
    """The item profiles that a batch touches, over the working state."""

    def __init__(self, state: Working) -> None:
        self._state = state
        self._profiles: dict[str, ItemProfile | None] = {}
        self._changed: dict[str, ItemProfile] = {}
        self._next_row: int | None = None

    def load(self, item_ids: Iterable[str]) -> None:
        distinct = list(dict.fromkeys(item_ids))
        for item_id, blob in zip(distinct, self._state.get_many([catalog_key(i) for i in distinct]), strict=True):
            self._profiles[item_id] = None if blob is None else decode_item(blob)

    def absent(self, item_ids: Iterable[str]) -> list[str]:
        """Those that have no profile yet, in the order given. Nothing is decoded: most items are known."""
        unloaded = [item_id for item_id in item_ids if self._profiles.get(item_id) is None]
        blobs = self._state.get_many([catalog_key(item_id) for item_id in unloaded])
        return [item_id for item_id, blob in zip(unloaded, blobs, strict=True) if blob is None]

    def get_or_new(self, item_id: str) -> ItemProfile:
        profile = self._profiles[item_id]
        return profile or ItemProfile(item_id=item_id, row=self.take_row(), status=UNKNOWN)

    def take_row(self) -> int:
        if self._next_row is None:
            self._next_row = int.from_bytes(self._state.get_many([ROWS_KEY])[0] or b"", "little")
        self._next_row += 1
        return self._next_row - 1

    def set(self, profile: ItemProfile) -> None:
        self._profiles[profile.item_id] = self._changed[profile.item_id] = profile

    def write(self) -> None:
        for item_id, profile in self._changed.items():
            self._state.put(catalog_key(item_id), encode_profile(profile))
        if self._next_row is not None:
            self._state.put(ROWS_KEY, self._next_row.to_bytes(8, "little"))


class _UserProfiles:
    """The user profiles that a batch touches; they are few, so each is read when it is needed."""

    def __init__(self, state: Working) -> None:
        self._state = state
        self._changed: dict[str, UserProfile | None] = {}

    def update(self, event: UserUpdate) -> None:
        if not event.user_id:
            return
        old: dict[str, AttributeValue] = {}
        if event.merge:
            if event.user_id in self._changed:
                profile = self._changed[event.user_id]
            else:
                blob = self._state.get_many([profile_key(event.user_id)])[0]
                profile = None if blob is None else decode_user(blob)
            old = profile.attributes if profile else {}
        attributes = _merged(old, event.attributes)
        self._changed[event.user_id] = UserProfile(user_id=event.user_id, attributes=attributes)

    def erase(self, user_id: str) -> None:
        if user_id:
            self._changed[user_id] = None
            self._state.put(user_key(user_id), None)

    def write(self) -> None:
        for user_id, profile in self._changed.items():
            self._state.put(profile_key(user_id), None if profile is None else encode_profile(profile))


_ITEM_EVENTS = frozenset({ItemUpdate, ItemRemoved})


def _item_events(records: Sequence[Record]) -> Iterable[str]:
    return (record.event.item_id for record in records if type(record.event) in _ITEM_EVENTS)  # type: ignore[union-attr]


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


def _merged(old: dict[str, AttributeValue], new: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    # Sorted, so that equal profiles are equal bytes whatever the order in which events named the attributes.
    both = {**old, **new}
    return {name: both[name] for name in sorted(both) if both[name] is not None}
