"""Exported records as columns: touches, erasures, and the attributes of items and users as they changed."""

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
from penchant.features.attributes import value_keys
from penchant.features.blob import Q_LIMIT
from penchant.features.plan import Plan

Ints = NDArray[np.int64]

_COLUMNS = ("position", "ts", "action", "q", "present", "user", "item")


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Versions of attributes: entity (hash), position it holds from, version; and (version, attribute, key) rows."""

    entity: Ints
    position: Ints
    version: Ints
    key_version: Ints
    attribute: Ints
    key: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Extract:
    """A log as int64 columns; ids and attribute values as hashes."""

    touches: Mapping[str, Ints]
    """position, ts, action, q, present (has a value), user, item: a row per interaction and per item shown."""
    erased: tuple[Ints, Ints]
    """Users (hash) and the positions at which they were erased."""
    item_profiles: Profiles
    user_profiles: Profiles


def extract(records: Iterable[Record], schema: Schema, plan: Plan) -> Extract:
    """The columns that features are recomputed from; records in order of position."""
    touches: list[tuple[int, ...]] = []
    erased: list[tuple[int, int]] = []
    items = _Versions(plan.user.attributes)
    users = _Versions(plan.item.attributes)
    removed: set[str] = set()
    for record in records:
        event, position = record.event, record.position
        match event:
            case Interaction() if record.verdict == ACCEPTED and event.action in schema.actions:
                q = max(-Q_LIMIT, min(Q_LIMIT, record.q))
                code = schema.actions[event.action].code
                present = int(event.value is not None)
                touches.append((position, record.ts, code, q, present, hash_id(event.user_id), hash_id(event.item_id)))
            case Impression() if record.verdict == ACCEPTED:
                user = hash_id(event.user_id)
                code = len(schema.actions)
                touches.extend((position, record.ts, code, 0, 0, user, hash_id(item.item_id)) for item in event.items)
            case ItemUpdate() if event.item_id not in removed:
                items.change(event.item_id, position, event.attributes, merge=event.merge)
            case ItemRemoved():
                removed.add(event.item_id)
                items.change(event.item_id, position, {}, merge=False)
            case UserUpdate() if event.user_id:
                users.change(event.user_id, position, event.attributes, merge=event.merge)
            case UserErased() if event.user_id:
                users.change(event.user_id, position, {}, merge=False)
                erased.append((hash_id(event.user_id), position))
    columns = np.array(touches, np.int64).reshape(-1, len(_COLUMNS)).T
    gone = np.array(erased, np.int64).reshape(-1, 2)
    return Extract(
        touches={name: np.ascontiguousarray(column) for name, column in zip(_COLUMNS, columns, strict=True)},
        erased=(gone[:, 0].copy(), gone[:, 1].copy()),
        item_profiles=items.build(),
        user_profiles=users.build(),
    )


@dataclass(slots=True, eq=False)
class _Versions:
    """Attributes under construction: what each entity has now, and a row for every change."""

    attributes: Sequence[str]
    now: dict[str, dict[str, AttributeValue]] = field(default_factory=dict)
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    keys: list[tuple[int, int, int]] = field(default_factory=list)

    def change(self, entity: str, position: int, new: Mapping[str, AttributeValue], *, merge: bool) -> None:
        values = {**(self.now.get(entity, {}) if merge else {}), **new}
        self.now[entity] = values
        version = len(self.rows)
        self.rows.append((hash_id(entity), position, version))
        for index, name in enumerate(self.attributes):
            self.keys.extend((version, index, key) for key in value_keys(values.get(name)))

    def build(self) -> Profiles:
        rows = np.array(self.rows, np.int64).reshape(-1, 3).T.copy()
        keys = np.array(self.keys, np.int64).reshape(-1, 3).T.copy()
        return Profiles(rows[0], rows[1], rows[2], keys[0], keys[1], keys[2])
