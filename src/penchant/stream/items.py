"""The fold of item partitions: what is kept of items, from events about them and from what people did."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from penchant.catalog.profiles import ROWS_KEY, ItemProfiles
from penchant.core.events import ItemRemoved, ItemUpdate
from penchant.core.log import ACCEPTED
from penchant.core.partitions import Deed, Deeds, Message, Sent
from penchant.core.schema import Schema
from penchant.core.stamping import stamped
from penchant.core.state import Key, catalog_key, item_key, neighbours_key, visits_key
from penchant.features.plan import Plan
from penchant.features.sides import FeatureSide, Gathering
from penchant.retrieval.covisit_fold import counted
from penchant.retrieval.session_fold import visited
from penchant.stream.batches import Batch
from penchant.stream.deeds import INDEX_BITS
from penchant.stream.sequencing import Arrivals, Seen, seen_key

_LAST = (1 << INDEX_BITS) - 1


class ItemsFold:
    """Keeps `c`, `i`, `n`, `v`, `d` and `#rows` of item partitions; many in one call. Rows count within a partition."""

    def __init__(self, schema: Schema, plan: Plan, *, implicit: bool, arrivals: Arrivals) -> None:
        self.implicit = implicit
        self.arrivals = arrivals
        self.features = FeatureSide(plan, plan.item, schema)

    def wanted(self, messages: Iterable[Message]) -> Collection[Key]:
        """The keys that folding these messages reads."""
        keys: dict[Key, None] = {ROWS_KEY: None}
        for message in messages:
            body = message.body
            if type(body) is Deeds:
                for deed in body.deeds:
                    for item_id in deed.items:
                        keys[catalog_key(item_id)] = None
                        keys[item_key(item_id)] = None
                    if deed.visit is not None:
                        keys[visits_key(deed.items[0])] = None
                    for item_id, _ in deed.pairs:
                        keys[neighbours_key(item_id)] = None
            else:
                item_id = getattr(body.event, "item_id", "")  # type: ignore[union-attr]
                keys[catalog_key(item_id)] = None
                if message.event_id is not None:
                    keys[seen_key(item_id)] = None
        return keys

    def fold(self, batches: Sequence[Batch]) -> None:
        """Fold the batches."""
        gathering = self.features.gathering()
        touched: list[tuple[Batch, Key]] = []
        paired: list[tuple[Batch, Key]] = []
        tables: list[int] = []
        partners: list[int] = []
        visits = Visits()
        for batch in batches:
            _Walk(self, batch, gathering, touched, paired, tables, partners, visits).go()
        blobs = gathering.merged([batch.values[key] for batch, key in touched])
        for (batch, key), blob in zip(touched, blobs, strict=True):
            batch.put(key, blob)
        if tables:
            old = [batch.values[key] for batch, key in paired]
            counts = counted(old, np.array(tables, np.int64), np.array(partners, np.int64))
            for (batch, key), blob in zip(paired, counts, strict=True):
                batch.put(key, blob)
        visits.put()


class Visits:
    """The visits of a batch to items of which a sample of sessions is kept."""

    def __init__(self) -> None:
        self._places: dict[Key, int] = {}
        self._batches: list[Batch] = []
        self._visits: list[int] = []

    def add(self, batch: Batch, item_id: str, visit: tuple[int, int]) -> None:
        """A visit; an item is in one partition, so its key names it."""
        key = visits_key(item_id)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self._places)
            self._batches.append(batch)
        self._visits += (place, *visit)

    def put(self) -> None:
        """Fold them into what the items keep."""
        if self._visits:
            visits = np.array(self._visits, np.int64).reshape(-1, 3)
            old = [batch.values[key] for batch, key in zip(self._batches, self._places, strict=True)]
            new = visited(old, visits[:, 0].copy(), visits[:, 1].copy(), visits[:, 2].copy())
            for batch, key, blob in zip(self._batches, self._places, new, strict=True):
                batch.put(key, blob)


class _Walk:
    """One batch, message by message; items get the next places in `touched` and `paired`."""

    def __init__(
        self,
        fold: ItemsFold,
        batch: Batch,
        gathering: Gathering,
        touched: list[tuple[Batch, Key]],
        paired: list[tuple[Batch, Key]],
        tables: list[int],
        partners: list[int],
        visits: Visits,
    ) -> None:
        self._fold = fold
        self._batch = batch
        self._gathering = gathering
        self._touched, self._paired = touched, paired
        self._tables, self._partners = tables, partners
        self._visits = visits
        self._items: dict[str, int] = {}
        self._pairs: dict[str, int] = {}
        self._named: set[str] = set()
        self._profiles = ItemProfiles(batch, implicit=fold.implicit)
        self._seen: dict[str, Seen] = {}

    def go(self) -> None:
        batch, meta = self._batch, self._batch.meta
        for message in batch.messages:
            body = message.body
            if type(body) is Deeds:
                self._deeds(message, body)
            elif type(body) is Sent:
                self._sent(message, body)
        self._profiles.write()
        meta.entities += self._profiles.made
        for item_id, seen in self._seen.items():
            batch.put(seen_key(item_id), seen.pack())

    def _sent(self, message: Message, sent: Sent) -> None:
        batch, meta, event = self._batch, self._batch.meta, sent.event
        ingested_at = meta.clock = self._fold.arrivals.at(meta.clock, message, event.ts)
        if not isinstance(event, ItemUpdate | ItemRemoved):
            return
        item_id = event.item_id
        if message.event_id is not None:
            seen = self._seen.get(item_id)
            if seen is None:
                seen = self._seen[item_id] = Seen(batch.values[seen_key(item_id)])
            if not seen.first(message.event_id, ingested_at):
                return
        self._profiles.load((item_id,))
        self._named.add(item_id)
        if isinstance(event, ItemUpdate):
            self._profiles.update(event, stamped(event.ts, ingested_at, False, 0)[0])
        else:
            self._profiles.remove(event)

    def _deeds(self, message: Message, body: Deeds) -> None:
        meta = self._batch.meta
        features, add, items = self._fold.features, self._gathering.add, self._items
        position = message.position << INDEX_BITS
        index = 0
        for deed in body.deeds:
            # A touch arrived when the record did, whenever it was told here: so blobs do not depend on that.
            ingested_at = deed.ingested_at
            meta.clock = max(meta.clock, ingested_at)
            if deed.items:
                self._name(deed)
                code = features.codes.get(deed.action, -1) if deed.action else features.impression
                if deed.verdict == ACCEPTED and code >= 0:
                    keys = features.given.of(deed.user, deed.attributes)
                    for item_id in deed.items:
                        item = items.get(item_id)
                        if item is None:
                            item = items[item_id] = len(self._touched)
                            self._touched.append((self._batch, item_key(item_id)))
                        at = position + min(index, _LAST)
                        add(item, deed.ts, at, ingested_at, code, deed.q, deed.present, deed.user, keys)
                        index += 1
            if deed.visit is not None:
                self._visits.add(self._batch, deed.items[0], deed.visit)
            for item_id, partners in deed.pairs:
                table = self._pairs.get(item_id)
                if table is None:
                    table = self._pairs[item_id] = len(self._paired)
                    self._paired.append((self._batch, neighbours_key(item_id)))
                self._tables += [table] * len(partners)
                self._partners += partners

    def _name(self, deed: Deed) -> None:
        for item_id in deed.items:
            if item_id not in self._named:
                self._named.add(item_id)
                if self._profiles.absent((item_id,)):
                    self._profiles.name(item_id, deed.ts)
