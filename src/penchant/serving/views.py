"""Live state of one item, one user and the engine, as the public contract shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penchant.core.clock import Clock
from penchant.core.errors import NotFound
from penchant.core.events import AttributeValue
from penchant.core.items import LISTED, REMOVED, Items
from penchant.core.profiles import decode_item, decode_user
from penchant.core.schema import Attribute, Schema
from penchant.core.vectors import numbers, unpack
from penchant.features.reader import Reader
from penchant.serving import wire
from penchant.serving.live import World
from penchant.serving.reading import Reading


class Views:
    """Reads the state store; every answer reflects one position."""

    def __init__(
        self,
        *,
        reading: Reading,
        reader: Reader,
        schema: Schema,
        live: World,
        clock: Clock,
        build: str,
    ) -> None:
        self._reading = reading
        self._reader = reader
        self._schema = schema
        self._live = live
        self._clock = clock
        self._build = build
        self._vocabulary: tuple[Items | None, dict[int, str]] = (None, {})

    def item(self, item_id: str) -> wire.ItemAnswer:
        """An item as of now; raises `NotFound` when the log never named it."""
        raw, blob = self._reading.item(item_id)
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
        position, blob, raw = self._reading.user(user_id)
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
            position=self._reading.token(user_id, position, None),
        )

    def status(self) -> wire.Status:
        """Where the engine stands."""
        live = self._live.current
        standing = self._reading.standing()
        return wire.Status(
            position=standing.position,
            lag_events=standing.lag_events,
            lag_ms=standing.lag_ms,
            items=int(live.items.listed.sum()),
            users=standing.users,
            artifact=f"sha256:{live.compiled.artifact}" if live.compiled.artifact else None,
            outbox=wire.Outbox(pending=standing.pending),
            build=self._build,
        )

    def ready(self) -> list[str]:
        """What is missing before requests can be answered; empty when ready."""
        return self._reading.missing()

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


def _shown(attributes: Mapping[str, AttributeValue], declared: Mapping[str, Attribute]) -> dict[str, AttributeValue]:
    """Attributes as the contract shows them: timestamps as text, vectors as numbers."""
    return {name: _as_shown(value, declared.get(name)) for name, value in attributes.items()}


def _as_shown(value: AttributeValue, attribute: Attribute | None) -> AttributeValue:
    if attribute is None:
        return value
    if attribute.kind == "timestamp" and isinstance(value, int):
        return wire.rfc3339(value)
    if attribute.kind == "vector":
        vector = unpack(value, attribute.size)
        return None if vector is None else numbers(vector)
    return value
