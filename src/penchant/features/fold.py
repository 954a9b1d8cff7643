"""The fold of interactions and impressions into the feature state of users and items."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.events import Impression, Interaction, UserErased
from penchant.core.fold import Working
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, Record
from penchant.core.schema import Schema
from penchant.core.state import Key, catalog_key, item_key, profile_key, user_key
from penchant.features.attributes import ProfileKeys, item_attributes, user_attributes
from penchant.features.blob import Q_LIMIT, WORD, concatenate
from penchant.features.merging import BY_HASH, COUNT, PRESENT, UNKEYED, VALUE, merge
from penchant.features.plan import DISTINCT, Plan, SidePlan

_MEASURES = {"count": COUNT, "value": VALUE, "present": PRESENT}
_WIDTH = 8


def clamped(q: int) -> int:
    """A fixed-point value as features count it: cut to `Q_LIMIT`."""
    return q if -Q_LIMIT <= q <= Q_LIMIT else (Q_LIMIT if q > 0 else -Q_LIMIT)


class FeatureFold:
    """Keeps the blobs `u<user>` and `i<item>` (core `Fold`).

    Equal logs give equal blobs, byte for byte, however they are cut into batches. Records that are not `ACCEPTED` are
    passed over; `UserErased` drops the user's blob, and what the user did to items stays counted there
    (an empty user id stands for someone erased, of whom no state is kept).
    """

    def __init__(self, plan: Plan, schema: Schema) -> None:
        self.fingerprint = plan.state_fingerprint
        self._codes = {name: action.code for name, action in schema.actions.items()}
        self._impression = len(schema.actions)
        self._user = SideFold(plan.user, len(plan.actions))
        self._item = SideFold(plan.item, len(plan.actions))
        self._item_keys = ProfileKeys(plan.user.attributes, item_attributes)
        self._user_keys = ProfileKeys(plan.item.attributes, user_attributes)

    def apply(self, records: Sequence[Record], state: Working) -> None:
        users: dict[str, int] = {}
        items: dict[str, int] = {}
        erased: set[str] = set()
        flat = self._extract(records, users, items, erased)
        for user_id in erased.difference(users):
            state.put(user_key(user_id), None)
        if not flat:
            return
        # Columns: user, item, ts, position, ingested_at, action, q, has value.
        columns = np.array(flat, np.int64).reshape(-1, _WIDTH)
        user_hashes = np.fromiter(map(hash_id, users), np.int64, len(users))
        item_hashes = np.fromiter(map(hash_id, items), np.int64, len(items))
        keys = _keys(self._item_keys, state, map(catalog_key, items))
        touches = _group(columns, 0, 1, item_hashes)
        blobs = state.get_many([user_key(user_id) for user_id in users])
        if erased:
            blobs = [None if user_id in erased else blob for user_id, blob in zip(users, blobs, strict=True)]
        for user_id, blob in zip(users, self._user.merge(blobs, *touches, *keys), strict=True):
            if user_id:
                state.put(user_key(user_id), blob)

        keys = _keys(self._user_keys, state, map(profile_key, users))
        touches = _group(columns, 1, 0, user_hashes)
        blobs = state.get_many([item_key(item_id) for item_id in items])
        for item_id, blob in zip(items, self._item.merge(blobs, *touches, *keys), strict=True):
            state.put(item_key(item_id), blob)

    def _extract(
        self, records: Sequence[Record], users: dict[str, int], items: dict[str, int], erased: set[str]
    ) -> list[int]:
        """The batch as rows of eight integers, flat; fills the indexes of users and items."""
        flat: list[int] = []
        codes = self._codes
        for record in records:
            event = record.event
            kind = type(event)
            if kind is Interaction:
                # An action that is no longer declared counts for nothing.
                code = codes.get(event.action, -1)  # type: ignore[union-attr]
                if record.verdict != ACCEPTED or code < 0:
                    continue
                flat += (
                    users.setdefault(event.user_id, len(users)),  # type: ignore[union-attr]
                    items.setdefault(event.item_id, len(items)),  # type: ignore[union-attr]
                    record.ts,
                    record.position,
                    record.ingested_at,
                    code,
                    clamped(record.q),
                    event.value is not None,  # type: ignore[union-attr]
                )
            elif isinstance(event, Impression):
                if record.verdict != ACCEPTED or not event.items:
                    continue
                user = users.setdefault(event.user_id, len(users))
                for shown in event.items:
                    item = items.setdefault(shown.item_id, len(items))
                    flat += (user, item, record.ts, record.position, record.ingested_at, self._impression, 0, 0)
            elif isinstance(event, UserErased):
                erased.add(event.user_id)
        return flat


def _keys(profiles: ProfileKeys, state: Working, keys: Iterable[Key]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The keys in the profiles at these state keys; nothing is read where no feature is keyed."""
    return profiles.table(state.get_many(list(keys)) if profiles.attributes else ())


def _group(
    columns: NDArray[np.int64], own: int, other: int, hashes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Touches grouped by entity, in log order within each, as `merging.merge` wants them; and where groups begin."""
    order = np.argsort(columns[:, own], kind="stable")
    sorted_columns = columns[order]
    touches = np.empty((len(columns), _WIDTH), np.int64)
    touches[:, :6] = sorted_columns[:, 2:]
    touches[:, 7] = sorted_columns[:, other]
    touches[:, 6] = hashes[touches[:, 7]]
    at = np.zeros(int(sorted_columns[-1, own]) + 2, np.int64)
    np.cumsum(np.bincount(sorted_columns[:, own]), out=at[1:])
    return at, touches


class SideFold:
    """The tables of one side in the shape that the kernel takes."""

    def __init__(self, side: SidePlan, actions: int) -> None:
        sources = {name: index for index, name in enumerate(side.attributes)}
        self._cells = np.array(
            [
                (
                    cell.hop,
                    retained,
                    _MEASURES[cell.measure],
                    UNKEYED if cell.key is None else BY_HASH if cell.key == DISTINCT else sources[cell.key],
                    cell.k,
                )
                for cell, retained in zip(side.cells, side.retained, strict=True)
            ],
            np.int64,
        )
        by_action = [[i for i, cell in enumerate(side.cells) if code in cell.actions] for code in range(actions)]
        self._by_action = np.array([index for cells in by_action for index in cells], np.int64)
        self._by_action_at = np.cumsum([0, *map(len, by_action)], dtype=np.int64)
        self._lists = np.array([(kept.n, kept.distinct) for kept in side.lists], np.int64).reshape(-1, 2)
        self._masks = np.array(
            [[code in kept.actions for code in range(actions)] for kept in side.lists], np.bool_
        ).reshape(len(side.lists), actions)
        self._attributes = len(side.attributes)

    def merge(
        self,
        blobs: Sequence[bytes | None],
        at: NDArray[np.int64],
        touches: NDArray[np.int64],
        keys_at: NDArray[np.int64],
        keys: NDArray[np.int64],
    ) -> list[bytes]:
        """The entities' new blobs; touches and keys as `merging.merge` wants them."""
        old, old_at = concatenate(blobs)
        words, words_at = merge(
            old,
            old_at,
            at,
            touches,
            keys_at,
            keys,
            self._attributes,
            self._cells,
            self._by_action_at,
            self._by_action,
            self._lists,
            self._masks,
        )
        data = words.tobytes()
        ends = (words_at * WORD).tolist()
        return [data[start:end] for start, end in itertools.pairwise(ends)]
