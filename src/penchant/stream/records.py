"""A log in partitions as records: what counts of each, with the arrival and the verdict that the folds give it."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.core.events import Event, Interaction, UserErased
from penchant.core.log import START, Record
from penchant.core.partitions import Deeds, Message, Meta, Partition, Sent
from penchant.core.schema import Schema
from penchant.core.stamping import is_timed, stamped
from penchant.stream.sequencing import GONE_KEY, Seen, seen_key
from penchant.stream.sides import Sides


class PartitionRecords:
    """The records of one partition, message by message from its first on; positions are the partition's.

    Events that the folds pass over, as they came before, are left out; what the fold of another partition tells is no
    event.
    """

    def __init__(self, sides: Sides, schema: Schema, partition: Partition) -> None:
        self.partition = partition
        self._sides = sides
        self._schema = schema
        self._meta = Meta()
        self._fence = START
        self._seen: dict[bytes, Seen] = {}

    def take(self, messages: Sequence[Message]) -> list[Record]:
        """The records of the next messages (one at least)."""
        batch, _ = self._sides.batch(self.partition, self._fence, self._meta, messages)
        self._fence, self._meta = batch.position, batch.meta
        records = []
        for message in batch.messages:
            if isinstance(message.body, Deeds):
                # They move the clock of items, as in the fold.
                self._meta.clock = max(self._meta.clock, *(deed.ingested_at for deed in message.body.deeds))
                continue
            record = self._record(message, message.body)
            if record is not None:
                records.append(record)
        return records

    def _record(self, message: Message, sent: Sent) -> Record | None:
        event, arrivals = sent.event, self._sides.users.arrivals
        self._meta.clock = ingested_at = arrivals.at(self._meta.clock, message, event.ts)
        if not self._is_first(message, event, ingested_at):
            return None
        if isinstance(event, UserErased):
            self._seen.pop(seen_key(event.user_id), None)
        ts, verdict = stamped(event.ts, ingested_at, is_timed(event), arrivals.lateness)
        action = self._schema.actions.get(event.action) if isinstance(event, Interaction) else None
        q = action.quantise(event.value) if action is not None and isinstance(event, Interaction) else 0
        return Record(message.position, ingested_at, ts, verdict, q, event)

    def _is_first(self, message: Message, event: Event, ingested_at: int) -> bool:
        entity = event.user_id if self.partition.side == "users" else event.item_id  # type: ignore[union-attr]
        if message.event_id is None or not entity:
            return True
        key = GONE_KEY if isinstance(event, UserErased) else seen_key(entity)
        return self._seen.setdefault(key, Seen(None)).first(message.event_id, ingested_at)
