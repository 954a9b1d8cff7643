"""A lagging item state and a broker whose failed sends leave any part of them behind."""

from __future__ import annotations

import random
from collections.abc import Sequence

from penchant.catalog.fold import CatalogFold
from penchant.core.clock import ManualClock
from penchant.core.errors import LogUnavailable
from penchant.core.events import Event, Impression, Interaction, ItemRemoved, ItemUpdate, ShownItem, UserUpdate
from penchant.core.log import ACCEPTED, Record
from penchant.core.partitions import (
    META_KEY,
    Layout,
    Message,
    Meta,
    Outgoing,
    Partition,
    Sent,
    View,
    encode_meta,
)
from penchant.core.schema import Action, Attribute, Schema
from penchant.log.memory_partitions import MemoryBroker

NOW = 1_700_000_000_000
LAYOUT = Layout(users=3, items=2)
SCHEMA = Schema(
    actions={"click": Action("click", 0, 1.0)},
    item={
        "genre": Attribute("genre", "category"),
        "tags": Attribute("tags", "tags"),
        "title": Attribute("title", "text"),
    },
    user={"country": Attribute("country", "category")},
)


class Blobs(dict):
    """State of one partition, as a fold sees it."""

    def get_many(self, keys):
        return [self.get(key) for key in keys]

    def put(self, key, value):
        self[key] = value


class ItemState:
    """Folds the item partitions of a broker as far as it is told to, and can be put back to any earlier state."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._reader = broker.reader()
        self._fold = CatalogFold(SCHEMA)
        self._past: dict[Partition, list[tuple[int, Meta, Blobs]]] = {
            partition: [(0, Meta(), Blobs())] for partition in broker.layout.all()
        }

    def read(self, wanted) -> Sequence[View]:
        views = []
        for partition, keys in wanted:
            position, meta, blobs = self._past[partition][-1]
            views.append(View(position, [encode_meta(meta) if key == META_KEY else blobs.get(key) for key in keys]))
        return views

    def fold(self, partition: Partition, limit: int) -> None:
        position, meta, blobs = self._past[partition][-1]
        for message in self._reader.read(partition, position, limit):
            sources, blobs = dict(meta.sources), Blobs(blobs)
            if message.place > sources.get(message.source, (-1, -1)):
                sources[message.source] = message.place
                event = message.body.event
                self._fold.apply([Record(message.position, NOW, NOW, ACCEPTED, 0, event)], blobs)
            meta = Meta(sources=sources)
            self._past[partition].append((message.position, meta, blobs))

    def put_back(self, partition: Partition, versions: int) -> None:
        del self._past[partition][max(1, len(self._past[partition]) - versions) :]


class HarshSender:
    """Where it fails, each partition has any prefix of what it was to get."""

    def __init__(self, broker: MemoryBroker, rng: random.Random, fail: float = 0.0) -> None:
        self._broker, self._rng, self._fail = broker, rng, fail
        self.closed = False

    def send(self, messages: Sequence[Outgoing]) -> None:
        assert not self.closed, "a sender that failed is not used again"
        failing = self._rng.random() < self._fail
        left: dict[Partition, int] = {}
        for message in messages:
            if failing and message.partition not in left:
                left[message.partition] = self._rng.randint(0, len(messages))
            if left.get(message.partition, 1) > 0:
                self._broker.append(message)
                left[message.partition] = left.get(message.partition, 10**9) - 1
        if failing:
            raise LogUnavailable("the broker did not answer")

    def close(self) -> None:
        self.closed = True


def make_broker() -> MemoryBroker:
    return MemoryBroker(LAYOUT, ManualClock(NOW))


def counted(broker: MemoryBroker, partition: Partition) -> list[Message]:
    """What a partition counts: of each source, what is past the highest place counted."""
    highest: dict[str, tuple[int, int]] = {}
    messages = []
    for message in broker.reader().read(partition, 0, 10**6):
        if message.place > highest.get(message.source, (-1, -1)):
            highest[message.source] = message.place
            messages.append(message)
    return messages


def random_event(rng: random.Random, number: int) -> Event:
    """Few people and few items, so that they meet."""
    user, item = f"u{rng.randrange(5)}", f"i{rng.randrange(4)}"
    match rng.randrange(10):
        case 0 | 1 | 2:
            attributes = {}
            for name, value in (("genre", rng.choice("abc")), ("tags", [rng.choice("xyz")]), ("title", str(number))):
                if rng.random() < 0.6:
                    attributes[name] = value if rng.random() < 0.8 else None
            merge = rng.random() < 0.5
            attributes = attributes if merge else {n: v for n, v in attributes.items() if v is not None}
            return ItemUpdate(item_id=item, attributes=attributes, merge=merge, listed=rng.choice([None, True, False]))
        case 3:
            if rng.random() < 0.3:
                return ItemRemoved(item_id=item)
            return UserUpdate(user_id=user, attributes={"country": "se"})
        case 4:
            return Impression(user_id=user, items=[ShownItem(f"i{n}") for n in rng.sample(range(5), 3)])
    return Interaction(user_id=user, item_id=item, action="click", id=rng.choice([None, str(number)]))


def joined(events: Sequence[Event]) -> list[Sent]:
    """The oracle: events in their order, joined with the catalogue as `CatalogFold` has it at each place."""
    from penchant.core.profiles import decode_item
    from penchant.core.state import catalog_key

    fold, blobs, sent = CatalogFold(SCHEMA), Blobs(), []
    for event in events:
        if isinstance(event, ItemUpdate | ItemRemoved):
            fold.apply([Record(1, NOW, NOW, ACCEPTED, 0, event)], blobs)
        ids: list[str] = []
        if isinstance(event, Interaction):
            ids = [event.item_id]
        elif isinstance(event, Impression):
            ids = [shown.item_id for shown in event.items]
        attributes = []
        for item_id in ids:
            blob = blobs.get(catalog_key(item_id))
            every = {} if blob is None else decode_item(blob).attributes
            attributes.append({name: value for name, value in every.items() if name in {"genre", "tags"}})
        sent.append(Sent(event, attributes))
    return sent
