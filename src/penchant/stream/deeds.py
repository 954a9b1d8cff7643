"""From what people did to what items are told: the deeds that a batch of a user partition has for item partitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.events import AttributeValue
from penchant.core.hashing import hash_id
from penchant.core.partitions import Deed, Deeds, Layout, Outgoing, Partition

MOST = 4_096
"""Touches and pairs of one message, beyond which it is cut; one position is never cut, however much it did."""

INDEX_BITS = 16
"""Touches of an item are told apart by `position of the message << 16 | index in it`.

So a message must not carry more than 65,536 touches: a position that did so much would have to name as many items of
one item partition in one event of at most a megabyte."""

_CACHE_SIZE = 200_000
_NOBODY = hash_id("")

Pairs = tuple[int, str, list[int]]
"""The item partition of an item, the item, and the hashes of its partners."""


class Visits(NamedTuple):
    """What visits mean beside touches, by the number of the visit."""

    pairs: Mapping[int, Sequence[Pairs]]
    sessions: NDArray[np.int64]
    """The session of each visit, -1 for none; empty where no sample of sessions is kept."""
    values: NDArray[np.int64]


class Act(NamedTuple):
    """A record of a user partition: what it says, the items it names, and which visit it is (-1: none)."""

    position: int
    ts: Millis
    ingested_at: Millis
    verdict: int
    action: str
    q: int
    present: bool
    user_id: str
    attributes: dict[str, AttributeValue]
    items: Sequence[str]
    visit: int


class Telling:
    """Cuts acts by item partition. Remembers where items are kept."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._numbers: dict[str, int] = {}

    def number(self, item_id: str) -> int:
        """The item partition of an item."""
        number = self._numbers.get(item_id)
        if number is None:
            if len(self._numbers) >= _CACHE_SIZE:
                self._numbers.clear()
            number = self._numbers[item_id] = self._layout.item(item_id).number
        return number

    def told(self, acts: Iterable[Act], visits: Visits, partition: Partition, source: str) -> Iterator[Outgoing]:
        """The messages of one user partition, in order within each item partition."""
        pairs, sessions, values = visits.pairs, visits.sessions.tolist(), visits.values.tolist()
        walked = len(sessions)
        by_number: dict[int, list[Deed]] = {}
        for act in acts:
            paired = pairs.get(act.visit)
            visit = None
            if 0 <= act.visit < walked and sessions[act.visit] >= 0:
                visit = sessions[act.visit], values[act.visit]
            if paired is None and len(act.items) == 1:
                item_id = act.items[0]
                by_number.setdefault(self.number(item_id), []).append(_deed(act, [item_id], [], visit))
                continue
            items: dict[int, list[str]] = {}
            for item_id in act.items:
                items.setdefault(self.number(item_id), []).append(item_id)
            counts: dict[int, list[tuple[str, list[int]]]] = {}
            for number, item_id, partners in paired or ():
                counts.setdefault(number, []).append((item_id, partners))
            for number in items.keys() | counts.keys():
                deed = _deed(act, items.get(number, []), counts.get(number, []), visit)
                by_number.setdefault(number, []).append(deed)
        for number in sorted(by_number):
            for deeds in _cut(by_number[number]):
                target = Partition("items", number)
                place = (deeds[-1].position, 0)
                yield Outgoing(target, str(partition), source, place, None, Deeds(deeds))


def _deed(act: Act, items: list[str], pairs: list[tuple[str, list[int]]], visit: tuple[int, int] | None) -> Deed:
    position, ts, ingested_at, verdict, action, q, present, user_id, attributes, _, _ = act
    if not items:  # only pairs: who did what is told where the item is
        return Deed(position, ts, ingested_at, verdict, "", 0, False, _NOBODY, {}, items, pairs)
    user = hash_id(user_id)
    return Deed(position, ts, ingested_at, verdict, action, q, present, user, attributes, items, pairs, visit)


def _cut(deeds: list[Deed]) -> Iterator[list[Deed]]:
    start = size = 0
    for index, deed in enumerate(deeds):
        more = len(deed.items) + len(deed.pairs)
        if index > start and size + more > MOST:
            yield deeds[start:index]
            start, size = index, 0
        size += more
    yield deeds[start:]
