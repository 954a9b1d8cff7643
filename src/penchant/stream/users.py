"""The fold of user partitions: what is kept of people, and what their deeds mean for items."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from penchant.catalog.profiles import UserProfiles
from penchant.core.clock import Millis
from penchant.core.events import AttributeValue, Impression, Interaction, UserErased, UserUpdate
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED
from penchant.core.partitions import Message, Outgoing, Sent
from penchant.core.schema import Schema
from penchant.core.stamping import stamped
from penchant.core.state import Key, profile_key, user_key
from penchant.features.plan import Plan
from penchant.features.sides import FeatureSide, Gathering
from penchant.retrieval.covisit_fold import Turns, positive_actions, recent_key
from penchant.retrieval.session_fold import Walks, session_key
from penchant.stream.batches import Batch
from penchant.stream.deeds import Act, Pairs, Telling, Visits
from penchant.stream.sequencing import GONE_KEY, Arrivals, Seen, seen_key

_NO_ATTRIBUTES: dict[str, AttributeValue] = {}


class UsersFold:
    """Keeps `u`, `p`, `r`, `d` and with `session` `s` of people; many partitions in one call, as nobody is in two.

    `erased` drops all of them; what a person does later starts afresh. Attributes of items are those that came with the
    event, so no item is ever read.
    """

    def __init__(
        self,
        schema: Schema,
        plan: Plan,
        *,
        partners: int,
        session: Millis | None = None,
        arrivals: Arrivals,
        telling: Telling,
    ) -> None:
        self.actions = schema.actions
        self.positive = positive_actions(schema)
        self.partners = partners
        self.session = session
        self.arrivals = arrivals
        self.telling = telling
        self.features = FeatureSide(plan, plan.user, schema)
        self.told = tuple(name for name, kind in sorted(schema.user.items()) if kind.kind in ("category", "tags"))
        """The attributes of people that deeds carry."""

    def wanted(self, messages: Iterable[Message]) -> Collection[Key]:
        """The keys that folding these messages reads."""
        keys: dict[Key, None] = {}
        for message in messages:
            event = message.body.event  # type: ignore[union-attr]
            user_id = getattr(event, "user_id", "")
            if not user_id:
                continue
            kind = type(event)
            if kind is not UserUpdate:
                keys[user_key(user_id)] = None
            if kind is UserErased:
                if message.event_id is not None:
                    keys[GONE_KEY] = None
                continue
            if self.told or (kind is UserUpdate and event.merge):  # type: ignore[union-attr]
                keys[profile_key(user_id)] = None
            if kind is Interaction and event.action in self.positive:  # type: ignore[union-attr]
                keys[recent_key(user_id)] = None
                if self.session is not None:
                    keys[session_key(user_id)] = None
            if message.event_id is not None:
                keys[seen_key(user_id)] = None
        return keys

    def fold(self, batches: Sequence[Batch], sources: Sequence[str] | None) -> list[Outgoing]:
        """Fold the batches; returns their deeds under these sources, one a batch (None: no deeds are made)."""
        gathering, turns = self.features.gathering(), Turns(self.partners)
        sessions = None if self.session is None else Walks(self.session)
        walked: list[_Slot] = []
        walks = [_Walk(self, batch, gathering, turns, sessions, walked) for batch in batches]
        touched: list[_Slot] = []
        turned: list[_Slot] = []
        for walk in walks:
            walk.go(touched, turned)
        for slot, blob in zip(touched, gathering.merged([slot.blob for slot in touched]), strict=True):
            if slot.alive:
                slot.batch.put(slot.key, blob)
        for slot, blob in zip(turned, turns.turned([slot.blob for slot in turned]), strict=True):
            if slot.alive:
                slot.batch.put(slot.key, blob)
        if sessions is not None:
            for slot, blob in zip(walked, sessions.walked([slot.blob for slot in walked]), strict=True):
                if slot.alive:
                    slot.batch.put(slot.key, blob)
        for walk in walks:
            walk.finish()
        if sources is None:
            return []
        none = np.empty(0, np.int64)
        visits = Visits(
            self._paired(turns),
            none if sessions is None else sessions.sessions,
            none if sessions is None else sessions.values,
        )
        told: list[Outgoing] = []
        for walk, source in zip(walks, sources, strict=True):
            acts = [act for act in walk.acts if act.position > walk.batch.meta.told]
            told += self.telling.told(acts, visits, walk.batch.partition, source)
        return told

    def _paired(self, turns: Turns) -> dict[int, list[Pairs]]:
        """What each visit adds to which items: partners to the item visited, and that one to each of them."""
        names, hashes = turns.items, turns.hashes.tolist()
        paired = turns.pairs[::2]  # each is followed by its reverse
        numbers = [self.telling.number(name) for name in names] if len(paired) else []
        pairs: dict[int, list[Pairs]] = {}
        last, mine, back = -1, [0], [0]
        for visit, item, partner in paired.tolist():
            if visit != last:
                last, mine, back = visit, [], [hashes[item]]
                of_visit = pairs[visit] = [(numbers[item], names[item], mine)]
            mine.append(hashes[partner])
            of_visit.append((numbers[partner], names[partner], back))
        return pairs


class _Slot:
    """An entity of one batch, between two erasures: what it begins with, and where it goes unless it is erased."""

    __slots__ = ("alive", "batch", "blob", "key", "number")

    def __init__(self, batch: Batch, key: Key, blob: bytes | None, number: int) -> None:
        self.batch, self.key, self.blob, self.number = batch, key, blob, number
        self.alive = True


class _Walk:
    """One batch, message by message."""

    def __init__(
        self,
        fold: UsersFold,
        batch: Batch,
        gathering: Gathering,
        turns: Turns,
        sessions: Walks | None,
        walked: list[_Slot],
    ) -> None:
        self.fold = fold
        self.batch = batch
        self.acts: list[Act] = []
        self._gathering = gathering
        self._turns = turns
        self._sessions, self._walked = sessions, walked
        self._live: dict[str, _Slot] = {}
        self._users: dict[str, _Slot] = {}
        self._recent: dict[str, _Slot] = {}
        self._erased: set[str] = set()
        self._profiles = UserProfiles(batch)
        self._told: dict[str, dict[str, AttributeValue]] = {}
        self._seen: dict[Key, Seen] = {}

    def go(self, touched: list[_Slot], turned: list[_Slot]) -> None:
        """Take the messages in order; entities get the next places in `touched` and `turned`."""
        fold, batch, meta = self.fold, self.batch, self.batch.meta
        lateness, at = fold.arrivals.lateness, fold.arrivals.at
        for message in batch.messages:
            sent = message.body
            if type(sent) is not Sent:
                continue
            event = sent.event
            ingested_at = meta.clock = at(meta.clock, message, event.ts)
            if message.event_id is not None and not self._is_first(event, message.event_id, ingested_at):
                continue
            if type(event) is Interaction:
                ts, verdict = stamped(event.ts, ingested_at, True, lateness)
                self._interaction(event, sent, message.position, ingested_at, ts, verdict, touched, turned)
            elif type(event) is Impression:
                ts, verdict = stamped(event.ts, ingested_at, True, lateness)
                self._impression(event, sent, message.position, ingested_at, ts, verdict, touched)
            elif type(event) is UserUpdate:
                self._profiles.update(event)
                self._told.pop(event.user_id, None)
            elif type(event) is UserErased and event.user_id:
                self._erase(event.user_id)

    def finish(self) -> None:
        """Write what is kept beside features and co-visitation."""
        self._profiles.write()
        for key, seen in self._seen.items():
            self.batch.put(key, seen.pack())

    def _interaction(
        self,
        event: Interaction,
        sent: Sent,
        position: int,
        ingested_at: int,
        ts: int,
        verdict: int,
        touched: list[_Slot],
        turned: list[_Slot],
    ) -> None:
        fold, user_id, item_id = self.fold, event.user_id, event.item_id
        action = fold.actions.get(event.action)
        q = 0 if action is None else action.quantise(event.value)
        present = event.value is not None
        visit = -1
        if verdict == ACCEPTED and action is not None and user_id:
            features = fold.features
            given = sent.attributes[0] if sent.attributes else _NO_ATTRIBUTES
            slot = self._user(user_id, touched)
            keys = features.given.of(item_id, given)
            self._gathering.add(slot.number, ts, position, ingested_at, action.code, q, present, hash_id(item_id), keys)
            if event.action in fold.positive:
                visit = len(self._turns)
                self._turns.add(self._newest(user_id, turned).number, item_id, ts, position)
                if self._sessions is not None:
                    self._sessions.add(self._session(user_id).number, user_id, item_id, ts)
        attributes = self._attributes(user_id)
        self.acts.append(
            Act(position, ts, ingested_at, verdict, event.action, q, present, user_id, attributes, (item_id,), visit)
        )

    def _impression(
        self,
        event: Impression,
        sent: Sent,
        position: int,
        ingested_at: int,
        ts: int,
        verdict: int,
        touched: list[_Slot],
    ) -> None:
        user_id = event.user_id
        items = [shown.item_id for shown in event.items]
        if not items:
            return
        if verdict == ACCEPTED and user_id:
            features, add = self.fold.features, self._gathering.add
            slot = self._user(user_id, touched).number
            given = sent.attributes
            for index, item_id in enumerate(items):
                keys = features.given.of(item_id, given[index] if index < len(given) else _NO_ATTRIBUTES)
                add(slot, ts, position, ingested_at, features.impression, 0, False, hash_id(item_id), keys)
        attributes = self._attributes(user_id)
        self.acts.append(Act(position, ts, ingested_at, verdict, "", 0, False, user_id, attributes, items, -1))

    def _erase(self, user_id: str) -> None:
        batch = self.batch
        if self._has_state(user_id):
            batch.meta.entities -= 1
        for slots in (self._users, self._recent, self._live):
            slot = slots.pop(user_id, None)
            if slot is not None:
                slot.alive = False
        self._erased.add(user_id)
        self._profiles.erase(user_id)
        self._told.pop(user_id, None)
        self._seen.pop(seen_key(user_id), None)
        for key in (user_key(user_id), recent_key(user_id), seen_key(user_id)):
            batch.put(key, None)
        if self._sessions is not None:
            batch.put(session_key(user_id), None)

    def _user(self, user_id: str, touched: list[_Slot]) -> _Slot:
        slot = self._users.get(user_id)
        if slot is None:
            if not self._has_state(user_id):
                self.batch.meta.entities += 1
            slot = self._users[user_id] = self._slot(user_id, user_key(user_id), touched)
        return slot

    def _newest(self, user_id: str, turned: list[_Slot]) -> _Slot:
        slot = self._recent.get(user_id)
        if slot is None:
            slot = self._recent[user_id] = self._slot(user_id, recent_key(user_id), turned)
        return slot

    def _session(self, user_id: str) -> _Slot:
        slot = self._live.get(user_id)
        if slot is None:
            slot = self._live[user_id] = self._slot(user_id, session_key(user_id), self._walked)
        return slot

    def _slot(self, user_id: str, key: Key, slots: list[_Slot]) -> _Slot:
        blob = None if user_id in self._erased else self.batch.values[key]
        slot = _Slot(self.batch, key, blob, len(slots))
        slots.append(slot)
        return slot

    def _has_state(self, user_id: str) -> bool:
        if user_id in self._users:
            return True
        return user_id not in self._erased and self.batch.values[user_key(user_id)] is not None

    def _attributes(self, user_id: str) -> dict[str, AttributeValue]:
        """The attributes that deeds carry, as they are at this point."""
        if not user_id or not self.fold.told:
            return _NO_ATTRIBUTES
        told = self._told.get(user_id)
        if told is None:
            known = self._profiles.attributes(user_id)
            told = self._told[user_id] = {name: known[name] for name in self.fold.told if name in known}
        return told

    def _is_first(self, event: object, event_id: str, ingested_at: int) -> bool:
        user_id = getattr(event, "user_id", "")
        if not user_id:
            return True
        erasure = type(event) is UserErased
        key = GONE_KEY if erasure else seen_key(user_id)
        seen = self._seen.get(key)
        if seen is None:
            forgotten = not erasure and user_id in self._erased
            seen = self._seen[key] = Seen(None if forgotten else self.batch.values[key])
        return seen.first(event_id, ingested_at)
