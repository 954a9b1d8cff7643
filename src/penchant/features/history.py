"""Exported records as columns: touches with the attributes that held at each, and erasures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penchant.core.events import (
    AttributeValue,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    UserErased,
    UserUpdate,
)
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, Record
from penchant.core.schema import Schema
from penchant.features.attributes import Keys, value_keys
from penchant.features.blob import Q_LIMIT
from penchant.features.plan import Plan

Ints = NDArray[np.int64]

TOUCH = ("position", "ts", "action", "q", "present", "user_id", "item_id", "user_keys", "item_keys")
"""Columns of touches: ids are hashes, `present` says whether there was a value, the keys name sets of `KeySets`."""
KEYED = ("keys", "attribute", "key")
"""Columns of the members of key sets: the set, the index of the attribute, the hash of a value."""
ERASED = ("user_id", "position")


@dataclass(frozen=True, slots=True, eq=False)
class Extract:
    """A log as int64 columns; ids and attribute values as hashes."""

    touches: Mapping[str, Ints]
    """`TOUCH`: a row per interaction and per item shown, with the attributes of both sides as of its position."""
    erased: Mapping[str, Ints]
    """`ERASED`: users and the positions at which they were erased."""
    user_keys: Mapping[str, Ints]
    """`KEYED`: the attributes of users that the plan's item features are split by."""
    item_keys: Mapping[str, Ints]
    """`KEYED`: the attributes of items that the plan's user features are split by."""
    item_touches: Mapping[str, Ints] | None = None
    """`TOUCH` as the item side has them, where people and items have logs of their own; None where one log has both."""


def extract(records: Iterable[Record], schema: Schema, plan: Plan) -> Extract:
    """The columns that features are recomputed from; records in order of position."""
    touches: list[tuple[int, ...]] = []
    erased: list[tuple[int, int]] = []
    items = _Profiles(KeySets(plan.user.attributes))
    users = _Profiles(KeySets(plan.item.attributes))
    removed: set[str] = set()
    for record in records:
        event, position = record.event, record.position
        match event:
            case Interaction() | Impression():
                for action, q, present, item_id in acts(record, schema):
                    touches.append(
                        (
                            position,
                            record.ts,
                            action,
                            q,
                            present,
                            hash_id(event.user_id),
                            hash_id(item_id),
                            users.keys(event.user_id),
                            items.keys(item_id),
                        )
                    )
            case ItemUpdate() if event.item_id not in removed:
                items.change(event.item_id, event.attributes, merge=event.merge)
            case ItemRemoved():
                removed.add(event.item_id)
                items.change(event.item_id, {}, merge=False)
            case UserUpdate() if event.user_id:
                users.change(event.user_id, event.attributes, merge=event.merge)
            case UserErased() if event.user_id:
                users.change(event.user_id, {}, merge=False)
                erased.append((hash_id(event.user_id), position))
    return Extract(
        touches=columns(TOUCH, touches),
        erased=columns(ERASED, erased),
        user_keys=columns(KEYED, users.sets.rows),
        item_keys=columns(KEYED, items.sets.rows),
    )


def acts(record: Record, schema: Schema) -> Iterable[tuple[int, int, int, str]]:
    """What a record adds to features, by item: (action code, q, has a value, item id)."""
    event = record.event
    if record.verdict != ACCEPTED:
        return
    if isinstance(event, Interaction):
        if event.action in schema.actions:
            q = max(-Q_LIMIT, min(Q_LIMIT, record.q))
            yield schema.actions[event.action].code, q, int(event.value is not None), event.item_id
    elif isinstance(event, Impression):
        for shown in event.items:
            yield len(schema.actions), 0, 0, shown.item_id


def columns(names: Sequence[str], rows: Sequence[tuple[int, ...]]) -> dict[str, Ints]:
    """Rows of integers as named int64 columns."""
    table = np.array(rows, np.int64).reshape(-1, len(names)).T
    return {name: np.ascontiguousarray(column) for name, column in zip(names, table, strict=True)}


class KeySets:
    """Numbers the distinct sets of attribute keys that were met, from `first` on; `rows` lists their members."""

    def __init__(self, attributes: Sequence[str], first: int = 0) -> None:
        self.rows: list[tuple[int, int, int]] = []
        self._attributes = attributes
        self._first = first
        self._known: dict[Keys, int] = {}
        self.empty = self.of({})

    def of(self, values: Mapping[str, AttributeValue]) -> int:
        """The number of the set that attribute values make."""
        keys = tuple(value_keys(values.get(name)) for name in self._attributes)
        number = self._known.get(keys)
        if number is None:
            number = self._known[keys] = self._first + len(self._known)
            self.rows.extend((number, index, key) for index, some in enumerate(keys) for key in some)
        return number


@dataclass(slots=True, eq=False)
class _Profiles:
    """The attributes that entities have now."""

    sets: KeySets
    now: dict[str, tuple[Mapping[str, AttributeValue], int]] = field(default_factory=dict)

    def change(self, entity: str, new: Mapping[str, AttributeValue], *, merge: bool) -> None:
        old = self.now[entity][0] if merge and entity in self.now else {}
        values = {**old, **new}
        self.now[entity] = values, self.sets.of(values)

    def keys(self, entity: str) -> int:
        known = self.now.get(entity)
        return self.sets.empty if known is None else known[1]
