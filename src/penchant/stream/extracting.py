"""A log in partitions as columns, for features to be recomputed from: what it decided, without what is kept of it.

Which messages count, when they arrived and whether they were late is decided as the folds decide it, as a record of the
embedded log says so itself; what features are is left to `features.sql`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from penchant.core.events import Impression, Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, START, Record
from penchant.core.partitions import Deeds, Message, Meta, Partition, Sent
from penchant.core.schema import Schema
from penchant.core.stamping import stamped
from penchant.features.fold import clamped
from penchant.features.history import ERASED, KEYED, TOUCH, Extract, KeySets, acts, columns
from penchant.features.plan import Plan
from penchant.features.spec import Side
from penchant.stream.deeds import INDEX_BITS
from penchant.stream.sequencing import Seen
from penchant.stream.sides import Sides

_SETS_BITS = 40
"""Sets of attribute keys are numbered within a partition; above these bits stands which one."""
_READ = 5_000
_NO_SET = -1


class PartitionExtract:
    """The columns of one partition, message by message from its first on.

    Of a user partition `touches` are those of people, by their position; of an item partition those of items, by
    `position << 16 | index in the message`.
    """

    def __init__(self, sides: Sides, schema: Schema, plan: Plan, partition: Partition) -> None:
        users = partition.side == "users"
        number = partition.number if users else sides.layout.users + partition.number
        self.partition = partition
        self.touches: list[tuple[int, ...]] = []
        self.erased: list[tuple[int, int]] = []
        self.sets = KeySets((plan.user if users else plan.item).attributes, number << _SETS_BITS)
        self._sides = sides
        self._schema = schema
        self._meta = Meta()
        self._fence = START
        self._seen: dict[str, Seen] = {}

    def read(self, read: Callable[[Partition, int, int], Sequence[Message]]) -> PartitionExtract:
        """Take all that `PartitionReader.read`, or the archive's, gives; raises `LogUnavailable`."""
        while messages := read(self.partition, self._fence, _READ):
            self.take(messages)
        return self

    def take(self, messages: Sequence[Message]) -> None:
        """Take the next messages."""
        batch, _ = self._sides.batch(self.partition, self._fence, self._meta, messages)
        self._fence, self._meta = batch.position, batch.meta
        for message in batch.messages:
            if isinstance(message.body, Deeds):
                self._deeds(message, message.body)
            else:
                self._sent(message, message.body)

    def _sent(self, message: Message, sent: Sent) -> None:
        event, position, arrivals = sent.event, message.position, self._sides.users.arrivals
        self._meta.clock = ingested_at = arrivals.at(self._meta.clock, message, event.ts)
        if isinstance(event, UserErased):
            self._seen.pop(event.user_id, None)
            self.erased.append((hash_id(event.user_id), position))
            return
        first = self._is_first(message, getattr(event, "user_id", ""), ingested_at)
        if not first or not isinstance(event, Interaction | Impression) or not event.user_id:
            return
        ts, verdict = stamped(event.ts, ingested_at, True, arrivals.lateness)
        q = 0
        if isinstance(event, Interaction) and event.action in self._schema.actions:
            q = self._schema.actions[event.action].quantise(event.value)
        user = hash_id(event.user_id)
        record = Record(position, ingested_at, ts, verdict, q, event)
        for index, (action, value, present, item_id) in enumerate(acts(record, self._schema)):
            keys = self.sets.of(sent.attributes[index] if index < len(sent.attributes) else {})
            self.touches.append((position, ts, action, value, present, user, hash_id(item_id), _NO_SET, keys))

    def _deeds(self, message: Message, body: Deeds) -> None:
        index, last, actions = 0, (1 << INDEX_BITS) - 1, self._schema.actions
        for deed in body.deeds:
            if deed.verdict != ACCEPTED or (deed.action and deed.action not in actions):
                continue
            action = actions[deed.action].code if deed.action else len(actions)
            keys = self.sets.of(deed.attributes) if deed.items else self.sets.empty
            for item_id in deed.items:
                at = message.position << INDEX_BITS | min(index, last)
                index += 1
                q, item = clamped(deed.q), hash_id(item_id)
                self.touches.append((at, deed.ts, action, q, int(deed.present), deed.user, item, keys, _NO_SET))

    def _is_first(self, message: Message, user_id: str, ingested_at: int) -> bool:
        if message.event_id is None or not user_id:
            return True
        return self._seen.setdefault(user_id, Seen(None)).first(message.event_id, ingested_at)

    def rows(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """(table, row), the tables as `features.spark.FRAME` names them."""
        side: Side = "user" if self.partition.side == "users" else "item"
        for name, rows in ((f"touch_{side}", self.touches), ("erased", self.erased), (f"keys_{side}", self.sets.rows)):
            for row in rows:
                yield name, row


def extract_partitions(extracts: Iterable[PartitionExtract]) -> Extract:
    """The columns of all partitions together."""
    tables: dict[str, list[tuple[int, ...]]] = {}
    for extract in extracts:
        for name, row in extract.rows():
            tables.setdefault(name, []).append(row)
    return Extract(
        touches=columns(TOUCH, tables.get("touch_user", ())),
        item_touches=columns(TOUCH, tables.get("touch_item", ())),
        erased=columns(ERASED, tables.get("erased", ())),
        item_keys=columns(KEYED, tables.get("keys_user", ())),
        user_keys=columns(KEYED, tables.get("keys_item", ())),
    )


def visible(side: Side, fence: int) -> int:
    """The position up to which an entity's touches are seen by who read its partition's state at this fence."""
    return fence if side == "user" else fence << INDEX_BITS | (1 << INDEX_BITS) - 1
