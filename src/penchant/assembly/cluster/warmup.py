"""Meets the loops of the fold before the first message does, so that a worker that joins folds at once."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.core.clock import Millis
from penchant.core.events import AttributeValue, Event, Impression, Interaction, ItemUpdate, ShownItem, UserUpdate
from penchant.core.log import START
from penchant.core.outbox import partition_of
from penchant.core.partitions import Message, Meta, Outgoing, Partition, Sent
from penchant.core.schema import Schema
from penchant.stream.sides import Sides

_NOW: Millis = 1_700_000_000_000
_ITEMS = ("i0", "i1", "i2")


def warm_fold(sides: Sides, schema: Schema) -> None:
    """Fold made events of one person, and the deeds they make; nothing of it is kept."""
    tags = {one.name: ["a"] for one in schema.item.values() if one.kind == "tags"}
    categories = {one.name: "a" for one in schema.item.values() if one.kind == "category"}
    about: dict[str, str] = {one.name: "a" for one in schema.user.values() if one.kind == "category"}
    joined: dict[str, AttributeValue] = {**tags, **categories}
    done = [
        Sent(Interaction(user_id="u", item_id=item, action=action, value=1.0, ts=_NOW), [joined])
        for action in schema.actions
        for item in _ITEMS
    ]
    shown = Impression(user_id="u", items=[ShownItem(item) for item in _ITEMS], ts=_NOW)
    person: list[Sent] = [Sent(UserUpdate(user_id="u", attributes={**about}, ts=_NOW)), *done]
    person.append(Sent(shown, [joined] * len(_ITEMS)))
    deeds = _fold(sides, sides.layout.user("u"), [_outgoing(sides, sent, at) for at, sent in enumerate(person, 1)])
    items = [_outgoing(sides, Sent(ItemUpdate(item_id=item, attributes={}, ts=_NOW)), 1) for item in _ITEMS]
    for partition in {one.partition for one in (*items, *deeds)}:
        _fold(sides, partition, [one for one in (*items, *deeds) if one.partition == partition])


def _outgoing(sides: Sides, sent: Sent, row: int) -> Outgoing:
    event: Event = sent.event
    return Outgoing(partition_of(event, sides.layout), "", "warm-up", (0, row), None, sent)


def _fold(sides: Sides, partition: Partition, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
    messages = [
        Message(partition, position, _NOW, one.source, one.place, None, one.body)
        for position, one in enumerate(outgoing, 1)
    ]
    batch, _ = sides.batch(partition, START, Meta(), messages)
    batch.values = dict.fromkeys(sides.wanted(batch))
    return sides.fold([batch])
