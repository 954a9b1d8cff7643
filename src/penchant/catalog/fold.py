"""The fold that keeps what is known of items and users: attributes, life cycle, and the row that each item has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penchant.catalog.profiles import ItemProfiles, UserProfiles
from penchant.core.clock import Millis
from penchant.core.events import (
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    UserErased,
    UserUpdate,
)
from penchant.core.fold import Working
from penchant.core.hashing import fingerprint
from penchant.core.log import Record
from penchant.core.schema import Schema
from penchant.core.state import user_key

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
        self._implicit = implicit

    def apply(self, records: Sequence[Record], state: Working) -> None:
        """Fold records in which every item or user event comes before every interaction and impression."""
        items = ItemProfiles(state, implicit=self._implicit)
        items.load(_item_events(records))
        users = UserProfiles(state)
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
                    items.update(event, record.ts)
                case ItemRemoved():
                    items.remove(event)
                case UserUpdate():
                    users.update(event)
                case UserErased():
                    users.erase(event.user_id)
                    if event.user_id:
                        state.put(user_key(event.user_id), None)
        for item_id in items.absent(named):
            items.name(item_id, named[item_id])
        items.write()
        users.write()


_ITEM_EVENTS = frozenset({ItemUpdate, ItemRemoved})


def _item_events(records: Sequence[Record]) -> Iterable[str]:
    return (record.event.item_id for record in records if type(record.event) in _ITEM_EVENTS)  # type: ignore[union-attr]
