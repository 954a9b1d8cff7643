"""What calls need of the state and of the way in, wherever both are; and both for a deployment in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from penchant.core.clock import Clock
from penchant.core.errors import LogUnavailable, StateUnavailable
from penchant.core.events import Event
from penchant.core.items import Items
from penchant.core.log import EventLog
from penchant.core.state import StateStore, catalog_key, item_key, profile_key, user_key
from penchant.serving import wire


class Stored(NamedTuple):
    """What the state says of a user."""

    position: int
    features: bytes | None
    profile: bytes | None


class StoredItem(NamedTuple):
    """What the state says of an item."""

    profile: bytes | None
    features: bytes | None


class Standing(NamedTuple):
    """How far the state is behind what was accepted."""

    position: str
    lag_events: int
    lag_ms: int
    users: int
    pending: int
    """Events accepted that the log does not have yet."""
    items: int = 0
    """Items that the state knows, for services that have no picture of them."""


class Taken(NamedTuple):
    """What became of a batch; `position` is its token."""

    accepted: int
    duplicates: int
    position: str


class Intake(Protocol):
    """The way into the log. Safe to call from several threads."""

    def take(self, events: Sequence[Event]) -> Taken:
        """Make the events durable; raises `LogFull` having taken nothing."""

    def present(self) -> str:
        """The token for everything taken so far."""


class Reading(Protocol):
    """The state as calls read it. Safe to call from several threads; what reads raises `StateUnavailable`.

    A *place* is what a token stands for; only the reading that made it knows what is in it.
    """

    def user(self, user_id: str) -> Stored:
        """A user, by one read; "" is nobody."""

    def item(self, item_id: str) -> StoredItem:
        """An item, by one read."""

    def place(self, token: str, field: str) -> object:
        """What the token stands for; raises `InvalidRequest` for one that was never given."""

    def reached(self, place: object, user_id: str | None) -> bool:
        """Whether the state has all of the place that concerns the user (None: all of it)."""

    def token(self, user_id: str, position: int, items: Items | None) -> str:
        """The token for the state of a user, and the picture, that an answer was made of."""

    def standing(self) -> Standing:
        """How far the state is."""

    def missing(self) -> list[str]:
        """What cannot be read for now."""


class OwnLog:
    """The `Intake` of a log in the same folder."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def take(self, events: Sequence[Event]) -> Taken:
        """Append."""
        appended = self._log.append(events)
        return Taken(appended.accepted, appended.duplicates, str(appended.position))

    def present(self) -> str:
        """The end of the log."""
        return str(self._log.end())


class OwnState:
    """The `Reading` of a state in the same folder: a place is a position of the one log."""

    def __init__(self, log: EventLog, store: StateStore, clock: Clock) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._users = (-1, 0)

    def user(self, user_id: str) -> Stored:
        """Features and profile in one snapshot."""
        if not user_id:
            return Stored(self._store.position(), None, None)
        snapshot = self._store.snapshot()
        try:
            features, profile = snapshot.get_many([user_key(user_id), profile_key(user_id)])
            return Stored(snapshot.position, features, profile)
        finally:
            snapshot.close()

    def item(self, item_id: str) -> StoredItem:
        """Profile and features in one snapshot."""
        snapshot = self._store.snapshot()
        try:
            return StoredItem(*snapshot.get_many([catalog_key(item_id), item_key(item_id)]))
        finally:
            snapshot.close()

    def place(self, token: str, field: str) -> int:
        """The position."""
        return wire.position_of(token, field)

    def reached(self, place: object, user_id: str | None) -> bool:
        """Whether the fence is there."""
        del user_id
        assert isinstance(place, int)
        return self._store.position() >= place

    def token(self, user_id: str, position: int, items: Items | None) -> str:
        """The older of both positions."""
        del user_id
        return str(position if items is None else min(position, items.position))

    def standing(self) -> Standing:
        """Fence against end."""
        position, end = self._store.position(), self._log.end()
        return Standing(str(position), max(0, end - position), self._lag(position, end), self._count(position), 0)

    def missing(self) -> list[str]:
        """State and log."""
        missing = []
        for ask in (self._store.position, self._log.end):
            try:
                ask()
            except (StateUnavailable, LogUnavailable) as error:
                missing.append(str(error))
        return missing

    def _lag(self, position: int, end: int) -> int:
        if end <= position:
            return 0
        waiting = self._log.read(position, 1)
        return max(0, self._clock.now() - waiting[0].ingested_at) if waiting else 0

    def _count(self, position: int) -> int:
        if self._users[0] != position:
            snapshot = self._store.snapshot()
            try:
                self._users = (position, snapshot.count(b"u"))
            finally:
                snapshot.close()
        return self._users[1]
