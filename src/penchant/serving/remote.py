"""The state and the way in of a deployment whose log and state are on other machines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from penchant.core.clock import Clock
from penchant.core.errors import LogUnavailable, StateUnavailable
from penchant.core.items import Items
from penchant.core.partitions import (
    META_KEY,
    Layout,
    Meta,
    Partition,
    PartitionedState,
    Place,
    decode_meta,
)
from penchant.core.state import catalog_key, item_key, profile_key, user_key
from penchant.serving.reading import Standing, Stored, StoredItem
from penchant.serving.tokens import Places

Ends = Callable[[Sequence[Partition]], Mapping[Partition, int]]
"""The last positions of partitions; raises `LogUnavailable`."""
_KNOWN_MS = 1_000


class RemoteState:
    """The `Reading` of a state in partitions: one atomic read of the user's partition answers a request.

    A place is what a `Places` token says. `pending` tells how many events wait in the outbox of this process.
    """

    def __init__(
        self,
        state: PartitionedState,
        layout: Layout,
        clock: Clock,
        ends: Ends | None = None,
        pending: Callable[[], int] = lambda: 0,
    ) -> None:
        self._state = state
        self._layout = layout
        self._clock = clock
        self._ends = ends
        self._pending = pending
        self._lock = threading.Lock()
        self._standing: tuple[int, Standing] | None = None

    def user(self, user_id: str) -> Stored:
        """Features and profile of one partition at one fence."""
        if not user_id:
            return Stored(0, None, None)
        partition = self._layout.user(user_id)
        ((position, (features, profile)),) = self._state.read([(partition, [user_key(user_id), profile_key(user_id)])])
        return Stored(position, features, profile)

    def item(self, item_id: str) -> StoredItem:
        """Profile and features of one partition at one fence."""
        ((_, values),) = self._state.read([(self._layout.item(item_id), [catalog_key(item_id), item_key(item_id)])])
        return StoredItem(*values)

    def place(self, token: str, field: str) -> Places:
        """The places that the token names."""
        return Places.parse(token, field)

    def reached(self, place: object, user_id: str | None) -> bool:
        """Whether the user's own partition has it; with None, whether all partitions do."""
        assert isinstance(place, Places)
        asked = list(place.places)
        if user_id is not None:
            asked = [partition for partition in asked if partition == self._layout.user(user_id)] if user_id else []
        if not asked:
            return True
        views = self._state.read([(partition, [META_KEY]) for partition in asked])
        return all(
            has(view.position, decode_meta(view.values[0]), place, partition)
            for partition, view in zip(asked, views, strict=True)
        )

    def token(self, user_id: str, position: int, items: Items | None) -> str:
        """The fence of the user's partition."""
        del items  # pictures are renewed many times a second; what a token of an answer promises is the user's state
        return str(Places("", {self._layout.user(user_id): (position, 0)}))

    def standing(self) -> Standing:
        """Fences against ends of all partitions; at most once a second."""
        now = self._clock.now()
        with self._lock:
            if self._standing is None or not 0 <= now - self._standing[0] < _KNOWN_MS:
                self._standing = (now, self._look(now))
            return self._standing[1]._replace(pending=self._pending())

    def missing(self) -> list[str]:
        """The state; a log that is away is no reason not to answer."""
        try:
            self._state.read([(Partition("users", 0), [META_KEY])])
        except StateUnavailable as error:
            return [str(error)]
        return []

    def _look(self, now: int) -> Standing:
        partitions = self._layout.all()
        views = self._state.read([(partition, [META_KEY]) for partition in partitions])
        fences = {partition: view.position for partition, view in zip(partitions, views, strict=True)}
        metas = [decode_meta(view.values[0]) for view in views]
        users = sum(meta.entities for meta in metas[: self._layout.users])
        try:
            ends = self._ends(partitions) if self._ends else {}
        except LogUnavailable:
            ends = {}
        behind = {p: ends[p] - fences[p] for p in partitions if ends.get(p, 0) > fences[p]}
        clocks = [meta.clock or now for p, meta in zip(partitions, metas, strict=True) if p in behind]
        return Standing(
            position=str(Places("", {partition: (fence, 0) for partition, fence in fences.items()})),
            lag_events=sum(behind.values()),
            lag_ms=max(0, now - min(clocks, default=now)),
            users=users,
            pending=0,
            items=sum(meta.entities for meta in metas[self._layout.users :]),
        )


def has(fence: int, meta: Meta, wanted: Places, partition: Partition) -> bool:
    """Whether a partition at that fence has the place wanted of it; places are compared in their order."""
    place: Place = wanted.places[partition]
    return (fence, 0) >= place if not wanted.source else tuple(meta.sources.get(wanted.source, (0, 0))) >= place
