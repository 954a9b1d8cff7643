"""Playlists for everybody: one pass over the people of a deployment, in the world as it was at one moment."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple

import msgspec

from penchant.assembly.parts import Definition, Parts
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.catalog.columns import ItemColumns
from penchant.core.clock import Millis
from penchant.core.state import Key, Snapshot, profile_key, user_key
from penchant.experiments.assignment import Assignment
from penchant.rerank.discovery import Discovery
from penchant.rerank.presentation import Wording
from penchant.serving.answers import Answers
from penchant.serving.live import Live
from penchant.serving.playlists import PlaylistMaker
from penchant.serving.queries import Preparation
from penchant.settings import Settings
from penchant.stream.runner import StreamRunner
from penchant.training.artifacts import ArtifactStore

Progress = Callable[[str, int, int], None]

_AT_ONCE = 500


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to make: `n` items a person on `surface`, with a `share` of discoveries (see `Discovery`)."""

    surface: str = "weekly"
    n: int = 30
    share: float = 0.0
    by: str | None = None


class Person(NamedTuple):
    """What the state says of somebody: features and profile, at a position."""

    user_id: str
    position: int
    blob: bytes | None
    profile: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What a batch is made from. `people` gives everybody, or some, in the order of their ids as UTF-8."""

    settings: Settings
    artifacts: ArtifactStore
    artifact: str
    now: Millis
    items: Snapshot
    """The state of all items."""
    people: Callable[[Sequence[str] | None], Generator[Person, None, None]]
    known: int
    """About how many people there are."""


@contextmanager
def folder_world(parts: Parts) -> Iterator[World]:
    """The world of a folder as it is now, its log folded to the end; people and items are of one snapshot."""
    runner = StreamRunner(parts.log, parts.store, parts.definition.folds())
    while runner.step():
        pass
    now = parts.clock.now()
    snapshot = parts.store.snapshot()
    try:
        yield World(
            parts.definition.settings,
            parts.artifacts,
            parts.artifacts.live() or "",
            now,
            snapshot,
            lambda users: everybody(snapshot) if users is None else some(snapshot, users),
            # Nearly all who have a profile did something as well.
            max(snapshot.count(user_key("")), snapshot.count(profile_key(""))),
        )
    finally:
        snapshot.close()


def maker(world: World, order: Order) -> PlaylistMaker:
    """The maker of an order; raises `SettingsError` and `ArtifactError`."""
    settings, definition = world.settings, Definition.of(world.settings)
    compiled = SurfaceCompiler(definition, world.artifacts).compile(world.artifact)
    items = ItemColumns(definition.schema, definition.reader).refresh(world.items, world.now)
    caps = compiled.surfaces[order.surface].settings.select.caps
    return PlaylistMaker(
        live=Live(compiled, compiled.prepared(items)),
        reader=definition.reader,
        preparation=Preparation(definition.schema, settings.sources.segment),
        answers=Answers(definition.schema, Wording(definition.schema).text),
        assigner=Assignment(settings.experiments),
        discovery=Discovery(order.share, order.by, caps, definition.schema),
        surface=order.surface,
        n=order.n,
        now=world.now,
    )


def everybody(snapshot: Snapshot) -> Generator[Person, None, None]:
    """All whom the state knows something of, in the order of their ids as UTF-8."""
    blobs, profiles = snapshot.scan(user_key("")), snapshot.scan(profile_key(""))
    merged = heapq.merge(blobs, profiles, key=_id_of)
    for user, entries in groupby(merged, key=_id_of):
        found = {key[:1]: value for key, value in entries}
        yield Person(user.decode(), snapshot.position, found.get(user_key("")), found.get(profile_key("")))


def _id_of(entry: tuple[Key, bytes]) -> bytes:
    return entry[0][1:]


def some(snapshot: Snapshot, users: Sequence[str]) -> Generator[Person, None, None]:
    """Those named, each once, in the order of their ids as UTF-8; also those whom the state knows nothing of."""
    ids = iter(sorted(set(users), key=str.encode))
    while chunk := list(islice(ids, _AT_ONCE)):
        blobs = snapshot.get_many([user_key(user) for user in chunk])
        profiles = snapshot.get_many([profile_key(user) for user in chunk])
        for user, blob, profile in zip(chunk, blobs, profiles, strict=True):
            yield Person(user, snapshot.position, blob, profile)


def playlists(world: World, order: Order, users: Sequence[str] | None, tell: Progress) -> Generator[bytes, None, None]:
    """Everybody's playlist as JSON (`serving.playlists.Playlist`), or that of some users, in the order of their ids.

    Equal state, time and order give equal bytes.
    """
    people = world.people(users)
    try:
        make = maker(world, order).make
        total = len(set(users)) if users is not None else world.known
        made = 0
        for made, person in enumerate(people, start=1):
            yield msgspec.json.encode(make(*person))
            if made % 100 == 0:
                tell("making", made, max(made, total))
        tell("making", made, made)
    finally:
        people.close()
