"""The join with the catalogue: which attributes the items of an event have when it is relayed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from penchant.catalog.fold import CatalogFold
from penchant.core.errors import StateUnavailable
from penchant.core.events import AttributeValue, Event, Impression, Interaction, ItemRemoved, ItemUpdate
from penchant.core.log import ACCEPTED, Record
from penchant.core.outbox import Pending
from penchant.core.partitions import (
    META_KEY,
    Layout,
    Meta,
    Partition,
    PartitionedState,
    PartitionReader,
    Place,
    Sent,
    View,
    decode_meta,
)
from penchant.core.profiles import decode_item
from penchant.core.schema import Schema
from penchant.core.state import Key, catalog_key

_AT_ONCE = 2_000
_NOWHERE: Place = (-1, -1)
ItemEvent = ItemUpdate | ItemRemoved


class _Change(NamedTuple):
    """An item event that is in the log and maybe not in the state: folded at a place of ours, or at a position."""

    place: Place | None
    position: int
    event: ItemEvent

    def is_in(self, folded: Place, position: int) -> bool:
        return self.place <= folded if self.place is not None else self.position <= position


class Joins:
    """Decides `Sent.attributes`: the category and tags attributes of the items that an event names. For one thread.

    An item is what the state says of it, plus the item events that the relay sent itself and that the state does not
    have yet: so what went into one outbox in some order is joined in that order, however far behind the fold is. With
    a `reader`, which may pass over deeds, `resume` finds those that were sent before (by this relay, before it was
    started again, or by any other). `max_waiting` bounds what is remembered: beyond, the relay waits for the fold.
    """

    def __init__(
        self,
        state: PartitionedState,
        layout: Layout,
        schema: Schema,
        *,
        reader: PartitionReader | None = None,
        max_waiting: int = 500_000,
    ) -> None:
        self._state = state
        self._layout = layout
        self._fold = CatalogFold(schema)
        self._names = frozenset(n for n, attribute in schema.item.items() if attribute.kind in {"category", "tags"})
        self._reader = reader
        self._max_waiting = max_waiting
        self._waiting: dict[Partition, deque[_Change]] = {}
        self._of_item: dict[str, deque[_Change]] = {}
        self._count = 0
        self._positions: dict[Partition, int] = {}
        self._found: dict[tuple[Partition, str], Place] = {}

    def resume(self) -> None:
        """Forget what was sent and find in the log what the state does not have yet."""
        self._waiting, self._of_item, self._count = {}, {}, 0
        self._positions, self._found = {}, {}
        if not self._names or self._reader is None:
            return
        partitions = [partition for partition in self._layout.all() if partition.side == "items"]
        for partition, view in zip(partitions, self._state.read([(p, [META_KEY]) for p in partitions]), strict=True):
            self._scan(self._reader, partition, view)

    def decide(self, source: str, batch: Sequence[Pending]) -> list[Sent]:
        """The events as they are to be sent, in order; raises `StateUnavailable`. Nothing counts as sent by that."""
        asks = any(named(event) for _, _, event, _ in batch)
        if not self._names or (not asks and self._count < self._max_waiting):
            return [Sent(event, [{}] * len(named(event))) for _, _, event, _ in batch]
        profiles = self._profiles(source, batch)
        return [Sent(event, profiles.follow(event)) for _, _, event, _ in batch]

    def sent(self, source: str, batch: Sequence[Pending]) -> None:
        """These are in the log now."""
        if self._names:
            for place, _, event, _ in batch:
                if isinstance(event, ItemUpdate | ItemRemoved):
                    partition = self._layout.item(event.item_id)
                    if place > self._found.get((partition, source), _NOWHERE):
                        self._remember(partition, _Change(place, 0, event))

    def _profiles(self, source: str, batch: Sequence[Pending]) -> _Profiles:
        """The items of the batch as they are before it."""
        items: dict[Partition, dict[str, None]] = {partition: {} for partition in self._waiting}
        for _, _, event, _ in batch:
            for item_id in (event.item_id,) if isinstance(event, ItemUpdate | ItemRemoved) else named(event):
                items.setdefault(self._layout.item(item_id), {})[item_id] = None
        wanted = [(partition, [META_KEY, *map(catalog_key, ids)]) for partition, ids in items.items()]
        views = self._state.read(wanted) if wanted else ()
        if self._reader is not None and self._went_back(items, views):
            self.resume()
            return self._profiles(source, batch)
        profiles = _Profiles(self._fold, self._names)
        for (partition, keys), view in zip(wanted, views, strict=True):
            profiles.load(keys[1:], view.values[1:])
            self._forget(partition, _folded(decode_meta(view.values[0]), source), view.position)
            self._positions[partition] = view.position
        if self._count >= self._max_waiting:
            raise StateUnavailable(f"{self._count:,} item events were sent and are not folded yet")
        for ids in items.values():
            for item_id in ids:
                for change in self._of_item.get(item_id, ()):
                    profiles.follow(change.event)
        return profiles

    def _went_back(self, partitions: Iterable[Partition], views: Sequence[View]) -> bool:
        """Whether the state was put back to an older copy, so that it lacks what was forgotten here as folded."""
        return any(
            view.position < self._positions.get(partition, view.position)
            for partition, view in zip(partitions, views, strict=True)
        )

    def _remember(self, partition: Partition, change: _Change) -> None:
        self._waiting.setdefault(partition, deque()).append(change)
        self._of_item.setdefault(change.event.item_id, deque()).append(change)
        self._count += 1

    def _forget(self, partition: Partition, folded: Place, position: int) -> None:
        """Those of a partition are in the order of its log: what is folded comes first."""
        waiting = self._waiting.get(partition)
        while waiting and waiting[0].is_in(folded, position):
            item_id = waiting.popleft().event.item_id
            of_item = self._of_item[item_id]
            of_item.popleft()
            if not of_item:
                del self._of_item[item_id]
            self._count -= 1
        if not waiting:
            self._waiting.pop(partition, None)

    def _scan(self, reader: PartitionReader, partition: Partition, view: View) -> None:
        meta = decode_meta(view.values[0])
        seen = {source: _folded(meta, source) for source in meta.sources}
        position, end = view.position, reader.end(partition)
        while position < end and (messages := reader.read(partition, position, _AT_ONCE)):
            for message in messages:
                if message.place > seen.get(message.source, _NOWHERE):
                    seen[message.source] = message.place
                    event = message.body.event if isinstance(message.body, Sent) else None
                    if isinstance(event, ItemUpdate | ItemRemoved):
                        self._remember(partition, _Change(None, message.position, event))
            position = messages[-1].position
        self._positions[partition] = view.position
        self._found.update({(partition, source): place for source, place in seen.items()})


class _Profiles:
    """Item profiles as the events of a batch go by; the catalogue's own fold changes them."""

    def __init__(self, fold: CatalogFold, names: frozenset[str]) -> None:
        self._fold = fold
        self._names = names
        self._blobs: dict[Key, bytes | None] = {}
        self._attributes: dict[str, dict[str, AttributeValue]] = {}

    def load(self, keys: Iterable[Key], values: Iterable[bytes | None]) -> None:
        self._blobs.update(zip(keys, values, strict=True))

    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        return [self._blobs.get(key) for key in keys]

    def put(self, key: Key, value: bytes | None) -> None:
        self._blobs[key] = value

    def follow(self, event: Event) -> list[dict[str, AttributeValue]]:
        """The attributes of the items that the event names; an item event changes its item."""
        if isinstance(event, ItemUpdate | ItemRemoved):
            self._attributes.pop(event.item_id, None)
            self._fold.apply([Record(1, 0, 0, ACCEPTED, 0, event)], self)
            return []
        return [self._of(item_id) for item_id in named(event)]

    def _of(self, item_id: str) -> dict[str, AttributeValue]:
        known = self._attributes.get(item_id)
        if known is None:
            blob = self._blobs.get(catalog_key(item_id))
            every: Mapping[str, AttributeValue] = {} if blob is None else decode_item(blob).attributes
            known = self._attributes[item_id] = {n: value for n, value in every.items() if n in self._names}
        return known


def named(event: Event) -> tuple[str, ...]:
    """The items that an event about a person names, in its order."""
    if isinstance(event, Interaction):
        return (event.item_id,)
    if isinstance(event, Impression):
        return tuple(shown.item_id for shown in event.items)
    return ()


def _folded(meta: Meta, source: str) -> Place:
    place = meta.sources.get(source)
    return _NOWHERE if place is None else (place[0], place[1])
