"""Slow and plain: the sample of sessions that a log must leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penchant.core.clock import Millis
from penchant.core.events import Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, Record

_MASK = (1 << 64) - 1


@dataclass
class _Session:
    name: int
    begun: Millis
    visits: list[tuple[str, Millis, int]]
    """(item, time, place), in the order of the log."""


def named(user_id: str, begun: Millis) -> int:
    """The name of a session, by whole numbers of Python."""
    mixed = (hash_id(user_id) + begun * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) >> 1


def sample(
    records: Sequence[Record], positive: frozenset[str], gap: Millis, sessions: int
) -> dict[str, list[tuple[int, Millis, int]]]:
    """Per item `(session, time, place)` of its newest sessions, by session: all that ever were, looked at anew."""
    done: list[_Session] = []
    live: dict[str, _Session] = {}
    for record in records:
        event = record.event
        if isinstance(event, UserErased):
            live.pop(event.user_id, None)
        if not isinstance(event, Interaction) or record.verdict != ACCEPTED:
            continue
        if not event.user_id or event.action not in positive:
            continue
        one = live.get(event.user_id)
        if one is None or record.ts > max(time for _, time, _ in one.visits) + gap:
            one = live[event.user_id] = _Session(named(event.user_id, record.ts), record.ts, [])
            done.append(one)
            place = 0
        elif record.ts < one.begun - gap:
            continue
        else:
            last, _, place = one.visits[-1]
            place += last != event.item_id
        one.visits.append((event.item_id, record.ts, place))
    newest: dict[str, dict[int, tuple[Millis, int]]] = {}
    for one in done:
        for item_id, time, place in one.visits:
            of_item = newest.setdefault(item_id, {})
            of_item[one.name] = max(of_item.get(one.name, (time, place)), (time, place))
    return {
        item_id: sorted(
            (session, time, place)
            for time, place, session in sorted((*last, session) for session, last in of_item.items())[-sessions:]
        )
        for item_id, of_item in newest.items()
    }
