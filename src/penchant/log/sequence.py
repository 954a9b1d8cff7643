"""What a log decides once for every event when it takes it, the same in every log."""

from __future__ import annotations

from penchant.core import stamping
from penchant.core.clock import Clock, Millis
from penchant.core.errors import InvalidEvent
from penchant.core.events import Event, Impression, Interaction, ShownItem, UserErased, UserUpdate
from penchant.core.schema import Schema

is_timed = stamping.is_timed


class Sequencer:
    """Stamps events in log order: the arrival never goes back, nothing happens after it arrived.

    `ingested_at = max(that of the record before, the clock)`, `ts = min(client's ts, ingested_at)`; interactions and
    impressions more than `lateness` ms old when they arrive are `LATE`. The clock hears of each event just before
    that event is stamped, so that a clock that follows the events gives the same stamps however they are batched.
    """

    def __init__(self, clock: Clock, lateness: Millis) -> None:
        self._clock = clock
        self._lateness = lateness

    def observe(self, ts: Millis) -> None:
        """Tell the clock of a time that the log has already accepted."""
        self._clock.observe(ts)

    def stamp(self, ts: Millis | None, timed: bool, last: Millis) -> tuple[Millis, Millis, int]:
        """`(ingested_at, ts, verdict)` of an event that says it happened at `ts`, after a record ingested at `last`.

        `timed`: whether it can be late, which only interactions and impressions can.
        """
        if ts is not None:
            self._clock.observe(ts)
        ingested_at = max(last, self._clock.now())
        return ingested_at, *stamping.stamped(ts, ingested_at, timed, self._lateness)


def quantised(event: Event, schema: Schema) -> int:
    """The value of an interaction as fixed point, 0 for all else."""
    if not isinstance(event, Interaction):
        return 0
    action = schema.actions.get(event.action)
    if action is None:
        raise InvalidEvent("action", "unknown_action", f"{event.action!r} is not declared in [actions]")
    return action.quantise(event.value)


def person(event: Event) -> str:
    """Whom an event is about, "" when nobody (any more)."""
    return getattr(event, "user_id", "")


def served_request(event: Event) -> str | None:
    """The request that an impression of the engine's own answered."""
    return event.request_id if isinstance(event, Impression) and event.served is not None else None


def without_person(event: Event) -> Event:
    """The event as it stays when its person is erased: what counts for items, and nothing that leads back.

    The client's event id goes as well, as it may be made of the person's; its hash stays, so that a redelivery is
    still known.
    """
    match event:
        case Interaction():
            return Interaction(user_id="", item_id=event.item_id, action=event.action, value=event.value, ts=event.ts)
        case Impression():
            shown = [ShownItem(item.item_id, item.rank, item.propensity) for item in event.items]
            return Impression(user_id="", items=shown, surface=event.surface, ts=event.ts)
        case UserUpdate():
            return UserUpdate(user_id="", attributes={}, merge=event.merge, ts=event.ts)
        case UserErased():
            return UserErased(user_id="", ts=event.ts)
    return event
