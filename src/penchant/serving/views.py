"""Live state of one item, one user and the engine, as the public contract shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penchant.core.clock import Clock
from penchant.core.errors import LogUnavailable, NotFound, StateUnavailable
from penchant.core.events import AttributeValue
from penchant.core.items import LISTED, REMOVED, Items
from penchant.core.log import EventLog
from penchant.core.profiles import decode_item, decode_user
from penchant.core.schema import Attribute, Schema
from penchant.core.state import StateStore, catalog_key, item_key, profile_key, user_key
from penchant.features.reader import Reader
from penchant.serving import wire
from penchant.serving.live import LiveWorld


class Views:
    """Reads the state store; every answer reflects one position."""

    def __init__(
        self,
        *,
        log: EventLog,
        store: StateStore,
        reader: Reader,
        schema: Schema,
        live: LiveWorld,
        clock: Clock,
        build: str,
    ) -> None:
        self._log = log
        self._store = store
        self._reader = reader
        self._schema = schema
        self._live = live
        self._clock = clock
        self._build = build
        self._users = (-1, 0)
        self._vocabulary: tuple[Items | None, dict[int, str]] = (None, {})

    def item(self, item_id: str) -> wire.ItemAnswer:
        """An item as of now; raises `NotFound` when the log never named it."""
        snapshot = self._store.snapshot()
        try:
            raw, blob = snapshot.get_many([catalog_key(item_id), item_key(item_id)])
        finally:
            snapshot.close()
        if raw is None:
            raise NotFound(f"no item {item_id!r}; send it as an item event")
        profile = decode_item(raw)
        if profile.status == REMOVED:
            raise NotFound(f"item {item_id!r} was removed")
        return wire.ItemAnswer(
            item_id=item_id,
            attributes=_shown(profile.attributes, self._schema.item),
            listed=profile.status == LISTED,
            counters=self._counters(blob),
            features=self._reader.describe(blob, "item", self._clock.now(), self._words()),
        )

    def user(self, user_id: str) -> wire.UserAnswer:
        """A user as of now, newest first; raises `NotFound` when the log never named the user."""
        snapshot = self._store.snapshot()
        try:
            blob, raw = snapshot.get_many([user_key(user_id), profile_key(user_id)])
            position = snapshot.position
        finally:
            snapshot.close()
        if blob is None and raw is None:
            raise NotFound(
                f"no user {user_id!r}; nothing that counts was received of them (events later than [log] lateness do "
                "not), or they were erased"
            )

        profile = decode_user(raw) if raw is not None else None
        return wire.UserAnswer(
            user_id=user_id,
            attributes=_shown(profile.attributes, self._schema.user) if profile else {},
            counters=self._counters(blob),
            recent=self._recent(blob),
            features=self._reader.describe(blob, "user", self._clock.now(), self._words()),
            position=str(position),
        )

    def status(self) -> wire.Status:
        """Where the engine stands."""
        live = self._live.current
        position, end = self._store.position(), self._log.end()
        return wire.Status(
            position=str(position),
            lag_events=max(0, end - position),
            lag_ms=self._lag(position, end),
            items=int(live.items.listed.sum()),
            users=self._count_users(position),
            artifact=f"sha256:{live.compiled.artifact}" if live.compiled.artifact else None,
            outbox=wire.Outbox(pending=0),
            build=self._build,
        )

    def ready(self) -> list[str]:
        """What is missing before requests can be answered; empty when ready."""
        missing = []
        try:
            self._store.position()
        except StateUnavailable as error:
            missing.append(str(error))
        try:
            self._log.end()
        except LogUnavailable as error:
            missing.append(str(error))
        return missing

    def _counters(self, blob: bytes | None) -> dict[str, int]:
        """By action only: impressions are no interactions (they are the feature `total_impression`)."""
        counted = self._reader.counters(blob)
        return {action: counted[action] for action in self._schema.actions}

    def _recent(self, blob: bytes | None) -> list[wire.RecentAnswer]:
        history = self._reader.recent(blob)
        items = self._live.current.items
        if any(item not in items.rows for item in history.items.tolist()):
            items = self._live.refresh().items
        actions = list(self._schema.actions.values())
        found = []
        for item, code, ts, q in zip(
            history.items.tolist(), history.actions.tolist(), history.ts.tolist(), history.values.tolist(), strict=True
        ):
            row = items.rows.get(item, -1)
            action = actions[code]
            found.append(
                wire.RecentAnswer(
                    item_id=items.ids[row] if row >= 0 else "",
                    action=action.name,
                    value=q / 10**action.scale if action.value else None,
                    ts=wire.rfc3339(ts),
                )
            )
        return found

    def _words(self) -> Callable[[int], str | None]:
        """What hashes in features stand for: item ids and values of item attributes."""
        items = self._live.current.items
        known, values = self._vocabulary
        if known is not items:
            vocabularies = [one.vocabulary for one in items.categories.values()]
            vocabularies += [one.vocabulary for one in items.tags.values()]
            values = {
                code: value
                for vocabulary in vocabularies
                for code, value in zip(vocabulary.hashes.tolist(), vocabulary.values, strict=True)
            }
            self._vocabulary = (items, values)

        def word(code: int) -> str | None:
            row = items.rows.get(code, -1)
            return items.ids[row] if 0 <= row < items.count else values.get(code)

        return word

    def _lag(self, position: int, end: int) -> int:
        if end <= position:
            return 0
        waiting = self._log.read(position, 1)
        return max(0, self._clock.now() - waiting[0].ingested_at) if waiting else 0

    def _count_users(self, position: int) -> int:
        if self._users[0] != position:
            snapshot = self._store.snapshot()
            try:
                self._users = (position, snapshot.count(b"u"))
            finally:
                snapshot.close()
        return self._users[1]


def _shown(attributes: Mapping[str, AttributeValue], declared: Mapping[str, Attribute]) -> dict[str, AttributeValue]:
    """Attributes as the contract shows them: timestamps as text."""
    return {
        name: wire.rfc3339(value) if isinstance(value, int) and _is_time(declared.get(name)) else value
        for name, value in attributes.items()
    }


def _is_time(attribute: Attribute | None) -> bool:
    return attribute is not None and attribute.kind == "timestamp"
