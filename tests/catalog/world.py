"""A small state store, a reader of toy features, and random logs."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
from hypothesis import strategies as st

from penchant.catalog.arrays import offsets_of
from penchant.core.events import (
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.hashing import hash_id
from penchant.core.items import Keyed
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.core.schema import Action, Attribute, Schema
from penchant.core.vectors import pack
from penchant.features.reader import Evaluated

SCHEMA = Schema(
    actions={"click": Action("click", 0)},
    item={
        name: Attribute.of(name, kind)
        for name, kind in {
            "category": "category",
            "genres": "tags",
            "title": "text",
            "price": "number",
            "released_at": "timestamp",
            "adult": "flag",
            "embedding": "vector:3",
        }.items()
    },
    user={"country": Attribute("country", "category")},
)
NEVER = 2**62
WINDOW = 10


class Store:
    """State by key with the position of the last write; snapshots are copies."""

    def __init__(self) -> None:
        self.entries = {}
        self.written = {}
        self.position = 0
        self.generation = "0"

    def get_many(self, keys):
        return [self.entries.get(key) for key in keys]

    def put(self, key, value):
        self.commit(self.position, {key: value})

    def commit(self, position, writes):
        self.position = position
        for key, value in writes.items():
            self.written[key] = position
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value

    def snapshot(self):
        copy = Store()
        copy.entries, copy.written, copy.position = dict(self.entries), dict(self.written), self.position
        copy.generation = self.generation
        return copy

    def changed(self, after, prefix):
        return sorted(key for key, at in self.written.items() if key.startswith(prefix) and at > after)

    def scan(self, prefix):
        return ((key, self.entries[key]) for key in sorted(self.entries) if key.startswith(prefix))

    def close(self):
        pass


def toy_blob(events):
    """`[(ts, key), …]`: the toy features count them, all time and within the last `WINDOW`, in all and by key."""
    return msgspec.msgpack.encode(events)


class ToyReader:
    plan = SimpleNamespace(item_names=("total", "recent"))

    def __init__(self):
        self.read = 0

    def evaluate_items(self, blobs, now):
        self.read += len(blobs)
        events = [msgspec.msgpack.decode(blob) if blob else [] for blob in blobs]
        recent = [[key for ts, key in one if ts > now - WINDOW] for one in events]
        counts = [{hash_id(key): keys.count(key) for key in keys} for keys in recent]
        pairs = [sorted(one.items()) for one in counts]
        matrix = np.array([[len(e) or np.nan, len(r)] for e, r in zip(events, recent, strict=True)], np.float32)
        keyed = Keyed(
            offsets_of([len(one) for one in pairs]),
            np.array([key for one in pairs for key, _ in one], np.int64),
            np.array([n for one in pairs for _, n in one], np.int64),
        )
        later = [[ts + WINDOW for ts, _ in one if ts + WINDOW > now] for one in events]
        change = np.array([min(one, default=NEVER) for one in later], np.int64)
        return Evaluated(matrix.reshape(len(blobs), 2), {"by_key": keyed}, change)


def neighbours_blob(counts):
    hashes = [hash_id(item_id) for item_id in counts]
    return np.array([*hashes, *counts.values()], "<i8").tobytes()


def visits_blob(visits):
    """`{session: value}` as the fold of sessions writes it; sessions are spread as hashes are."""
    spread = sorted((session << 59 | session, value << 14) for session, value in visits.items())
    return np.array([*(session for session, _ in spread), *(value for _, value in spread)], "<i8").tobytes()


item_ids = st.sampled_from([f"i{n}" for n in range(8)])
user_ids = st.sampled_from(["u1", "u2", ""])
values = {
    "category": st.sampled_from(["news", "Ärger", "art", "zoo"]),
    "genres": st.lists(st.sampled_from(["war", "drama", "crime", "comedy"]), max_size=4),
    "title": st.text(max_size=3),
    "price": st.sampled_from([0, 1, 2.5, -3.0, 10**15]),
    "released_at": st.sampled_from([0, 5, -2_000, 10**12]),
    "adult": st.booleans(),
    "embedding": st.sampled_from([pack([0.5, -1, 0]), pack([0, 0, 0]), pack([1e-30, 3e38, 0.1])]),
}
attributes = st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in values.items()})
events = st.one_of(
    st.builds(Interaction, user_id=user_ids, item_id=item_ids, action=st.just("click")),
    st.builds(Impression, user_id=user_ids, items=st.lists(st.builds(ShownItem, item_id=item_ids), max_size=4)),
    st.builds(
        ItemUpdate,
        item_id=item_ids,
        attributes=attributes,
        listed=st.none() | st.booleans(),
        merge=st.booleans(),
    ),
    st.builds(ItemRemoved, item_id=item_ids),
    st.builds(
        UserUpdate,
        user_id=user_ids,
        attributes=st.fixed_dictionaries({}, optional={"country": st.sampled_from([None, "de", "fr"])}),
        merge=st.booleans(),
    ),
    st.builds(UserErased, user_id=user_ids),
)


@st.composite
def logs(draw, most=30):
    drawn = draw(st.lists(st.tuples(events, st.integers(0, 5), st.sampled_from([ACCEPTED, LATE])), max_size=most))
    ts, records = 100, []
    for position, (event, step, verdict) in enumerate(drawn, start=1):
        ts += step
        late = verdict if isinstance(event, Interaction | Impression) else ACCEPTED
        records.append(Record(position, ts, ts, late, 0, event))
    return records


def cut(records, sizes):
    """Batches of these sizes, each again cut before a profile event that follows another kind, as the runner does."""
    batches, start = [], 0
    while start < len(records):
        size = sizes[len(batches) % len(sizes)]
        batch = []
        for record in records[start : start + size]:
            profile = isinstance(record.event, ItemUpdate | ItemRemoved | UserUpdate | UserErased)
            if profile and batch and isinstance(batch[-1].event, Interaction | Impression):
                break
            batch.append(record)
        batches.append(batch)
        start += len(batch)
    return batches
