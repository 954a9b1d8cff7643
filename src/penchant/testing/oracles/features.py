"""Features straight from the definition, record by record, in plain Python: slow and obviously right.

It shares nothing with the plan: no cells, no tiles of state, no kernels, no finaliser.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

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
from penchant.core.log import Record
from penchant.core.schema import Schema
from penchant.settings import Feature, Settings, duration

Attributes = Mapping[str, AttributeValue]

_HOPS = (60_000, 300_000, 3_600_000, 21_600_000, 86_400_000)


@dataclass(frozen=True, slots=True)
class Touch:
    """One accepted interaction, or one item of an accepted impression, with both sides' attributes at that point."""

    position: int
    ts: int
    action: str
    q: int
    has_value: bool
    user_id: str
    item_id: str
    user: Attributes
    item: Attributes


@dataclass(slots=True)
class Answer:
    """What the definitions say of one entity at one position and time."""

    scalars: dict[str, np.float32] = field(default_factory=dict)
    crosses: dict[str, dict[int, np.float32]] = field(default_factory=dict)
    """Finished per key, for keys with a numerator or denominator that is not 0."""
    tops: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    lasts: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """(ts, position, hash of the other id), newest first."""
    history: list[tuple[int, int, int]] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)


class FeatureOracle:
    """All features of a log, one question at a time."""

    def __init__(self, settings: Settings, schema: Schema, records: Sequence[Record]) -> None:
        self.settings = settings
        self.schema = schema
        self.touches = list(_touches(records))
        self.erased = [
            (record.position, record.event.user_id) for record in records if isinstance(record.event, UserErased)
        ]

    def user(self, user_id: str, position: int, now: int) -> Answer:
        """The user's features at `position`, at the time `now`; what came before an erasure is gone."""
        born = max((at for at, who in self.erased if who == user_id and at <= position), default=0)
        mine = [t for t in self.touches if t.user_id == user_id and born < t.position <= position]
        answer = self._answer("user", mine, now)
        done = sorted((t for t in mine if t.action != "impression"), key=lambda t: (t.ts, t.position), reverse=True)
        answer.history = [(t.ts, t.position, hash_id(t.item_id)) for t in done[:100]]
        answer.seen = list(dict.fromkeys(hash_id(t.item_id) for t in done))[:2_000]
        unwanted = [t for t in done if self.schema.actions[t.action].weight < 0]
        answer.hidden = list(dict.fromkeys(hash_id(t.item_id) for t in unwanted))[:500]
        return answer

    def item(self, item_id: str, position: int, now: int) -> Answer:
        """The item's features at `position`, at the time `now`."""
        mine = [t for t in self.touches if t.item_id == item_id and t.position <= position]
        answer = self._answer("item", mine, now)
        wanted = [name for name, action in self.schema.actions.items() if action.weight > 0]
        half_life = self.settings.sources.half_life
        popularity = Feature(entity="item", of=wanted, agg="decayed", half_life=half_life)
        counted = [t for t in mine if t.action in wanted]
        answer.scalars["popularity"] = np.float32(_decayed(popularity, counted, now, lambda _: 1) / 2**20)
        segment = self.settings.sources.segment
        if segment is not None:
            answer.crosses["popularity_segment"] = {
                key: np.float32(_decayed(popularity, some, now, lambda _: 1) / 2**20)
                for key, some in _split(counted, "item", segment).items()
                if _decayed(popularity, some, now, lambda _: 1)
            }
        return answer

    def _answer(self, side: str, mine: Sequence[Touch], now: int) -> Answer:
        answer = Answer()
        for name in (*self.schema.actions, "impression"):
            answer.scalars[f"total_{name}"] = np.float32(sum(t.action == name for t in mine))
        for name, feature in self.settings.features.items():
            entity = [feature.entity] if isinstance(feature.entity, str) else feature.entity
            if entity[0] != side:
                continue
            of = [t for t in _in_window(feature, mine, now) if t.action in _names(feature.of)]
            per = [t for t in _in_window(feature, mine, now) if t.action in _names(feature.per or [])]
            if feature.agg == "last":
                newest = sorted(of, key=lambda t: (t.ts, t.position), reverse=True)[: feature.n]
                answer.lasts[name] = [
                    (t.ts, t.position, hash_id(t.item_id if side == "user" else t.user_id)) for t in newest
                ]
            elif feature.agg == "top":
                counts = Counter({key: len(some) for key, some in _split(of, side, feature.by or "").items()})
                answer.tops[name] = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: feature.n]
            elif len(entity) == 2:
                above, below = _split(of, side, entity[1]), _split(per, side, entity[1])
                finished = {
                    key: self._finish(feature, side, above.get(key, []), below.get(key, []), now)
                    for key in {*above, *below}
                }
                answer.crosses[name] = {key: value for key, (value, real) in finished.items() if real}
            else:
                answer.scalars[name] = self._finish(feature, side, of, per, now)[0]
        return answer

    def _finish(
        self, feature: Feature, side: str, of: Sequence[Touch], per: Sequence[Touch], now: int
    ) -> tuple[np.float32, bool]:
        """The value, and whether any of its integers is not 0."""
        action = self.schema.actions.get(_names(feature.of)[0])
        valued = action is not None and action.value is not None
        scale = 10 ** (action.scale if action is not None else 0)
        above, below = feature.prior
        match feature.agg:
            case "count":
                return np.float32(len(of)), bool(of)
            case "sum":
                total = sum(t.q for t in of)
                return np.float32(total / scale), total != 0
            case "mean":
                total, n = sum(t.q for t in of), sum(t.has_value for t in of)
                return _ratio(total / scale + above, n + below), total != 0 or n != 0
            case "rate":
                return _ratio(len(of) + above, len(per) + below), bool(of) or bool(per)
            case "decayed":
                total = _decayed(feature, of, now, lambda t: t.q if valued else 1)
                return np.float32(total / (2**20 * (scale if valued else 1))), total != 0
            case "distinct":
                hashes = sorted({hash_id(t.item_id if side == "user" else t.user_id) for t in of})
                if len(hashes) < feature.k:
                    return np.float32(len(hashes)), bool(of)
                return np.float32((feature.k - 1) / (hashes[feature.k - 1] / 2**63)), True
        raise AssertionError(feature.agg)


def _touches(records: Sequence[Record]) -> Iterator[Touch]:
    users: dict[str, Attributes] = {}
    items: dict[str, Attributes] = {}
    removed: set[str] = set()
    for record in records:
        event = record.event
        match event:
            case ItemUpdate() if event.item_id not in removed:
                items[event.item_id] = {**(items.get(event.item_id, {}) if event.merge else {}), **event.attributes}
            case ItemRemoved():
                removed.add(event.item_id)
                items[event.item_id] = {}
            case UserUpdate():
                users[event.user_id] = {**(users.get(event.user_id, {}) if event.merge else {}), **event.attributes}
            case UserErased():
                users[event.user_id] = {}
        if record.verdict != 0:
            continue
        if isinstance(event, Interaction):
            shown = [event.item_id]
            action, q, has_value = event.action, record.q, event.value is not None
        elif isinstance(event, Impression):
            shown = [item.item_id for item in event.items]
            action, q, has_value = "impression", 0, False
        else:
            continue
        user = users.get(event.user_id, {})
        for item_id in shown:
            yield Touch(
                record.position, record.ts, action, q, has_value, event.user_id, item_id, user, items.get(item_id, {})
            )


def _names(of: str | Sequence[str]) -> list[str]:
    return [of] if isinstance(of, str) else list(of)


def _in_window(feature: Feature, touches: Sequence[Touch], now: int) -> list[Touch]:
    if feature.window is None:
        return list(touches)
    window = duration(feature.window)
    hop = max(hop for hop in _HOPS if hop * 12 <= window)
    return [t for t in touches if t.ts // hop >= (now - window) // hop]


def _decayed(feature: Feature, touches: Sequence[Touch], now: int, amount: Callable[[Touch], int]) -> int:
    half_life = duration(feature.half_life or "")
    hop = max(hop for hop in _HOPS if hop * 24 <= half_life)
    total = 0
    for t in touches:
        k = max(0, now // hop - t.ts // hop)
        if k <= math.ceil(20 * half_life / hop):
            total += round(2**20 * 2.0 ** (-k * hop / half_life)) * amount(t)
    return total


def _split(touches: Sequence[Touch], side: str, attribute: str) -> dict[int, list[Touch]]:
    """Touches by each value of the other side's attribute."""
    split: dict[int, list[Touch]] = defaultdict(list)
    for t in touches:
        value = (t.item if side == "user" else t.user).get(attribute)
        for word in {value} if isinstance(value, str) else set(value) if isinstance(value, list) else set():
            split[hash_id(word)].append(t)
    return split


def _ratio(above: float, below: float) -> np.float32:
    return np.float32(above / below) if below else np.float32(math.nan)
