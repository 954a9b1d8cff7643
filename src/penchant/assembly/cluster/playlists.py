"""The world that playlists for everybody are made in, from a state in partitions."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.playlists import Person, World
from penchant.catalog.mirror import ItemMirror
from penchant.core.log import START
from penchant.core.partitions import Layout, Partition, PartitionedState
from penchant.core.state import profile_key, user_key
from penchant.stores.listing import Listing


class Listed(PartitionedState, Protocol):
    """A state that can say which keys a partition has."""

    def listing(self, partition: Partition, after: int) -> Listing: ...


_AT_ONCE = 500
_KINDS = (user_key(""), profile_key(""))


@contextmanager
def cluster_world(parts: ClusterParts, state: Listed) -> Iterator[World]:
    """The world of a deployment as it is now; raises `StateUnavailable`.

    The picture of the items and the time stand still. A person is read when their turn comes, features and profile
    together, at the fence that their partition has then: a playlist says which.
    """
    store = parts.definition.memory_store()
    mirror = ItemMirror(state, parts.layout, store)
    mirror.renew()
    parts.clock.observe(max((meta.clock for meta in mirror.metas.values()), default=0))
    ids = everybody_of(state, parts.layout)
    snapshot = store.snapshot()

    def people(users: Sequence[str] | None) -> Generator[Person, None, None]:
        named = ids if users is None else sorted({user.encode() for user in users})
        return people_of(state, parts.layout, named)

    try:
        artifact = parts.artifacts.live() or ""
        yield World(parts.definition.settings, parts.artifacts, artifact, parts.clock.now(), snapshot, people, len(ids))
    finally:
        snapshot.close()
        store.close()


def everybody_of(state: Listed, layout: Layout) -> list[bytes]:
    """The ids of all whom the state knows something of, as UTF-8, in order."""
    ids: set[bytes] = set()
    for partition in layout.all():
        if partition.side == "users":
            ids.update(key[1:] for key in state.listing(partition, START).present if key[:1] in _KINDS)
    return sorted(ids)


def people_of(state: PartitionedState, layout: Layout, ids: Sequence[bytes]) -> Generator[Person, None, None]:
    """What the state says of people, in the order of `ids`; features and profile of one person at one fence."""
    for start in range(0, len(ids), _AT_ONCE):
        users = [user.decode() for user in ids[start : start + _AT_ONCE]]
        wanted: dict[Partition, list[str]] = {}
        for user in users:
            wanted.setdefault(layout.user(user), []).append(user)
        keys = [[key(user) for user in some for key in (user_key, profile_key)] for some in wanted.values()]
        found: dict[str, Person] = {}
        views = state.read(list(zip(wanted, keys, strict=True)))
        for some, view in zip(wanted.values(), views, strict=True):
            for index, user in enumerate(some):
                blob, profile = view.values[2 * index : 2 * index + 2]
                found[user] = Person(user, view.position, blob, profile)
        yield from (found[user] for user in users)
